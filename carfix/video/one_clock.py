"""Times that go on where a stream's clock was set back, for packets that are read only once.

Where a file is read before it is restored, `carfix.video.timeline` knows them all.
"""

import itertools
from collections.abc import Iterator
from fractions import Fraction
from typing import Any

from av.packet import Packet
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from carfix.video.clock import ClockRepair


def on_one_clock(
    packets: Iterator["Packet[VideoStream]"], time_base: Fraction | None, format: str
) -> Iterator["Packet[VideoStream]"]:
    """The packets of one stream of a file of that `format`, each given its time when the next one has come."""
    if time_base is None:
        yield from packets
        return
    clock = ClockRepair(time_base, format=format)
    for packet, following in itertools.pairwise(itertools.chain(packets, [None])):
        assert packet is not None  # the last one is behind all of them
        repair(packet, following, clock)
        yield packet


def repair(packet: "Packet[Any]", following: "Packet[Any] | None", clock: ClockRepair) -> None:
    """Give a packet its place on its stream's clock; the next one tells a jump from a damaged time."""
    strays = clock.strays
    video = packet.stream.type == "video"
    after = None if following is None else stamp(following, video=video)
    after_pts = None if following is None else following.pts
    offset, dts = clock.repair(stamp(packet, video=video), packet.duration, after, packet.pts, after_pts)
    if clock.strays > strays:
        # Of the presentation time nothing is known either: it is guessed.
        packet.pts, packet.dts = None, dts
        return
    move(packet, offset * clock.time_base)
    if video:
        packet.pts = clock.in_order(packet.pts, packet.dts)


def move(packet: "Packet[Any] | VideoFrame", shift: Fraction) -> None:
    """Show it so many seconds later."""
    if shift and packet.time_base:
        ticks = round(shift / packet.time_base)
        packet.pts = None if packet.pts is None else packet.pts + ticks
        packet.dts = None if packet.dts is None else packet.dts + ticks


def stamp(packet: "Packet[Any]", *, video: bool) -> int | None:
    """The time that tells where a packet lies on its stream's clock; None if it states none."""
    # Matroska tells no decoding times, and a video's presentation times go back and forth.
    return packet.dts if video or packet.dts is not None else packet.pts
