"""The restored frames of a file, one after the other: for programs that look at them instead of keeping a file."""

import functools
import threading
from collections.abc import Callable, Generator, Iterable, Sequence
from pathlib import Path

from av.video.frame import VideoFrame

from carfix.interruption import undisturbed
from carfix.net.checkpoint import Model
from carfix.restore.channel import Channel, Closed
from carfix.restore.engine import Engine
from carfix.restore.findings import tally_findings, timeline_findings
from carfix.restore.frames import FramePipeline, Item
from carfix.restore.models import EngineChoice
from carfix.restore.pipeline import Tally, segment_frames
from carfix.restore.trim import Trim
from carfix.video.choice import check_stream
from carfix.video.encoder_settings import RAW, EncoderSettings, check_settings
from carfix.video.hwaccel import NONE, check_hwaccel
from carfix.video.luma import luma_format, write_luma
from carfix.video.opening import reachable
from carfix.video.segments import Segment, plan_segments
from carfix.video.source import SourceInfo, decoded_by, probe
from carfix.video.timeline import Timeline

#: Finished frames that wait for the caller: enough that a slow look at one does not halt the network at once.
_WAITING = 4


def restored_frames(
    source: Path | str,
    *,
    model: str | Path | Model | Engine = "auto",
    device: str = "auto",
    precision: str = "auto",
    tile: int | None = None,
    batch: int | None = None,
    ensemble: int = 1,
    strength: float | None = None,
    stream: str | int | None = None,
    hwaccel: str = NONE,
    pix_fmt: str | None = None,
    start: float | None = None,
    duration: float | None = None,
    end: float | None = None,
    say: Callable[[str], None] | None = None,
) -> Generator[VideoFrame]:
    """The frames of the video `source`, restored, in the order of presentation, as PyAV's frames.

    They are those that `restore_video` encodes, code for code: luma restored, chroma as decoded, `pts` and `time_base`
    as in the file, in the file's pixel format (or in `pix_fmt`, which RGB needs). Decoding and the network go on in
    threads of their own while the caller works; they end with the generator, which is closed where a loop is left
    early. The other arguments are those of `restore_video`. Raises `UsageError` and `CarfixError` as it does: for
    settings at once, for the file with the first frame.

    >>> for frame in restored_frames("in.mp4"):
    ...     look_at(frame.to_ndarray(format="bgr24"), frame.time)
    """
    choice = EngineChoice(
        model=model,
        device=device,
        precision=precision,
        tile=tile,
        batch=batch,
        ensemble=ensemble,
        strength=strength,
    )
    choice.check()
    check_hwaccel(hwaccel)
    stream = check_stream(stream)
    check_settings(EncoderSettings(codec=RAW, pix_fmt=pix_fmt))
    trim = Trim.of(start, duration, end)
    choice.check_parts()
    return _handed_over(
        functools.partial(
            _prepared, Path(source), choice, stream, hwaccel, pix_fmt, trim, say or (lambda _: None)
        )
    )


def _handed_over(prepare: Callable[[], Callable[[Channel[VideoFrame]], None]]) -> Generator[VideoFrame]:
    """What `prepare` returns puts frames, in a thread, into the channel that it is given. Raises what either raises."""
    restore = prepare()
    consumer = threading.current_thread()  # the one that asked last
    # When a program ends, Python waits for its threads before it closes a generator that was left half way.
    ready: Channel[VideoFrame] = Channel(
        _WAITING, wanted=lambda: consumer.is_alive() or threading.main_thread().is_alive()
    )
    failures: list[BaseException] = []

    def work() -> None:
        try:
            restore(ready)
        except BaseException as error:  # noqa: BLE001 - raised again in the caller's thread
            failures.append(error)
        ready.finish()

    worker = threading.Thread(target=work, name="carfix-restore")
    try:
        with undisturbed():
            worker.start()
        for frame in ready:
            yield frame
            consumer = threading.current_thread()
    finally:
        ready.abandon()
        if worker.ident is not None:
            worker.join()
    if failures:
        raise failures[0]


def _prepared(
    source: Path,
    choice: EngineChoice,
    stream: str | None,
    hwaccel: str,
    pix_fmt: str | None,
    trim: Trim,
    say: Callable[[str], None],
) -> Callable[[Channel[VideoFrame]], None]:
    """What restores the file. Ctrl-C ends this at once, in the caller's thread, and another thread only between frames:
    so the file is looked through here, and engines are timed where that is still to do.
    """
    info = decoded_by(probe(source, stream), hwaccel, say)
    pix_fmt = pix_fmt or info.pix_fmt
    luma_format(pix_fmt, source)
    timeline = reachable(info)
    for line in timeline_findings(timeline):
        say(line)
    # What is held, and what a frame's share follows, begins anew with a segment, here as in a file that is written.
    segments = plan_segments(timeline, info.time_base, window=trim.window(info))
    choice.fingerprint()
    return functools.partial(_restore, info, timeline, segments, choice, pix_fmt, say)


def _restore(
    info: SourceInfo,
    timeline: Timeline,
    segments: Sequence[Segment],
    choice: EngineChoice,
    pix_fmt: str,
    say: Callable[[str], None],
    ready: Channel[VideoFrame],
) -> None:
    tally = Tally()

    def hand_over(items: Iterable[Item]) -> None:
        for item in items:
            write_luma(item.frame, item.luma, threads.luma)
            try:
                ready.put(item.frame)
            except Closed:
                raise _NotWanted from None
            tally.frames += 1

    with choice.open() as engine:
        say(choice.describe(engine))
        threads = FramePipeline(engine, pix_fmt, info.colour.range, choice.strength_of(engine))
        try:
            threads.run(segment_frames(info, timeline, tally.damage, segments), hand_over)
        except _NotWanted:
            return
    expected = sum(segment.frames for segment in segments)
    for line in tally_findings(tally, expected=expected, frames=tally.frames):
        say(line)


class _NotWanted(Exception):
    """The caller has gone. Not `Closed`, which the threads take for another thread's failure, told elsewhere."""
