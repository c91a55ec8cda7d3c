"""Decoding around damage, as a restore does: what the decoder refuses is passed over, counted and told."""

import contextlib
import dataclasses
import heapq
from collections.abc import Callable, Iterator

from av.container import InputContainer
from av.packet import Packet
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from carfix.video.checksums import SliceChecksums
from carfix.video.demux import demux
from carfix.video.faults import MEDIA_ERRORS, reason, unread
from carfix.video.one_clock import on_one_clock

#: How many frames wait behind damage so that they can be put in order, as in a restore: what is missing makes a decoder
#: give its frames too early.
_REORDERED = 8


@dataclasses.dataclass
class Damage:
    """What one pass over a file met."""

    packets: int = 0  # that the decoder refused
    frames: int = 0  # in which it concealed something
    end: str | None = None  # why the file could not be read up to its end
    failure: str | None = None  # the first of all reasons

    def __str__(self) -> str:
        """In words; empty where nothing was met."""
        words = []
        if self.packets:
            words.append(f"{_counted(self.packets, 'damaged packet')} could not be decoded")
        if self.frames:
            words.append(f"something was concealed in {_counted(self.frames, 'damaged frame')}")
        if self.end:
            words.append(f"it could not be read to its end ({self.end})")
        return ", ".join(words)

    def refused(self, error: BaseException) -> None:
        """Count a packet that the decoder refused."""
        self.packets += 1
        self.failure = self.failure or reason(error)

    def ended(self, error: BaseException) -> None:
        """The container gives no further packets."""
        self.end = unread(error)
        self.failure = self.failure or self.end


def _counted(count: int, thing: str) -> str:
    return f"{count} {thing}" + ("" if count == 1 else "s")


def decoded_around(
    container: InputContainer,
    stream: VideoStream,
    note: Callable[["Packet[VideoStream]"], None],
    damage: Damage,
) -> Iterator[VideoFrame]:
    """All frames of `stream` that can be had, in order; `note` is given each packet before the decoder gets it.

    What the decoder still holds when reading fails comes out too. Where the clock is set back, times go on, as in a
    restore. Raises nothing that a damaged file causes.
    """
    waiting: list[tuple[int, int, VideoFrame]] = []
    latest = 0
    for number, frame in enumerate(_decoded(container, stream, note, damage)):
        frame.time_base = stream.time_base or frame.time_base  # those that were flushed have none
        latest = latest if frame.pts is None else frame.pts
        heapq.heappush(waiting, (latest, number, frame))
        while len(waiting) > (_REORDERED if damage.packets else 0):
            yield heapq.heappop(waiting)[-1]
    while waiting:
        yield heapq.heappop(waiting)[-1]


def _decoded(
    container: InputContainer,
    stream: VideoStream,
    note: Callable[["Packet[VideoStream]"], None],
    damage: Damage,
) -> Iterator[VideoFrame]:
    context, checksums = stream.codec_context, SliceChecksums()
    packets = _readable(container, stream, damage)
    for packet in on_one_clock(packets, stream.time_base, container.format.name):
        note(packet)
        before = checksums.wrong
        checksums.look(packet)
        damage.frames += checksums.wrong - before
        frames: list[VideoFrame] = []
        try:
            frames = context.decode(packet)
        except MEDIA_ERRORS as error:
            damage.refused(error)
        damage.frames += sum(frame.is_corrupt for frame in frames)
        yield from frames
    rest: list[VideoFrame] = []
    with contextlib.suppress(*MEDIA_ERRORS):  # of packets that were taken, but gave no frame
        rest = context.decode(None)
    damage.frames += sum(frame.is_corrupt for frame in rest)
    yield from rest


def _readable(
    container: InputContainer, stream: VideoStream, damage: Damage
) -> Iterator["Packet[VideoStream]"]:
    packets = demux(container, stream)
    while True:
        try:
            packet = next(packets, None)
        except MEDIA_ERRORS as error:
            damage.ended(error)
            return
        if packet is None:
            return
        if packet.size:  # an empty one would flush the decoder
            yield packet
