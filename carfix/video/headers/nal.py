"""NAL units, the packets of H.264 and HEVC: behind start codes, or behind their lengths."""

from collections.abc import Iterator

_START = b"\0\0\1"


def nal_units(data: bytes, length_bytes: int) -> Iterator[bytes]:
    """The units of a packet. `length_bytes` is the size of the number before each; 0 where they have start codes."""
    return _by_lengths(data, length_bytes) if length_bytes else by_start_codes(data)


def has_start_codes(data: bytes) -> bool:
    """Whether `data` begins with a start code."""
    return data[:3] == _START or data[:4] == b"\0" + _START


def by_start_codes(data: bytes) -> Iterator[bytes]:
    """The units of an Annex B stream."""
    position = data.find(_START)
    while position >= 0:
        following = data.find(_START, position + len(_START))
        yield data[position + len(_START) : following if following >= 0 else None]
        position = following


def _by_lengths(data: bytes, length_bytes: int) -> Iterator[bytes]:
    position = 0
    while position + length_bytes < len(data):
        length = int.from_bytes(data[position : position + length_bytes], "big")
        position += length_bytes
        yield data[position : position + length]
        position += length


def payload(unit: bytes) -> bytes:
    """A unit without the bytes that keep start codes from appearing by chance (ITU-T H.265, 7.3.1.1)."""
    return unit.replace(b"\0\0\3", b"\0\0")
