"""The final file: restored segments joined without encoding again, everything else of the input beside."""

import dataclasses
import io
from collections.abc import Callable, Iterator, Mapping, Sequence
from fractions import Fraction
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import av
import numpy as np
from av.audio.stream import AudioStream
from av.container import InputContainer, OutputContainer
from av.packet import Packet
from av.stream import Stream
from av.video.frame import VideoFrame
from av.video.stream import VideoStream
from numpy.typing import NDArray

from carfix.errors import CarfixError
from carfix.video.audio import AudioEncoder
from carfix.video.encoder import Encoding
from carfix.video.faults import MEDIA_ERRORS, reason
from carfix.video.pyav import KEEP_ODD_TAGS
from carfix.video.sink import JoinedSegments, SegmentWriter
from carfix.video.source import SourceInfo, open_input
from carfix.video.streams import (
    CopyPlan,
    add_copy,
    add_encoded_audio,
    kept_tags,
    muxer_options,
    without_statistics,
)
from carfix.video.timeline import LARGEST_GAP, ClockRepair, Jump

#: Matroska's milliseconds are as good as exact: no one sees half a millisecond. Anything coarser must fit.
COARSEST_CLOCK = Fraction(1, 1000)

if TYPE_CHECKING:
    from av.container.core import Chapter
else:
    Chapter = dict  # PyAV names the type for type checkers only


@dataclasses.dataclass(frozen=True, kw_only=True)
class OutputPlan:
    """What goes into the final file besides the restored video."""

    info: SourceInfo
    format: str  # FFmpeg's name of the muxer
    streams: CopyPlan
    jumps: tuple[Jump, ...] = ()  # of the video's clock, for the other streams to follow
    start: Fraction | None = None  # seconds on the input's clock: what lies before is cut and becomes time 0
    end: Fraction | None = None
    interlaced: bool = False  # the encoder codes two fields a frame
    video_tags: Mapping[str, str] = dataclasses.field(default_factory=dict)

    @property
    def shift(self) -> Fraction:
        """Seconds to subtract from every time."""
        return self.start or Fraction(0)


@dataclasses.dataclass
class Muxed:
    """What was written, for the verification."""

    video_index: int
    video_time_base: Fraction
    packets: dict[int, int]  # output's stream index to number of packets, of the copied streams
    audio_refused: int = 0  # packets that `-c:a ENCODER` could not decode


class OutputFile:
    """The output container with all its streams, its header not yet written."""

    def __init__(
        self, target: Path | IO[bytes], plan: OutputPlan, source: InputContainer, template: VideoStream
    ) -> None:
        self.plan = plan
        self.container: OutputContainer = av.open(
            str(target) if isinstance(target, Path) else target,
            "w",
            format=plan.format,
            container_options=muxer_options(plan.format, source.metadata),
            **KEEP_ODD_TAGS,
        )
        self.copies: dict[int, Stream] = {}
        self.encoders: dict[int, AudioEncoder] = {}
        try:
            for stream in source.streams:
                self._add(stream, template)
            self.container.metadata.update(kept_tags(source.metadata))
            self.container.set_chapters(_cut_chapters(source, plan))
        except BaseException:
            self.container.close()
            raise

    def _add(self, stream: Stream, template: VideoStream) -> None:
        if stream.index == self.plan.info.stream:
            self.video = self._add_video(stream, template)
        elif stream.index in self.plan.streams.copied:
            self.copies[stream.index] = add_copy(self.container, stream)
        elif stream.index in self.plan.streams.encoded:
            assert isinstance(stream, AudioStream)
            target = add_encoded_audio(self.container, stream, self.plan.streams.audio_codec)
            self.encoders[stream.index] = AudioEncoder(stream, target)

    def _add_video(self, stream: Stream, template: VideoStream) -> VideoStream:
        info = self.plan.info
        video = self.container.add_stream_from_template(template, opaque=True)
        video.time_base = info.time_base
        video.codec_context.framerate = info.rate
        video.codec_context.color_range = info.colour.range  # for containers; not every codec keeps it itself
        video.codec_context.color_primaries = info.colour.primaries
        video.codec_context.color_trc = info.colour.transfer
        video.codec_context.colorspace = info.colour.matrix
        if self.plan.interlaced:
            video.codec_context.field_order = (
                info.field_order
            )  # FFmpeg's parser takes any for top field first
        if info.sample_aspect_ratio:
            video.codec_context.sample_aspect_ratio = info.sample_aspect_ratio
        video.metadata.update(without_statistics(kept_tags(stream.metadata)))
        video.metadata.update(self.plan.video_tags)
        video.disposition = stream.disposition
        if info.display_matrix is not None:
            video.set_display_matrix(info.display_matrix)
        if self.container.format.name == "mpegts" and stream.id:
            video.id = stream.id
        return video


def _cut_chapters(source: InputContainer, plan: OutputPlan) -> list[Chapter]:
    chapters: list[Chapter] = []
    for chapter in source.chapters():
        time_base = chapter["time_base"]
        if time_base is None:
            continue
        start, end = chapter["start"] * time_base, chapter["end"] * time_base
        if (plan.start is not None and end <= plan.start) or (plan.end is not None and start >= plan.end):
            continue
        start = max(start, plan.start) if plan.start is not None else start
        end = min(end, plan.end) if plan.end is not None else end
        chapters.append(
            Chapter(
                id=chapter["id"],
                start=round((start - plan.shift) / time_base),
                end=round((end - plan.shift) / time_base),
                time_base=time_base,
                metadata=chapter["metadata"],
            )
        )
    return chapters


def try_output(plan: OutputPlan, encoding: Encoding, times: NDArray[np.int64], folder: Path) -> None:
    """Write a one-frame file of the wanted kind into memory; `folder` is for a moment's scratch.

    Raises `CarfixError` if the container refuses the video or cannot keep its `times` (ticks of the input's time
    base) apart.
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
    try:
        with open_input(info.path) as source, av.open(str(folder / segment.name)) as template:
            output = OutputFile(io.BytesIO(), plan, source, template.streams.video[0])
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
    assert clock is not None
    _check_clock(plan, clock, times)


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
    for time, packet in _other_packets(output, source):
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


def _other_packets(
    output: OutputFile, source: InputContainer
) -> Iterator[tuple[Fraction | None, "Packet[Any]"]]:
    """Packets for the output in the input's order, each with its time in seconds on the output's clock."""
    plan = output.plan
    indices = [*output.copies, *output.encoders]
    if not indices:
        return
    streams = [source.streams[index] for index in indices]
    clocks = {stream.index: _Clock(stream, plan) for stream in streams}
    for packet, following in _with_following(_packets_to_the_end(source, streams)):
        index = packet.stream_index
        if not clocks[index].set_times(packet, following):
            continue
        if index in output.encoders:
            for encoded in output.encoders[index].encode(packet):
                yield _time(encoded), encoded
        else:
            packet.stream = output.copies[index]
            yield _time(packet), packet
    for encoder in output.encoders.values():
        for encoded in encoder.finish():
            yield _time(encoded), encoded


def _with_following(
    packets: Iterator["Packet[Any]"],
) -> Iterator[tuple["Packet[Any]", "Packet[Any] | None"]]:
    """Each packet with the next one of its stream, when that is known."""
    waiting: dict[int, Packet[Any]] = {}
    for packet in packets:
        before = waiting.get(packet.stream_index)
        waiting[packet.stream_index] = packet
        if before is not None:
            yield before, packet
    for packet in waiting.values():
        yield packet, None


def _packets_to_the_end(source: InputContainer, streams: Sequence[Stream]) -> Iterator["Packet[Any]"]:
    try:
        for packet in source.demux(*streams):
            if packet.size:
                yield packet
    except MEDIA_ERRORS:
        return  # the scan met the same end and reported it


def _time(packet: "Packet[Any]") -> Fraction | None:
    stamp = _stamp(packet)
    return None if stamp is None or packet.time_base is None else stamp * packet.time_base


def _stamp(packet: "Packet[Any]") -> int | None:
    return packet.pts if packet.dts is None else packet.dts


class _Clock:
    """Repairs and shifts one copied stream's times."""

    def __init__(self, stream: Stream, plan: OutputPlan) -> None:
        assert stream.time_base is not None
        self._plan = plan
        self._time_base = stream.time_base
        self._repair = ClockRepair(stream.time_base, plan.jumps)
        self._shift = round(plan.shift / stream.time_base)
        self._last: int | None = None

    def set_times(self, packet: "Packet[Any]", following: "Packet[Any] | None") -> bool:
        """Give the packet its output times; False if it lies outside of the wanted range."""
        after = None if following is None else _stamp(following)
        offset, dts = self._repair.repair(_stamp(packet), packet.duration, after)
        pts = None if packet.pts is None else packet.pts + offset
        if pts is not None and dts is not None and abs(pts - dts) * self._time_base > LARGEST_GAP:
            pts = dts
        if self._outside(pts if pts is not None else dts):
            return False
        if dts is None:
            dts = 0 if self._last is None else self._last + 1
        if self._last is not None and dts <= self._last:
            dts = self._last + 1  # muxers refuse what does not ascend
            pts = None if pts is None else max(pts, dts)
        self._last = dts
        packet.dts = dts - self._shift
        packet.pts = packet.dts if pts is None else pts - self._shift
        return True

    def _outside(self, stamp: int | None) -> bool:
        if stamp is None:
            return False
        time = stamp * self._time_base
        plan = self._plan
        return (plan.start is not None and time < plan.start) or (plan.end is not None and time >= plan.end)
