"""The quantizer of JPEG pictures (ITU-T T.81, B.2): how coarse the table is that the luma was divided by."""

import math
from collections.abc import Iterator

_SOI, _EOI, _SOS, _DQT, _TEM = 0xD8, 0xD9, 0xDA, 0xDB, 0x01
_RESTARTS = range(0xD0, 0xD8)
#: SOF0 to SOF15, less DHT, JPG and DAC.
_FRAMES = set(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
#: Entries of a table that count, in zigzag order: where pictures have their energy. The constant part is not one of
#: them: its step shows as banding, if at all.
_COUNTED = slice(1, 15)


class JpegHeaders:
    """Reads the tables of each picture; a stream may send them once and leave them out later."""

    def __init__(self) -> None:
        self._tables: dict[int, bytes | list[int]] = {}

    def quantizer(self, packet: bytes) -> float | None:
        """The step in codes of the luma's low frequencies, their geometric mean; None if it cannot be read."""
        luma: int | None = None
        try:
            for marker, segment in _segments(packet):
                if marker == _DQT:
                    self._read_tables(segment)
                elif marker in _FRAMES:
                    luma = segment[8]  # Tq of the first component
        except IndexError:
            return None
        steps = self._tables.get(luma) if luma is not None else None
        if not steps or 0 in steps:
            return None
        counted = steps[_COUNTED]
        return math.exp(sum(map(math.log, counted)) / len(counted))

    def _read_tables(self, segment: bytes) -> None:
        position = 0
        while position < len(segment):
            size, number = 1 + (segment[position] >> 4), segment[position] & 15
            entries = segment[position + 1 : position + 1 + 64 * size]
            if len(entries) < 64 * size:
                raise IndexError
            self._tables[number] = (
                entries
                if size == 1
                else [high << 8 | low for high, low in zip(entries[::2], entries[1::2], strict=True)]
            )
            position += 1 + 64 * size


def _segments(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Marker and content, up to the picture itself."""
    position = 0
    while position + 1 < len(data):
        if data[position] != 0xFF:
            raise IndexError
        marker = data[position + 1]
        position += 2
        if marker in (_SOI, _TEM, 0xFF) or marker in _RESTARTS:
            position -= marker == 0xFF  # a fill byte
            continue
        if marker in (_SOS, _EOI):
            return
        length = data[position] << 8 | data[position + 1]
        yield marker, data[position + 2 : position + length]
        position += max(length, 2)
