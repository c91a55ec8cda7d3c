"""Threads that end: order, batches, repeats, fields, and errors from every corner."""

import itertools
import threading
from collections.abc import Sequence
from pathlib import Path

import media
import numpy as np
import pytest
from av.codec.codec import codecs_available
from engines import Adding, Failing, Late, Overlapped

from carfix.errors import CarfixError
from carfix.quality.reader import decode
from carfix.restore.channel import Channel, Closed
from carfix.restore.engine import Engine, Planes, Strengths, WantedParts
from carfix.restore.engine.overlap import Pending
from carfix.restore.pipeline import Pipeline
from carfix.restore.strength import Curve, Strength
from carfix.video.encoder import resolve_encoding
from carfix.video.encoder_settings import EncoderSettings
from carfix.video.quantizer import h264_quantizer
from carfix.video.scheduling import kept_scheduling
from carfix.video.segments import Segment, plan_segments
from carfix.video.sink import SegmentFile
from carfix.video.source import probe
from carfix.video.timeline import scan


class Run:
    """A pipeline over a clip, with what it reported."""

    def __init__(
        self,
        source: Path,
        engine: Engine,
        folder: Path,
        seconds: float = 0.2,
        strength: Strength = Strength(),  # noqa: B008 - frozen
    ) -> None:
        self.info = probe(source)
        self.timeline = scan(self.info)
        self.segments = plan_segments(self.timeline, self.info.time_base, seconds=seconds)
        self.files: list[tuple[int, SegmentFile | None]] = []
        self.frames = 0
        folder.mkdir(exist_ok=True)
        self.pipeline = Pipeline(
            info=self.info,
            timeline=self.timeline,
            encoding=resolve_encoding(self.info, EncoderSettings(preset="ultrafast")),
            engine=engine,
            strength=strength,
            folder=folder,
            on_segment=self._segment,
            on_frame=self._frame,
        )

    def _segment(self, segment: Segment, file: SegmentFile | None) -> None:
        self.files.append((segment.index, file))

    def _frame(self) -> None:
        self.frames += 1

    def run(self) -> None:
        self.pipeline.run(self.segments)


@pytest.fixture
def before() -> set[threading.Thread]:
    """The threads that there are: engines of other tests may wait for the garbage collector."""
    return set(threading.enumerate())


def threads(before: set[threading.Thread]) -> list[str]:
    """carfix's that have come since."""
    return [thread.name for thread in set(threading.enumerate()) - before if thread.name.startswith("carfix")]


def test_segments_come_in_order_and_whole(tmp_path: Path, before: set[threading.Thread]) -> None:
    run = Run(media.write_clip(tmp_path / "in.mp4", frames=40), Adding(0, batch=4), tmp_path / "state")
    run.run()
    assert [index for index, _ in run.files] == [segment.index for segment in run.segments]
    assert [file.frames for _, file in run.files if file] == [segment.frames for segment in run.segments]
    assert run.frames == run.pipeline.tally.frames == 40
    assert not threads(before)


def test_batches_do_not_cross_segments(tmp_path: Path) -> None:
    """So that a run that begins at a segment computes what one that passed it did, batch for batch."""
    engine = Adding(0, batch=4)
    run = Run(media.write_clip(tmp_path / "in.mp4", frames=30), engine, tmp_path / "state")
    run.run()
    sizes = [shape[0] for shape in engine.shapes]
    wanted = [n for s in run.segments for n in [4] * (s.frames // 4) + [s.frames % 4] * (s.frames % 4 > 0)]
    assert sizes == wanted


def test_repeated_frames_are_computed_once(tmp_path: Path) -> None:
    source = media.write_clip(
        tmp_path / "in.mkv", codec="ffv1", frames=20, pictures=lambda i: media.picture(i // 5)
    )
    engine = Adding(1, batch=3)
    run = Run(source, engine, tmp_path / "state", seconds=10)
    run.run()
    assert run.pipeline.tally.repeated == 16
    assert engine.planes == 4
    assert run.frames == 20


@pytest.mark.parametrize("depth", [1, 2, 3])
def test_batches_under_way_end_in_order(depth: int, tmp_path: Path) -> None:
    """Repeats among them, some of a frame whose batch has not ended yet."""
    from carfix.restore.one_file import restore_video

    source = media.write_clip(
        tmp_path / "in.mkv", codec="ffv1", frames=31, pictures=lambda i: media.picture(i // 3)
    )
    engine = Overlapped(3, batch=2, depth=depth)
    report = restore_video(
        source=source, output=tmp_path / "out.mkv", model=engine, encoder=EncoderSettings(codec="ffv1")
    )
    assert report.repeated == 20
    # Every third batch is all repeats, and nothing of it goes to the engine.
    assert (engine.most, engine.under_way) == (min(depth, 2), 0)
    for a, b in zip(media.planes(tmp_path / "out.mkv"), media.planes(source), strict=True):
        assert np.array_equal(a, b + 3)


def test_fields_are_restored_apart(tmp_path: Path) -> None:
    source = media.write_clip(
        tmp_path / "in.mp4", frames=4, interlaced=True, options={**media.X264, "x264-params": "tff=1"}
    )
    engine = Adding(0, batch=2)
    Run(source, engine, tmp_path / "state", seconds=10).run()
    assert set(engine.shapes) == {(2, media.HEIGHT // 2, media.WIDTH)}
    assert engine.planes == 8


class Noting(Adding):
    """Notes what share of the correction each plane was to take."""

    def __init__(self) -> None:
        super().__init__(batch=3)
        self.strengths: list[float | None] = []

    def restore(self, planes: Planes, bit_depth: int, strengths: Strengths | None = None) -> Planes:
        self.strengths += [None] * len(planes) if strengths is None else map(float, strengths)
        return super().restore(planes, bit_depth)


#: A hundredth of the quantizer is the share.
HUNDREDTH = Strength(curve=Curve("", (0.0, 100.0), (0.0, 1.0)))


def running_shares(source: Path, segments: Sequence[Segment]) -> list[float]:
    """The hundredth of each frame's quantizer, averaged with what was before it in its segment: a fifth is its own."""
    shares: list[float] = []
    frames = iter(decode(source, quantizers=True))
    for segment in segments:
        mean = None
        for frame in itertools.islice(frames, segment.frames):
            told = h264_quantizer(frame)
            assert told is not None
            mean = told if mean is None else 0.8 * mean + 0.2 * told
            shares.append(mean / 100)
    return shares


@pytest.mark.parametrize("interlaced", [False, True])
def test_frames_take_the_share_that_their_quantizers_ask_for(interlaced: bool, tmp_path: Path) -> None:
    options = {**media.X264, "crf": "30", **({"x264-params": "tff=1"} if interlaced else {})}
    source = media.write_clip(tmp_path / "in.mp4", frames=7, interlaced=interlaced, options=options)
    engine = Noting()
    run = Run(source, engine, tmp_path / "state", seconds=10, strength=HUNDREDTH)
    run.run()
    wanted = running_shares(source, run.segments)
    assert len(wanted) == 7 and len({round(share, 4) for share in wanted}) > 1
    # Both fields of a frame take its share.
    assert sorted(share for share in engine.strengths if share)[:: 2 if interlaced else 1] == pytest.approx(
        sorted(wanted)
    )


def test_every_segment_begins_anew(tmp_path: Path) -> None:
    """So a run that was resumed there writes the same file as one that came from before it."""
    source = media.write_clip(tmp_path / "in.mp4", frames=40)
    whole, resumed = Noting(), Noting()
    run = Run(source, whole, tmp_path / "whole", strength=HUNDREDTH)
    run.run()
    assert len(run.segments) > 2
    assert whole.strengths == pytest.approx(running_shares(source, run.segments))
    later = Run(source, resumed, tmp_path / "resumed", strength=HUNDREDTH)
    later.segments = later.segments[2:]
    later.run()
    assert resumed.strengths == whole.strengths[-len(resumed.strengths) :]


def test_nothing_is_computed_for_frames_that_take_nothing(tmp_path: Path) -> None:
    source = media.write_clip(tmp_path / "in.mp4", frames=9)
    engine = Noting()
    run = Run(source, engine, tmp_path / "state", strength=Strength(fixed=0.0))
    run.run()
    assert run.frames == 9 and engine.planes == 0


def test_frames_that_tell_no_quantizer_take_all(tmp_path: Path) -> None:
    curve = Strength(curve=Curve("", (0.0, 100.0), (0.0, 0.0)))
    source = media.write_clip(tmp_path / "in.mkv", codec="ffv1", frames=5)
    engine = Noting()
    Run(source, engine, tmp_path / "state", strength=curve).run()
    assert engine.strengths == [None] * 5


@pytest.mark.parametrize("codec", ["libx264", "libx265", "libsvtav1", "libvpx-vp9", "mpeg4", "mjpeg"])
def test_every_codec_that_tells_takes_its_share(codec: str, tmp_path: Path) -> None:
    """Frames in the order of presentation, each with what its own packet told."""
    if codec not in codecs_available:
        pytest.skip(f"this FFmpeg has no {codec}")
    pix_fmt = "yuvj420p" if codec == "mjpeg" else "yuv420p"
    with kept_scheduling():
        source = media.write_clip(tmp_path / "in.mkv", codec=codec, frames=12, pix_fmt=pix_fmt)
    engine = Noting()
    run = Run(source, engine, tmp_path / "state", strength=HUNDREDTH)
    run.run()
    assert engine.strengths == pytest.approx(running_shares(source, run.segments))


@pytest.mark.parametrize("error", [CarfixError("broke"), MemoryError("no room"), KeyboardInterrupt()])
def test_an_engine_that_fails_ends_everything(
    error: BaseException, tmp_path: Path, before: set[threading.Thread]
) -> None:
    run = Run(media.write_clip(tmp_path / "in.mp4", frames=40), Failing(13, error), tmp_path / "state")
    with pytest.raises(type(error)):
        run.run()
    assert not threads(before)
    assert [index for index, _ in run.files] == list(range(len(run.files)))


def test_an_encoder_thread_that_fails_ends_everything(tmp_path: Path, before: set[threading.Thread]) -> None:
    run = Run(media.write_clip(tmp_path / "in.mp4", frames=40), Adding(), tmp_path / "state")

    def fail(segment: Segment, file: SegmentFile | None) -> None:
        raise OSError(28, "No space left on device")

    run.pipeline._on_segment = fail  # type: ignore[method-assign]
    with pytest.raises(OSError, match="No space"):
        run.run()
    assert not threads(before)


def test_a_decoder_thread_that_fails_ends_everything(tmp_path: Path, before: set[threading.Thread]) -> None:
    source = media.write_clip(tmp_path / "in.mkv", codec="ffv1", frames=10)
    run = Run(source, Adding(), tmp_path / "state")
    source.unlink()
    with pytest.raises(CarfixError, match="no such file"):
        run.run()
    assert not threads(before)


def test_a_change_of_size_is_an_error_with_its_place(tmp_path: Path, before: set[threading.Thread]) -> None:
    source = media.write_two_sizes(tmp_path / "in.ts")
    with pytest.raises(CarfixError, match=r"changes from 64x48 .* to 96x48 .* at 0\.920 s .*-to 0\.920"):
        Run(source, Adding(), tmp_path / "state").run()
    assert not threads(before)


def test_channel_is_bounded_and_ends() -> None:
    channel: Channel[int] = Channel(2)
    got: list[int] = []
    taker = threading.Thread(target=lambda: got.extend(channel))
    for value in (1, 2):
        channel.put(value)
    taker.start()
    for value in range(3, 50):
        channel.put(value)
    channel.finish()
    taker.join(10)
    assert got == list(range(1, 50))
    channel.abandon()
    with pytest.raises(Closed):
        channel.put(1)


def test_restored_luma_goes_to_the_right_frame(tmp_path: Path) -> None:
    from carfix.restore.one_file import restore_video

    source = media.write_clip(tmp_path / "in.mp4", frames=30)
    restore_video(
        source=source,
        output=tmp_path / "out.mkv",
        model=Adding(2, batch=7),
        encoder=EncoderSettings(codec="ffv1"),
        segment_seconds=0.3,
    )
    for a, b in zip(media.planes(tmp_path / "out.mkv"), media.planes(source), strict=True):
        assert np.array_equal(a, b + 2)


class Parts(Adding):
    """Adds to what is wanted, and makes noise of the rest."""

    def __init__(self, add: int) -> None:
        super().__init__(add)
        self.description = f"adds {add} to parts"
        self.left_out = 0

    def submit_parts(
        self, planes: Planes, bit_depth: int, strengths: Strengths | None, wanted: WantedParts
    ) -> Pending:
        result = self.restore(planes, bit_depth, strengths)
        rng = np.random.default_rng(self.planes)
        for plane, part in zip(result, wanted, strict=True):
            if part is not None:
                unwanted = part == 0
                self.left_out += int(unwanted.sum())
                plane[unwanted] = rng.integers(0, 256, unwanted.sum())
        return Late(Overlapped(0, batch=2, depth=1), result, bit_depth)


@pytest.mark.parametrize("interlaced", [False, True])
@pytest.mark.parametrize("strength", [Strength(), Strength(curve=Curve("", (0.0,), (1.0,)))], ids=str)
def test_what_is_not_wanted_of_an_engine_is_never_shown(
    interlaced: bool, strength: Strength, tmp_path: Path
) -> None:
    """A square moves over a still picture; with a curve, corrections are looked at around what moves, too."""

    options = {"qp": "0", "preset": "ultrafast", "x264-params": "tff=1" if interlaced else "bframes=0"}
    clip = media.write_clip(
        tmp_path / "in.mkv", frames=12, pictures=media.moving_square, interlaced=interlaced, options=options
    )
    engine = Parts(3)
    runs = [Run(clip, used, tmp_path / used.description, strength=strength) for used in (Adding(3), engine)]
    for run in runs:
        run.run()
    assert engine.left_out > 0
    names = [[file.name for _, file in run.files if file] for run in runs]
    assert names[0] == names[1]
    for name in names[0]:
        whole, parts = ((tmp_path / used / name).read_bytes() for used in ("adds 3", engine.description))
        assert whole == parts
