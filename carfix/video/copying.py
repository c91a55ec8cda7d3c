"""The packets of the streams that are copied, with their clocks repaired and shifted."""

from collections.abc import Iterator, Sequence
from fractions import Fraction
from typing import Any

from av.container import InputContainer
from av.packet import Packet
from av.stream import Stream

from carfix.video.demux import demux
from carfix.video.faults import MEDIA_ERRORS
from carfix.video.output import OutputFile, OutputPlan
from carfix.video.timeline import LARGEST_GAP, ClockRepair


def other_packets(
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
        for packet in demux(source, *streams):
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
