"""Sound that an edit list hides: a phone that trims a recording leaves it in the file, ahead of what is to be heard."""

from typing import Any

from av.packet import Packet
from av.stream import Stream

from carfix.video.muxer import MOV_FORMATS


class PreRoll:
    """Passes on one stream's packets, of hidden sound in a row the last alone, from which decoding begins.

    MP4 and MOV keep all of it, hidden again. Elsewhere it would be heard before the picture, and in AVI, which has no
    times, everything behind it late.
    """

    def __init__(self, stream: Stream, format: str) -> None:
        self._hides = stream.type == "audio" and format not in MOV_FORMATS
        self._held: Packet[Any] | None = None

    def __call__(self, packet: "Packet[Any]") -> list["Packet[Any]"]:
        """The packets to write now that `packet` has come."""
        if self._hides and packet.is_discard:
            self._held = packet
            return []
        packets = [packet] if self._held is None else [self._held, packet]
        self._held = None
        return packets
