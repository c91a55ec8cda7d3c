"""A rehearsal: what a container cannot hold or give back is found before hours of work, not after."""

import contextlib
import itertools
from collections.abc import Iterator, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from av.codec import Codec
from av.packet import Packet
from av.video.frame import VideoFrame
from numpy.typing import NDArray

from carfix.errors import CarfixError
from carfix.video.address import address
from carfix.video.convert import FULL_RANGE
from carfix.video.copying import around_pauses
from carfix.video.demux import decoded
from carfix.video.encoder import Encoding
from carfix.video.encoder_settings import RAW
from carfix.video.faults import MEDIA_ERRORS, reason
from carfix.video.luma import luma_format, write_luma
from carfix.video.mux import VideoPackets, with_headers
from carfix.video.muxed import Muxed
from carfix.video.muxer import AVI, BARE, FRAMES, PROGRAM_STREAMS, Y4M
from carfix.video.output import OutputFile, OutputPlan
from carfix.video.pauses import NO_ROOM, Pauses
from carfix.video.pyav import KEEP_ODD_TAGS
from carfix.video.sink import JoinedSegments, SegmentFile, SegmentWriter
from carfix.video.source import SourceInfo, open_input
from carfix.video.verify import NotAsWritten, read_back

#: Matroska's milliseconds are as good as exact: no one sees half a millisecond. Anything coarser must fit.
COARSEST_CLOCK = Fraction(1, 1000)
#: Frames: a P frame and the B-frames before it (x264: 3, x265: 4), since containers differ by what is out of order; and
#: for encoders whose frames never are.
_FRAMES = 6
_INTRA_FRAMES = 2
#: Seconds between two frames from which on a container may have no room for them: MP4 counts them in 31 bits, and AVI
#: fills them with empty frames.
_PAUSE = 1
#: Seconds in which the clock of MPEG's streams runs over; what is longer is read as if its end were its beginning.
_MPEG_CLOCK = Fraction(2**33, 90_000)
#: Share by which nobody sees two shapes of pixels differ.
_SHAPES_DIFFER = Fraction(1, 100)
#: Name of the segment that is tried.
_TRIAL = "trial.seg"
#: Side in pixels of a noisy corner: FFmpeg recognises neither streams nor containers by a few bytes a frame.
_NOISE = 64


def rehearse_output(
    plan: OutputPlan, encoding: Encoding, times: NDArray[np.int64], last_duration: int, target: Path
) -> tuple[str, ...]:
    """Write the first frames of the wanted kind, nearly empty, to `target`, and read them back; then others with the
    longest pause among them.

    `times` are those of the restored frames, ascending, and `last_duration` that of the last one, in ticks of the
    input's time base. `target` lies in a folder for scratch and is called as the output will be. Returns warnings of
    what is lost. Raises `CarfixError` if the container refuses the video, would not give it back, or cannot keep its
    times apart.
    """
    info = plan.info
    count = _INTRA_FRAMES if Codec(encoding.codec, "w").intra_only else _FRAMES
    first = times[:count]
    cure = "another -c:v" if plan.format == "matroska" else "write .mkv instead, or use another -c:v"
    try:
        muxed, clock = _write(plan, encoding, first, last_duration, target)
    except MEDIA_ERRORS as error:
        raise CarfixError(
            f"{info.path}: {plan.format} cannot hold {encoding.codec} video: {reason(error)}; {cure}"
        ) from error
    _check_clock(plan, clock, times - plan.shift_ticks)
    try:
        read_back(target, muxed, first - plan.shift_ticks, info.time_base)
    except NotAsWritten as error:
        wrong = f"would not give the video back: {error}"
        if encoding.codec == RAW:
            wrong = f"cannot say what pixel format raw {encoding.pix_fmt} is"
            cure = "write .nut instead"
        raise CarfixError(f"{info.path}: {plan.format} {wrong}; {cure}") from None
    lost = () if plan.format in FRAMES else tuple(_lost_look(plan, encoding, target, muxed))
    _check_pause(plan, encoding, times, last_duration, target)
    _check_silence(plan, target)
    return lost


def _write(
    plan: OutputPlan, encoding: Encoding, times: NDArray[np.int64], last_duration: int, target: Path
) -> tuple[Muxed, Fraction]:
    """Frames at `times` alone, as the output is written; seconds a tick of their clock. Raises `MEDIA_ERRORS`."""
    folder, info = target.parent, plan.info
    segment = _encode(plan, encoding, times, folder)
    joined = JoinedSegments(folder, [segment], info.time_base, last_duration)
    with open_input(info.path) as source, av.open(address(folder / segment.name)) as template:
        output = OutputFile(target, plan, source, template.streams.video[0])
        with output.container:
            output.container.start_encoding()
            muxed = Muxed.of(output)
            clock = output.video.time_base
            VideoPackets(output, with_headers(joined, template, plan.format)).write_until(None)
        output.complete(target)
    assert clock is not None
    return muxed, clock


def _check_pause(
    plan: OutputPlan, encoding: Encoding, times: NDArray[np.int64], last_duration: int, target: Path
) -> None:
    """Raises `CarfixError` if the container has no room for the longest pause between two frames.

    Program streams state few times: of frames that are nearly empty they lose every pause.
    """
    tick = plan.info.time_base
    steps = np.diff(times)
    if plan.format in (*BARE, *PROGRAM_STREAMS) or int(steps.max(initial=0)) * tick < _PAUSE:
        return
    place = int(steps.argmax())
    part = times[max(0, place + 1 - _FRAMES // 2) :][:_FRAMES]
    try:
        muxed, _ = _write(plan.beginning_at(int(part[0])), encoding, part, last_duration, target)
        read_back(target, muxed, part - plan.shift_ticks, tick)
    except (*MEDIA_ERRORS, NotAsWritten) as error:
        pause, at = float(int(steps[place]) * tick), float(int(times[place]) * tick - plan.info.start)
        raise CarfixError(
            f"{plan.info.path}: {plan.format} cannot hold the pause of {pause:.1f} s at {at:.3f} s; write .mkv instead"
        ) from error


def _check_silence(plan: OutputPlan, target: Path) -> None:
    """Raises `CarfixError` if AVI, which fills pauses with empty packets, has no room for the longest one in sound."""
    if plan.format != AVI or not plan.streams.heard:
        return
    info, kept = plan.info, (*plan.streams.copied, *plan.streams.encoded)
    with open_input(info.path) as source:
        sound = [stream.index for stream in source.streams if stream.type == "audio" and stream.index in kept]
        around = around_pauses(plan, source, sound)
    for index, packets in around.items():
        pauses = Pauses()
        try:
            with open_input(info.path) as source, av.open(address(target.parent / _TRIAL)) as template:
                output = OutputFile(target, plan, source, template.streams.video[0])
                with output.container:
                    output.container.start_encoding()
                    for packet in _as_written(output, index, packets):
                        pauses.note(packet)
                        with contextlib.suppress(av.error.InvalidDataError):  # a damaged one is left out
                            output.container.mux(packet)
        except NO_ROOM as error:
            if pause := str(pauses):
                raise CarfixError(
                    f"{info.path}: avi cannot hold {pause} in audio stream {index}; "
                    "write .mkv instead, or leave sound out with -c:a none"
                ) from error


def _as_written(output: OutputFile, index: int, packets: Sequence["Packet[Any]"]) -> Iterator["Packet[Any]"]:
    """What becomes of `packets` of the input's stream `index`, copied or encoded."""
    encoder = output.encoders.get(index)
    for packet in packets:
        if encoder is None:
            packet.stream = output.copies[index]
            yield packet
        else:
            yield from encoder.encode(packet)
    if encoder is not None:
        yield from encoder.finish()


def _lost_look(plan: OutputPlan, encoding: Encoding, target: Path, muxed: Muxed) -> Iterator[str]:
    """That the video would be shown too wide or too narrow, or with too much contrast or too little."""
    with av.open(address(target), **KEEP_ODD_TAGS) as container:
        videos = container.streams.video
        video = videos[muxed.video_place(len(videos)) or 0]
        got = video.sample_aspect_ratio or Fraction(1)
        # Some decoders say limited whatever the container says: one of both is enough.
        ranges = {video.codec_context.color_range}
        ranges |= {frame.color_range for frame in itertools.islice(decoded(container, video), 1)}
        full = FULL_RANGE in ranges
    wanted = plan.info.sample_aspect_ratio or Fraction(1)
    if abs(got / wanted - 1) > _SHAPES_DIFFER:
        yield (
            f"the pixels are {wanted.numerator}:{wanted.denominator}, and with {encoding.codec} {plan.format} says "
            f"{got.numerator}:{got.denominator}; .mkv and -c:v libx264 keep their shape"
        )
    if full != (plan.info.colour.range == FULL_RANGE):
        is_range, says_range, contrast = (
            ("limited", "full", "little") if full else ("full", "limited", "much")
        )
        plain = encoding.pix_fmt.replace("yuvj", "yuv")
        cure = f"-pix_fmt {plain}" if full and plain != encoding.pix_fmt else "-c:v libx264"
        yield (
            f"the video's codes are of {is_range} range, and with {encoding.codec} in {encoding.pix_fmt} {plan.format} "
            f"says {says_range}: players will show too {contrast} contrast; {cure} keeps it right"
        )


def _encode(plan: OutputPlan, encoding: Encoding, times: NDArray[np.int64], folder: Path) -> SegmentFile:
    info = plan.info
    with SegmentWriter(folder / _TRIAL, info, encoding) as writer:
        for time, frame in zip(times.tolist(), trial_frames(info, encoding, len(times)), strict=True):
            frame.pts, frame.time_base = time, info.time_base
            writer.write(frame)
        return writer.finish()


def trial_frames(info: SourceInfo, encoding: Encoding, count: int) -> Iterator[VideoFrame]:
    """Frames for `encoding` to try, nearly empty, without times."""
    format = luma_format(encoding.pix_fmt)
    rng = np.random.default_rng(0)
    for _ in range(count):
        frame = VideoFrame(info.width, info.height, encoding.pix_fmt)
        for plane in frame.planes:
            plane.update(bytes(plane.buffer_size))  # x264 aborts on codes above the bit depth
        luma = np.zeros((info.height, info.width), format.native)
        noisy = luma[:_NOISE, :_NOISE]
        noisy[...] = rng.integers(0, 1 << format.bit_depth, noisy.shape)
        write_luma(frame, luma, format)
        yield frame


def _check_clock(plan: OutputPlan, clock: Fraction, times: NDArray[np.int64]) -> None:
    ratio = plan.info.time_base / clock
    length = int(times[-1] - times[0]) * plan.info.time_base
    if plan.format in ("mpegts", *PROGRAM_STREAMS) and length >= _MPEG_CLOCK:
        raise CarfixError(
            f"{plan.info.path}: {plan.format} cannot hold a video of {float(length / 3600):.1f} hours, but "
            f"{float(_MPEG_CLOCK / 3600):.1f}; write .mkv instead"
        )
    if plan.format == AVI:
        times = times - times[0]  # wherever it begins, it is moved to 0
    if ratio.denominator == 1 or plan.format == Y4M:  # whose frames have no times
        return
    if clock <= COARSEST_CLOCK:
        # High-speed cameras'. A few frames may share a time: those that were moved since theirs were damaged.
        lost, cure = 2 * len(np.unique(np.rint(times * float(ratio)))) < len(times), ".mp4 or .mov"
    else:
        lost, cure = bool((times * ratio.numerator % ratio.denominator).any()), ".mkv or .mp4"
    if lost:
        raise CarfixError(
            f"{plan.info.path}: {plan.format} counts in steps of {clock} s and cannot keep this video's times; "
            f"write {cure} instead"
        )
