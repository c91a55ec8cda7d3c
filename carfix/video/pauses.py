"""Pauses that a container has no room for: its muxer says no more of them than that something is invalid."""

from fractions import Fraction
from typing import Any

import av.error
from av.packet import Packet

#: What muxers say of times that they have no room for: they count from one to the next in 31 bits (MP4), or fill pauses
#: with empty packets (AVI).
NO_ROOM = (av.error.ArgumentError, av.error.PatchWelcomeError)
#: Seconds from one packet to the next that are a pause.
_PAUSE = 0.5


class Pauses:
    """Remembers the longest one in what is written: muxers let packets wait, and refuse them later."""

    def __init__(self) -> None:
        self._last: dict[int, Fraction] = {}  # by the stream's index, in seconds
        self._longest = self._at = Fraction(0)

    def note(self, packet: "Packet[Any]") -> None:
        """One more packet is to be written."""
        if packet.dts is None or packet.time_base is None:
            return
        # Frames that are shown behind the pause may be decoded before it.
        time = max(packet.dts, packet.pts or packet.dts) * Fraction(packet.time_base)
        before = self._last.get(packet.stream_index, time)
        if time - before > self._longest:
            self._longest, self._at = time - before, before
        self._last[packet.stream_index] = max(before, time)

    def __str__(self) -> str:
        """The longest one, for a message; empty if there was none."""
        if self._longest < _PAUSE:
            return ""
        return f"the pause of {float(self._longest):.1f} s at {float(self._at):.3f} s"
