"""Checksums that a codec's packets carry: what the decoder conceals without a word, they tell.

FFV1's is behind every slice (RFC 9043, 4.9). FFmpeg's decoder compares it, shows the frame before in the slice's place,
and flags nothing.
"""

import zlib
from typing import Any

from av.packet import Packet

#: Behind a slice: its size in three bytes, a byte for its state, and what makes the remainder of all that 0.
_FOOTER, _SIZE = 8, 3
#: The remainder is taken from each byte's highest bit on, zlib's from the lowest.
_REVERSED = bytes(int(f"{byte:08b}"[::-1], 2) for byte in range(256))
_ALL_ONES = 0xFFFFFFFF


class SliceChecksums:
    """Counts the packets of a stream in which a slice is not as it was written.

    FFV1 need not have checksums, which its headers tell in an arithmetic code. So a slice that has a right
    one is taken for the proof that all have them: by chance one in four thousand million would.
    """

    def __init__(self) -> None:
        self._known = False
        self._wrong = 0

    @property
    def wrong(self) -> int:
        """So many packets, up to now."""
        return self._wrong if self._known else 0

    def look(self, packet: "Packet[Any]") -> None:
        """Take in the stream's next packet; of other codecs nothing is known."""
        if packet.stream.codec_context.name != "ffv1":
            return
        data, end, whole = bytes(packet), packet.size, True
        while end > 0 and whole:
            start = end - _FOOTER
            start -= int.from_bytes(data[start : start + _SIZE], "big") if start >= 0 else 0
            whole = start >= 0 and _remainder(data[start:end]) == 0
            self._known = self._known or whole
            end = start
        self._wrong += not whole


def _remainder(slice_: bytes) -> int:
    """CRC-32 of IEEE 802.3 that begins with 0, bits in the order of ITU-T V.42 reversed, and nothing inverted."""
    return zlib.crc32(slice_.translate(_REVERSED), _ALL_ONES) ^ _ALL_ONES
