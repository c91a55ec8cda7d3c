"""The stages of a restore, each alone, and all of them together."""

import itertools
import time
from pathlib import Path

from av.video.frame import VideoFrame

from carfix.quality.bench.clip import Sample, batches
from carfix.quality.bench.rounds import Done, Task
from carfix.restore.engine import Engine
from carfix.restore.engine.overlap import begin, depth_of, in_order
from carfix.restore.one_file import restore_video
from carfix.restore.report import Progress
from carfix.scratch import scratch
from carfix.video import hwaccel
from carfix.video.convert import convert
from carfix.video.decode import Damage, decode_frames
from carfix.video.encoder import resolve_encoding
from carfix.video.encoder_settings import EncoderSettings
from carfix.video.luma import read_luma, write_luma
from carfix.video.sink import SegmentWriter
from carfix.video.streams import NONE

#: Names as the JSON has them.
DECODE, READ_LUMA, WRITE_LUMA = "decode", "read_luma", "write_luma"
ENCODE, ENCODE_ULTRAFAST = "encode", "encode_ultrafast"

#: Frames below which an encoder does not show its speed: half of x264's lookahead.
LEAST_ENCODED = 20
#: Frames below which the threads of a restore hardly overlap.
LEAST_RESTORED = 8
#: A restore has more to show than its stages: it gets more time.
RESTORE_SHARE = 2.0
#: Fast and steady stages need less.
SHORT_SHARE = 0.25


def decoding(sample: Sample) -> Task:
    """Decodes from the beginning, again and again if the clip is short."""

    def run(count: int) -> Done:
        left = count
        while left > 0:
            frames = decode_frames(sample.info, sample.timeline, Damage())
            left -= sum(1 for _ in itertools.islice(frames, left))
        return Done(count)

    return Task(name=DECODE, run=run, least=min(sample.total, 16), share=2 * SHORT_SHARE)


def reading_luma(sample: Sample) -> Task:
    """Copies luma planes out of frames."""

    def run(count: int) -> Done:
        for frame in itertools.islice(itertools.cycle(sample.frames), count):
            read_luma(frame, sample.luma)
        return Done(count)

    return Task(name=READ_LUMA, run=run, least=len(sample.frames), share=SHORT_SHARE)


def writing_luma(sample: Sample) -> Task:
    """Copies luma planes into frames: their own, so that the sample stays as it is."""
    pairs = list(zip(sample.frames, sample.planes, strict=True))

    def run(count: int) -> Done:
        for frame, plane in itertools.islice(itertools.cycle(pairs), count):
            write_luma(frame, plane, sample.luma)
        return Done(count)

    return Task(name=WRITE_LUMA, run=run, least=len(pairs), share=SHORT_SHARE)


def inferring(name: str, sample: Sample, engine: Engine) -> Task:
    """Restores the planes of the sample, in batches and with as many of them under way as the engine likes."""

    def run(count: int) -> Done:
        some = batches(sample.planes, count, engine.batch)
        for _ in in_order(engine, (begin(engine, planes, sample.luma.bit_depth) for planes in some)):
            pass
        return Done(count)

    return Task(name=name, run=run, least=depth_of(engine) * engine.batch)


def encoding(name: str, sample: Sample, preset: str | None, folder: Path) -> Task:
    """Encodes the sample's decoded frames into a file, flushed and on the disk, as `restore` does a segment."""
    settled = resolve_encoding(sample.info, EncoderSettings(preset=preset))
    colour = sample.info.colour.range
    frames = [convert(frame, settled.pix_fmt, colour) for frame in sample.frames]
    path = folder / f"{name}.seg"

    def run(count: int) -> Done:
        with SegmentWriter(path, sample.info, settled) as writer:
            for frame, time_ in itertools.islice(zip(frames, sample.times, strict=True), count):
                _set_time(frame, time_, sample)
                writer.write(frame)
            written = writer.finish()
        path.unlink()
        return Done(written.frames)

    least = min(len(frames), LEAST_ENCODED)
    share = 1.0 if name == ENCODE else 2 * SHORT_SHARE
    return Task(name=name, run=run, least=least, most=len(frames), share=share)


def _set_time(frame: VideoFrame, ticks: int, sample: Sample) -> None:
    """The writer may have given the frame another clock."""
    frame.pts, frame.dts, frame.time_base = ticks, None, sample.info.time_base


def restoring(name: str, sample: Sample, engine: Engine, preset: str | None, starts: list[float]) -> Task:
    """`restore_video` from file to verified file, video alone, encoded with `preset`.

    Counted from the first frame that is encoded to the finished file; the seconds before it, which a long video pays
    once, go into `starts`.
    """
    path = sample.info.path
    clock = sample.timeline.presentation

    def run(count: int) -> Done:
        end = None
        if count < sample.total:
            end = float(int(clock[count]) * sample.info.time_base - sample.info.start)
        first: list[float] = []

        def told(progress: Progress) -> None:
            if progress.phase == "restoring" and not first:
                first.append(time.perf_counter())

        with scratch("carfix-bench-") as folder:
            began = time.perf_counter()
            report = restore_video(
                source=path,
                output=folder / "restored.mkv",
                model=engine,
                encoder=EncoderSettings(preset=preset),
                audio_codec=NONE,
                hwaccel=str(sample.info.hwaccel or hwaccel.NONE),
                end=end,
                resume=False,
                progress=told,
            )
            finished = time.perf_counter()
        since = first[0] if first and report.frames > 1 else began
        starts.append(since - began)
        return Done(report.frames - (since > began), finished - since)

    return Task(
        name=name,
        run=run,
        least=min(sample.total, max(LEAST_RESTORED, 4 * engine.batch)),
        most=sample.total,
        share=RESTORE_SHARE,
    )
