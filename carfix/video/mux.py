"""The final file: restored segments joined without encoding again, everything else of the input beside."""

import dataclasses
import io
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from av.container import InputContainer
from av.video.frame import VideoFrame
from numpy.typing import NDArray

from carfix.errors import CarfixError
from carfix.video.copying import other_packets
from carfix.video.encoder import Encoding
from carfix.video.faults import MEDIA_ERRORS, reason
from carfix.video.output import RAW, Muxed, OutputFile, OutputPlan
from carfix.video.sink import JoinedSegments, SegmentWriter
from carfix.video.source import open_input

#: Matroska's milliseconds are as good as exact: no one sees half a millisecond. Anything coarser must fit.
COARSEST_CLOCK = Fraction(1, 1000)


def try_output(plan: OutputPlan, encoding: Encoding, times: NDArray[np.int64], folder: Path) -> None:
    """Write a one-frame file of the wanted kind into memory; `folder` is for a moment's scratch.

    Raises `CarfixError` if the container refuses the video, would not give raw video back, or cannot keep its `times`
    (ticks of the input's time base) apart.
    """
    info = plan.info
    frame = VideoFrame(info.width, info.height, encoding.pix_fmt)
    for plane in frame.planes:
        plane.update(bytes(plane.buffer_size))  # x264 aborts on codes above the bit depth
    frame.pts, frame.time_base = int(times[0]), info.time_base
    with SegmentWriter(folder / "trial.seg", info, encoding) as writer:
        writer.write(frame)
        segment = writer.finish()
    joined = JoinedSegments(folder, [segment], info.time_base, 1)
    trial = io.BytesIO()
    # In memory there is no name, by which the muxer opens what it has written (faststart).
    plan = dataclasses.replace(plan, movflags=None)
    try:
        with open_input(info.path) as source, av.open(str(folder / segment.name)) as template:
            output = OutputFile(trial, plan, source, template.streams.video[0])
            with output.container:
                output.container.start_encoding()
                clock = output.video.time_base
                for packet in joined.packets():
                    packet.stream = output.video
                    output.container.mux(packet)
    except MEDIA_ERRORS as error:
        cure = "another -c:v" if plan.format == "matroska" else "write .mkv instead, or use another -c:v"
        raise CarfixError(
            f"{info.path}: {plan.format} cannot hold {encoding.codec} video: {reason(error)}; {cure}"
        ) from error
    if encoding.codec == RAW and not _can_be_read(trial):
        raise CarfixError(
            f"{info.path}: {plan.format} cannot say what pixel format raw {encoding.pix_fmt} is; write .nut instead"
        )
    assert clock is not None
    _check_clock(plan, clock, times)


def _can_be_read(trial: io.BytesIO) -> bool:
    trial.seek(0)
    try:
        with av.open(trial, "r") as container:
            return next(container.decode(video=0), None) is not None
    except MEDIA_ERRORS:
        return False


def _check_clock(plan: OutputPlan, clock: Fraction, times: NDArray[np.int64]) -> None:
    ratio = plan.info.time_base / clock
    if ratio.denominator == 1 or clock <= COARSEST_CLOCK:
        return
    if (times * ratio.numerator % ratio.denominator).any():
        raise CarfixError(
            f"{plan.info.path}: {plan.format} counts in steps of {clock} s and cannot keep this video's times; "
            "write .mkv or .mp4 instead"
        )


def write_output(
    target: Path, plan: OutputPlan, joined: JoinedSegments, template: Path, progress: Callable[[int], None]
) -> Muxed:
    """Write the final file to `target`: the joined video, and the other streams of the input.

    `template` is a segment file, whose codec parameters are those of all. `progress` is called with the
    number of video packets written so far, and may raise to stop. Raises `CarfixError`.
    """
    try:
        with open_input(plan.info.path) as source, av.open(str(template)) as segment:
            output = OutputFile(target, plan, source, segment.streams.video[0])
            with output.container:
                output.container.start_encoding()
                return _interleave(output, source, joined, progress)
    except MEDIA_ERRORS as error:
        raise CarfixError(f"cannot write {target}: {reason(error)}") from error


def _interleave(
    output: OutputFile, source: InputContainer, joined: JoinedSegments, progress: Callable[[int], None]
) -> Muxed:
    time_base = output.video.time_base
    assert time_base is not None
    muxed = Muxed(output.video.index, time_base, {copy.index: 0 for copy in output.copies.values()})
    video = _VideoPackets(output, joined, progress)
    for time, packet in other_packets(output, source):
        video.write_until(time)
        if packet.stream_index in muxed.packets:
            muxed.packets[packet.stream_index] += 1
        output.container.mux(packet)
    video.write_until(None)
    muxed.audio_refused = sum(encoder.refused for encoder in output.encoders.values())
    return muxed


class _VideoPackets:
    """Feeds the muxer with video up to where the other streams are, so that it need not buffer."""

    def __init__(self, output: OutputFile, joined: JoinedSegments, progress: Callable[[int], None]) -> None:
        self._output = output
        self._packets = joined.packets()
        self._next = next(self._packets, None)
        self._progress = progress
        self._count = 0
        self._shift = round(output.plan.shift / output.plan.info.time_base)

    def write_until(self, time: Fraction | None) -> None:
        while (packet := self._next) is not None:
            assert packet.pts is not None and packet.dts is not None and packet.time_base is not None
            if time is not None and (packet.dts - self._shift) * packet.time_base > time:
                return
            packet.pts -= self._shift
            packet.dts -= self._shift
            packet.stream = self._output.video
            self._output.container.mux(packet)
            self._count += 1
            self._progress(self._count)
            self._next = next(self._packets, None)
