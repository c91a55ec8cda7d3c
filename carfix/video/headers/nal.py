"""NAL units, what packets of H.264 and HEVC are made of: behind start codes, or behind their lengths."""

import abc
import contextlib
from collections.abc import Callable, Iterable, Iterator
from typing import Generic, TypeVar

from carfix.video.headers.bits import Bits, EndOfHeader

_START = b"\0\0\1"
#: Bytes of a slice that are looked at: what stands in front of the quantizer is much shorter.
_SLICE_HEADER = 512
#: What reading a damaged unit raises: it ends early, or names parameters that were never sent.
_UNREADABLE = (EndOfHeader, KeyError, IndexError)


T = TypeVar("T")


class NalHeaders(abc.ABC, Generic[T]):
    """Follows the parameter sets of a stream and reads something of slices."""

    def __init__(self, extradata: bytes, record: Callable[[bytes], tuple[int, Iterable[bytes]]]) -> None:
        """`extradata` has start codes, or is a container's record, or empty.

        `record` takes a record apart: the bytes of the length before each unit of the stream, and the record's units.
        """
        self._length_bytes = 0  # start codes
        units: Iterable[bytes] = ()
        if has_start_codes(extradata):
            units = by_start_codes(extradata)
        elif extradata:
            with contextlib.suppress(*_UNREADABLE):
                self._length_bytes, units = record(extradata)
        for unit in units:
            with contextlib.suppress(*_UNREADABLE):
                self._read(unit)

    def slices(self, packet: bytes) -> Iterator[T]:
        """What is read of each slice of a packet; it ends where something cannot be read."""
        with contextlib.suppress(*_UNREADABLE):
            for unit in nal_units(packet, self._length_bytes):
                found = self._read(unit)
                if found is not None:
                    yield found

    @abc.abstractmethod
    def _read(self, unit: bytes) -> T | None:
        """Keep what a parameter set says; something of a slice, None for all other units."""


#: The luma quantizers that slices can state: of HEVC's 16 bits the lowest, H.264 goes to 14.
LOWEST, HIGHEST = -48, 51


class SliceQuantizers(NalHeaders[int]):
    """Reads the quantizers of slices."""

    def quantizer(self, packet: bytes) -> float | None:
        """The luma quantizer of the picture's first slice: at most 51, may be below 0 above 8 bits.

        None if it cannot be read.
        """
        found = next(self.slices(packet), None)
        # Damage may make up any number.
        return float(found) if found is not None and LOWEST <= found <= HIGHEST else None


def parameters(unit: bytes, head: int) -> Bits:
    """The bits of a parameter set behind the `head` bytes of its unit."""
    return Bits(payload(unit[head:]))


def slice_header(unit: bytes, head: int) -> Bits:
    """The first bits of a slice behind the `head` bytes of its unit."""
    return Bits(payload(unit[head : head + _SLICE_HEADER]))


def units_behind_lengths(record: bytes, position: int, count: int) -> tuple[list[bytes], int]:
    """`count` units from `position` of a record, each behind two bytes of length; and where they end."""
    units = []
    for _ in range(count):
        length = int.from_bytes(record[position : position + 2], "big")
        units.append(record[position + 2 : position + 2 + length])
        position += 2 + length
    return units, position


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
