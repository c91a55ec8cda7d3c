"""Files that end before their own headers say: FFmpeg reads them to the cut and reports nothing."""

import errno
import os
from collections.abc import Iterator
from pathlib import Path
from typing import IO

import av.error
from av.stream import Stream

_EBML_HEADER = b"\x1a\x45\xdf\xa3"
_SEGMENT = b"\x18\x53\x80\x67"
#: Enough for the EBML header and the head of the segment behind it.
_HEAD = 4096
#: Bytes of an MP4's box that state its kind and its length, if that fits into four.
BOX_HEAD = 8
#: What ends within its header is shorter than this.
_STUB = 1 << 16


def truncation(path: Path, stream: Stream) -> str | None:
    """What is missing at the end of the file, or None; only MP4 and MOV, AVI and Matroska state their size."""
    if not path.is_file():
        return None
    size = path.stat().st_size
    with path.open("rb") as file:
        head = file.read(_HEAD)
    stated = _riff_end(head) or _matroska_end(head) or _index_end(stream, path)
    if stated is None or stated <= size:
        return None
    return f"the last {stated - size} of its {stated} bytes are missing"


def lacks_index(path: Path) -> bool:
    """Whether it is an MP4 or MOV without its index ("moov"), written last, without which nothing can be read."""
    try:
        with path.open("rb") as file:
            kinds = [kind for kind, _ in boxes(file)]
    except OSError:
        return False
    return bool(kinds) and kinds[0] in (b"ftyp", b"wide", b"mdat") and b"moov" not in kinds


def blank(path: Path) -> str | None:
    """Why nothing was recorded into the file, if it is empty or begins with zeros; None for others."""
    try:
        with path.open("rb") as file:
            head = file.read(_HEAD)
    except OSError:
        return None
    if not head:
        return "it is empty: 0 bytes"
    if any(head):
        return None
    return "it begins with zeros: it was set aside and never recorded into, or the disk lost what it held"


def is_stub(path: Path, error: BaseException) -> bool:
    """Whether `error`, met as `path` was opened, only says that it ends before its first picture.

    FFmpeg calls that an input/output error in Matroska, which sounds like a broken disk: such a one does not give the
    bytes.
    """
    if not isinstance(error, av.error.EOFError) and getattr(error, "errno", None) != errno.EIO:
        return False
    try:
        with path.open("rb") as file:
            head = file.read(_STUB + 1)
    except OSError:
        return False
    # Transport streams have no header: of nothing, they are whole.
    return len(head) <= _STUB and (head.startswith(_EBML_HEADER) or not isinstance(error, av.error.EOFError))


def boxes(file: IO[bytes]) -> Iterator[tuple[bytes, int]]:
    """What an MP4 or MOV is made of: the kind of each box, and where it ends, which may be behind the file's end.

    Ends where there is no box, but damage.
    """
    size = file.seek(0, os.SEEK_END)
    position = 0
    while position + BOX_HEAD <= size:
        kind, _, length = box_at(file, position)
        if length == 0 and kind == b"mdat":  # up to the end of the file
            length = size - position
        if length < 8 or not kind.isalnum():
            return
        position += length
        yield kind, position


def box_at(file: IO[bytes], position: int) -> tuple[bytes, int, int]:
    """The kind of an MP4's box, the bytes of its head, and of all of it as it states them."""
    file.seek(position)
    head = file.read(2 * BOX_HEAD)
    length = int.from_bytes(head[:4], "big")
    if length == 1:  # it does not fit into four bytes
        return head[4:8], 2 * BOX_HEAD, int.from_bytes(head[8:], "big")
    return head[4:8], BOX_HEAD, length


def _riff_end(head: bytes) -> int | None:
    if head[:4] != b"RIFF" or len(head) < 12:
        return None
    return 8 + int.from_bytes(head[4:8], "little")


def _matroska_end(head: bytes) -> int | None:
    if not head.startswith(_EBML_HEADER):
        return None
    position = head.find(_SEGMENT)
    size = _ebml_size(head, position + len(_SEGMENT)) if position >= 0 else None
    return None if size is None else position + len(_SEGMENT) + size[1] + size[0]


def _ebml_size(head: bytes, position: int) -> tuple[int, int] | None:
    """Value and length in bytes of an EBML size; None for "unknown", which live recordings write."""
    if position >= len(head) or head[position] == 0:
        return None
    length = 9 - head[position].bit_length()
    value = int.from_bytes(head[position : position + length], "big") & ((1 << 7 * length) - 1)
    return None if value == (1 << 7 * length) - 1 else (value, length)


def _index_end(stream: Stream, path: Path) -> int | None:
    """Where the last sample of an MP4 or MOV ends; its index stands in the header and survives the cut.

    Fragments have an index each: there it is where the last box ends.
    """
    if "mov" not in stream.container.format.name:
        return None
    with path.open("rb") as file:
        found = list(boxes(file))
    if any(kind == b"moof" for kind, _ in found):
        return found[-1][1]
    return max((entry.pos + entry.size for entry in stream.index_entries), default=None)
