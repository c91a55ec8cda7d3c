"""Decoding: the frames of a range in the order in which they are shown, each with its repaired time."""

import dataclasses
import heapq
import itertools
import math
from collections.abc import Iterator

import numpy as np
from av.container import InputContainer
from av.packet import Packet
from av.video.codeccontext import VideoCodecContext
from av.video.frame import VideoFrame
from av.video.stream import VideoStream
from numpy.typing import NDArray

from carfix.errors import CarfixError
from carfix.video.colour import matrix_of
from carfix.video.concealment import conceal
from carfix.video.demux import demux
from carfix.video.faults import MEDIA_ERRORS
from carfix.video.hwaccel import planar
from carfix.video.quantizer import export_quantizers
from carfix.video.source import PROGRESSIVE, SENT_FORMS, SourceInfo, open_input, video_of
from carfix.video.timeline import NO_TIME, Timeline


class ReadOtherwiseError(CarfixError):
    """A file does not give the packets that it gave when it was examined."""


#: How many frames wait so that they can be put in order: more than a damaged header moves a frame in practice.
_REORDERED = 8
#: How far a seek may land before the wanted packet; beyond, the file's index is not worth trusting.
MAX_PACKETS_AFTER_SEEK = 100_000


@dataclasses.dataclass
class Damage:
    """What had to be mended on the way; counted, never silent."""

    packets: int = 0  # that the decoder refused
    frames: int = 0  # that the decoder flagged as damaged and concealed
    times: int = 0  # frames whose time had to be moved so that times ascend

    def add(self, other: "Damage") -> None:
        """Sum up two parts."""
        self.packets += other.packets
        self.frames += other.frames
        self.times += other.times

    def since(self, before: "Damage") -> "Damage":
        """What has been added to `before`."""
        return Damage(self.packets - before.packets, self.frames - before.frames, self.times - before.times)


def decode_frames(
    info: SourceInfo, timeline: Timeline, damage: Damage, *, start: int | None = None, end: int | None = None
) -> Iterator[VideoFrame]:
    """Frames with `start <= pts < end` in the order of presentation, their `pts` strictly ascending.

    Times are ticks of `info.time_base`. Decoding begins at a keyframe that needs nothing before it, found by
    seeking if the file's index proves to be right, or else at the beginning. Raises `CarfixError` if the size
    or the pixel format changes on the way, `ReadOtherwiseError` if the file does not give the packets of `timeline`.
    """
    clock = _Clock(timeline, damage)
    for pts, frame in _in_order(_decoded(info, timeline, damage, start, clock), clock):
        if end is not None and pts >= end:
            return
        if start is not None and pts < start:
            continue
        if info.hwaccel is not None:
            frame = planar(frame, info.pix_fmt, info.colour.range)
        if not _is_alike(frame, info):
            raise _changes(info, f"{frame.width}x{frame.height} {frame.format.name}", pts)
        frame.pts = pts
        frame.dts = None
        frame.time_base = info.time_base
        damage.frames += frame.is_corrupt
        yield frame


def check_size(info: SourceInfo, timeline: Timeline, times: NDArray[np.int64]) -> None:
    """Raises `CarfixError` as `decode_frames` would on its way through the frames at `times`, hours later.

    Only if headers tell, and of the first change in the file.
    """
    pts = timeline.resized
    if pts is not None and times[0] < pts <= times[-1]:
        new = info_from(info, timeline, pts)
        if (new.width, new.height) != (info.width, info.height):
            raise _changes(info, f"{new.width}x{new.height} {new.pix_fmt}", pts)


def _changes(info: SourceInfo, new: str, pts: int) -> CarfixError:
    at = f"{_milliseconds(pts, info) / 1000:.3f}"
    return CarfixError(
        f"{info.path}: the video changes from {info.width}x{info.height} {info.pix_fmt} to {new} at {at} s from the "
        f"beginning; restore what is before it (-to {at}) and what follows (-ss {at}) into two files"
    )


def info_from(info: SourceInfo, timeline: Timeline, start: int | None) -> SourceInfo:
    """`info`, with the look of the video as it is where `start` ticks are shown: recorders change it on the way.

    Unchanged but for the shape of pixels where size and pixel format are, where no frame could be decoded, and where a
    device decodes, whose frames have other formats.
    """
    if start is None or info.hwaccel is not None:
        return info
    clock = _Clock(timeline, Damage())
    for pts, frame in _in_order(_decoded(info, timeline, Damage(), start, clock), clock):
        if pts < start:
            continue
        assert clock.decoder is not None
        if _is_alike(frame, info):
            # Television goes from 4:3 to 16:9 by the shape of pixels alone; elsewhere the container has a word in it.
            shape = clock.decoder.sample_aspect_ratio if info.format in SENT_FORMS else None
            return dataclasses.replace(info, sample_aspect_ratio=shape) if shape else info
        return dataclasses.replace(
            info,
            width=frame.width,
            height=frame.height,
            pix_fmt=frame.format.name,
            # What was in standard definition had other colours, anamorphic pixels and two fields.
            sample_aspect_ratio=clock.decoder.sample_aspect_ratio or None,
            colour=dataclasses.replace(
                info.colour,
                range=frame.color_range,
                primaries=frame.color_primaries,
                transfer=frame.color_trc,
                matrix=matrix_of(frame, frame.colorspace),
            ),
            field_order=info.field_order if frame.interlaced_frame else PROGRESSIVE,
            interlaced=frame.interlaced_frame,
        )
    return info


def _is_alike(frame: VideoFrame, info: SourceInfo) -> bool:
    return (frame.width, frame.height, frame.format.name) == (info.width, info.height, info.pix_fmt)


def _milliseconds(pts: int, info: SourceInfo) -> int:
    """From the input's beginning, as -ss counts, and not after `pts`: a range that begins or ends there is exact."""
    return math.floor((pts * info.time_base - info.start) * 1000)


class _Clock:
    """Gives every decoded frame its repaired presentation time."""

    def __init__(self, timeline: Timeline, damage: Damage) -> None:
        self._timeline = timeline
        self._damage = damage
        self._latest: int | None = None  # time of the frame that the decoder gave last
        self._last: int | None = None  # time of the frame that was shown last
        self.decoder: VideoCodecContext | None = None
        self._slots: list[int] = []  # of packets in the decoder, for files without presentation times

    def sent(self, index: int) -> None:
        if self._timeline.ordinal and self._timeline.shown[index]:
            self._slots.append(int(self._timeline.pts[index]))

    def refused(self, index: int) -> None:
        slot = int(self._timeline.pts[index])
        if self._timeline.ordinal and slot in self._slots:
            self._slots.remove(slot)

    def trim(self, delay: int) -> None:
        """A decoder holds back at most `delay` frames: older slots belong to frames that were lost."""
        if len(self._slots) > delay:
            del self._slots[: len(self._slots) - delay]

    def time_of(self, frame: VideoFrame) -> int:
        """The time of a frame that comes out of the decoder."""
        if self._timeline.ordinal:
            pts = self._slots.pop(0) if self._slots else None
        else:
            pts = frame.pts
        if pts is None:
            pts = 0 if self._latest is None else self._latest + self._timeline.last_duration
        self._latest = pts
        return pts

    def ascending(self, pts: int) -> int:
        """The time of the next frame to show, moved if it is not above that of the last."""
        if self._last is not None and pts <= self._last:
            pts = self._last + 1
            self._damage.times += 1
        self._last = pts
        return pts


def _in_order(frames: Iterator[VideoFrame], clock: _Clock) -> Iterator[tuple[int, VideoFrame]]:
    """Frames by their times, which a decoder that met damage may give out of order."""
    waiting: list[tuple[int, int, VideoFrame]] = []
    for number, frame in enumerate(frames):
        heapq.heappush(waiting, (clock.time_of(frame), number, frame))
        if len(waiting) > _REORDERED:
            pts, _, first = heapq.heappop(waiting)
            yield clock.ascending(pts), first
    while waiting:
        pts, _, first = heapq.heappop(waiting)
        yield clock.ascending(pts), first


def _decoded(
    info: SourceInfo, timeline: Timeline, damage: Damage, start: int | None, clock: _Clock
) -> Iterator[VideoFrame]:
    first = restart_index(timeline, start)
    if first:
        with open_input(info.path, info.hwaccel) as container:
            stream = video_of(container, info)
            packets = _skip_to(container, stream, timeline, first)
            if packets is not None:
                yield from _frames(info, stream, packets, first, timeline, damage, clock)
                return
    with open_input(info.path, info.hwaccel) as container:
        stream = video_of(container, info)
        yield from _frames(info, stream, _readable(container, stream), 0, timeline, damage, clock)


def _frames(
    info: SourceInfo,
    stream: VideoStream,
    packets: Iterator["Packet[VideoStream]"],
    first: int,
    timeline: Timeline,
    damage: Damage,
    clock: _Clock,
) -> Iterator[VideoFrame]:
    # PyAV's default, threads within a frame, stays where it conceals errors: with frames decoded ahead, an error in
    # one of them would take its finished neighbours along, and what is concealed would depend on who came first.
    context = clock.decoder = stream.codec_context
    conceal(context)
    note = export_quantizers(context)
    count = len(timeline.pts)
    index = first - 1
    for index, packet in enumerate(packets, first):
        if index >= count:
            break  # the file has grown since it was scanned
        if packet.size != timeline.sizes[index] and index + 1 < count:  # the last one may have grown, too
            raise _read_otherwise(info, index, count)
        # The decoder hands a packet's time on to its frame: the repaired one goes in.
        packet.pts = int(timeline.pts[index])
        note(packet)
        clock.sent(index)
        try:
            yield from context.decode(packet)
        except MEDIA_ERRORS:
            damage.packets += 1
            clock.refused(index)
        clock.trim(context.reorder_depth)
    if index + 1 < count:
        raise _read_otherwise(info, index + 1, count)
    try:
        yield from context.decode(None)
    except MEDIA_ERRORS:
        damage.packets += 1


def _read_otherwise(info: SourceInfo, index: int, count: int) -> ReadOtherwiseError:
    return ReadOtherwiseError(
        f"{info.path}: packet {index + 1} of its {count} did not come as when the file was examined: a disk or network "
        "failed for a moment, or the file was changed; the next run does it again"
    )


def _readable(container: InputContainer, stream: VideoStream) -> Iterator["Packet[VideoStream]"]:
    try:
        for packet in demux(container, stream):
            if packet.size:
                yield packet
    except MEDIA_ERRORS:
        return  # the scan met the same end and reported it, or it lies before that


def _skip_to(
    container: InputContainer, stream: VideoStream, timeline: Timeline, first: int
) -> Iterator["Packet[VideoStream]"] | None:
    """Packets from number `first` on by seeking; None where seeking does not lead there."""
    wanted = _identity(timeline.raw_pts[first], timeline.raw_dts[first], timeline.sizes[first])
    if timeline.jumps or timeline.stood or timeline.raw_dts[first] == NO_TIME:
        return None  # a time stands for one place only on a clock that never stepped back nor stood still
    try:
        container.seek(int(timeline.raw_dts[first]), stream=stream, backward=True)
    except MEDIA_ERRORS:
        return None
    packets = _readable(container, stream)
    for packet in itertools.islice(packets, MAX_PACKETS_AFTER_SEEK):
        if _identity(packet.pts, packet.dts, packet.size) == wanted:
            return itertools.chain([packet], packets)
        if packet.dts is not None and packet.dts > timeline.raw_dts[first]:
            break
    return None


def _identity(pts: int | None, dts: int | None, size: int) -> tuple[int, int, int]:
    return (NO_TIME if pts is None else int(pts), NO_TIME if dts is None else int(dts), int(size))


def restart_index(timeline: Timeline, start: int | None) -> int:
    """Number of the packet to decode from so that every frame from `start` on comes out whole."""
    if start is None or timeline.ordinal:
        return 0
    wanted = np.nonzero(timeline.pts >= start)[0]
    if len(wanted) == 0:
        return 0
    candidates = timeline.clean[(timeline.clean <= wanted[0]) & (timeline.pts[timeline.clean] <= start)]
    return int(candidates[-1]) if len(candidates) else 0
