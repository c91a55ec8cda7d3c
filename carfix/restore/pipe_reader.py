"""What comes out of a pipe: frames in the order of presentation, and other streams' packets as they arrive."""

import dataclasses
import heapq
import itertools
from collections import deque
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

from av.container import InputContainer
from av.packet import Packet
from av.video.frame import VideoFrame

from carfix.errors import CarfixError
from carfix.video.checksums import SliceChecksums
from carfix.video.choice import find_video, is_attached_picture
from carfix.video.clock import ClockRepair
from carfix.video.concealment import conceal
from carfix.video.decode import Damage
from carfix.video.demux import demux
from carfix.video.faults import MEDIA_ERRORS, unread
from carfix.video.field_rate import counts_fields
from carfix.video.one_clock import move, repair
from carfix.video.quantizer import export_quantizers
from carfix.video.segments import Segment
from carfix.video.source import SourceInfo, describe

#: What stands for standard input and output on the command line.
PIPE = Path("-")
#: How many frames wait so that damage cannot put them out of order; see `carfix.video.decode`.
_REORDERED = 8
#: The whole of a pipe is one piece.
_WHOLE = Segment(index=0, start=0, end=0, frames=0)


class PipeReader:
    """Frames in order from a container that cannot be rewound; packets of other streams wait in `others`."""

    def __init__(self, container: InputContainer, path: Path, wanted: str | None) -> None:
        self.container = container
        self.video = find_video(container, path, wanted)
        self.others: deque[Packet[Any]] = deque()
        #: Of video and sound the packet that the next one will tell about.
        self.waiting: dict[int, Packet[Any]] = {}
        self.damage = Damage()
        self.changed: str | None = None  # what ended it before its end
        self._flagged = 0  # packets that the demuxer flags as damaged
        self._checksums = SliceChecksums()
        self.cut_short: str | None = None  # why reading ended, if not with the input
        self._clocks = _clocks(container)
        self.clock = self._clocks[self.video.index]
        self._packets: Iterator[Packet[Any]] = self._on_one_clock(demux(container))
        self._decoded: Iterator[VideoFrame] = self._decode()
        first = next(self._decoded, None)
        if first is None:
            why = ""
            if path == PIPE and "mp4" in container.format.name:
                why = "; through a pipe, MP4 needs its index in front (FFmpeg's -movflags +faststart)"
            raise CarfixError(f"{path}: not a single frame of its video could be decoded{why}")
        #: Those that would wait anyway: of interlaced video they tell the rate.
        self._first = [first, *itertools.islice(self._decoded, _REORDERED if first.interlaced_frame else 0)]
        #: Seconds on the video's clock at which it begins.
        self.begins = Fraction(first.pts or 0) * Fraction(self.video.time_base or 0)
        info = describe(container, self.video, first, path)
        times = [frame.time for frame in self._first if frame.interlaced_frame and frame.time is not None]
        if counts_fields(times, float(info.rate)):
            info = dataclasses.replace(info, rate=info.rate / 2)
        self.info: SourceInfo = info

    @property
    def corrupt(self) -> int:
        """Packets that the demuxer flags as damaged, or whose checksums are wrong, up to now."""
        return self._flagged + self._checksums.wrong

    def _decode(self) -> Iterator[VideoFrame]:
        context = self.video.codec_context
        conceal(context)
        note = export_quantizers(context)
        for packet in self._packets:
            if packet.stream_index != self.video.index:
                self.others.append(packet)
                continue
            self._flagged += packet.is_corrupt
            self._checksums.look(packet)
            note(packet)
            try:
                yield from context.decode(packet)
            except MEDIA_ERRORS:
                self.damage.packets += 1
        yield from context.decode(None)

    def _on_one_clock(self, packets: Iterator["Packet[Any]"]) -> Iterator["Packet[Any]"]:
        """The packets with times that go on where a clock was set back: recordings one behind the other, a camera that
        began anew. Video and sound are a packet late, since the next one tells such a place from a damaged time.
        """
        try:
            for packet in packets:
                clock = self._clocks.get(packet.stream_index)
                if not packet.size:
                    continue
                if clock is None:
                    for jump in self.clock.found[-1:]:
                        move(packet, jump.shift)
                    yield packet
                    continue
                before = self.waiting.get(packet.stream_index)
                self.waiting[packet.stream_index] = packet
                if before is not None:
                    repair(before, packet, clock)
                    yield before
        except MEDIA_ERRORS as error:  # a pipe that breaks off ends there
            self.cut_short = unread(error)
        for index, packet in self.waiting.items():
            repair(packet, None, self._clocks[index])
            yield packet

    def frames(self) -> Iterator[tuple[Segment, VideoFrame]]:
        """Frames with strictly ascending `pts`, in the order of presentation."""
        waiting: list[tuple[int, int, VideoFrame]] = []
        step = max(1, round(1 / self.info.rate / self.info.time_base))
        # A program stream that begins on the way need not state the first time, and does not begin at 0.
        latest, last = (self.video.start_time or 0) - step, None
        for number, frame in enumerate(_from_the_first_time(self._all(), step)):
            latest = latest + step if frame.pts is None else frame.pts
            heapq.heappush(waiting, (latest, number, frame))
            # Without B-frames they come in order, and nobody has to wait for a slow camera's next ones.
            while len(waiting) > (_REORDERED if self.video.codec_context.reorder_depth else 0):
                last, frame = self._next(waiting, last)
                yield _WHOLE, frame
        while waiting:
            last, frame = self._next(waiting, last)
            yield _WHOLE, frame

    def _next(self, waiting: list[tuple[int, int, VideoFrame]], last: int | None) -> tuple[int, VideoFrame]:
        pts, _, frame = heapq.heappop(waiting)
        if last is not None and pts <= last:
            pts = last + 1
            self.damage.times += 1
        frame.pts, frame.dts = pts, None
        frame.time_base = self.info.time_base  # which the decoder's last frames lack
        self.damage.frames += frame.is_corrupt
        return pts, frame

    def _all(self) -> Iterator[VideoFrame]:
        for frame in itertools.chain(self._first, self._decoded):
            if (frame.width, frame.height, frame.format.name) != (
                self.info.width,
                self.info.height,
                self.info.pix_fmt,
            ):
                self.changed = (
                    f"the video changes to {frame.width}x{frame.height} {frame.format.name} on the way"
                )
                return
            yield frame


def _from_the_first_time(frames: Iterator[VideoFrame], step: int) -> Iterator[VideoFrame]:
    """Gives the first frames, where they state none (AVI), the times up to the first that is stated, `step` apart."""
    first = list(itertools.islice(frames, 1))
    while len(first) <= _REORDERED and first and first[-1].pts is None:
        more = next(frames, None)
        if more is None:
            break
        first.append(more)
    if first and (known := first[-1].pts) is not None:
        for ahead, frame in enumerate(reversed(first)):
            frame.pts = known - ahead * step
    yield from first
    yield from frames


def _clocks(container: InputContainer) -> dict[int, ClockRepair]:
    """Of video and sound, whose packets come in close succession; the first to meet a jump tells the others."""
    clocks = {
        stream.index: ClockRepair(Fraction(stream.time_base), format=container.format.name)
        for stream in container.streams
        if stream.type in ("video", "audio") and stream.time_base and not is_attached_picture(stream)
    }
    for clock in clocks.values():
        clock.peers = [other for other in clocks.values() if other is not clock]
    return clocks
