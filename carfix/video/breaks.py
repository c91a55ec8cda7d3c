"""Files whose structure is damaged: FFmpeg looks for where it goes on, and reports nothing of what it has passed over.

Of Matroska that is the rest of a cluster, some seconds; zeros at the end, as a power cut leaves them, hide all that was
recorded there. Containers with an index, and transport streams, tell of such damage otherwise.
"""

import os
import sys
from pathlib import Path
from typing import IO

from carfix.video.truncation import boxes

_EBML_HEADER = b"\x1a\x45\xdf\xa3"
_SEGMENT, _CLUSTER = b"\x18\x53\x80\x67", b"\x1f\x43\xb6\x75"
#: Longest kind and size of an element.
_LONGEST_KIND, _LONGEST_HEAD = 4, 12
_FLASH = b"FLV\1"
#: Bytes before the length of FLV's header, of its tags' heads, and behind each: the length of the tag.
_FLASH_BEFORE_LENGTH, _FLASH_HEAD, _FLASH_TAIL = 5, 11, 4
#: Sound, video, and data in two codings.
_FLASH_KINDS = (8, 9, 15, 18)
#: HXVS and HXVT, of H.264 and HEVC: bytes of the header and of chunks' heads, frames and sound, the index at the end.
_CAMERA, _CAMERA_HEAD = (b"HXVS", b"HXVT"), 16
_CAMERA_KINDS, _CAMERA_INDEX = (b"HXVF", b"HXAF"), b"HXFI"
#: The end of what states no size, as live recordings write it: where the next of its kind begins.
_OPEN = sys.maxsize
#: Larger than the elements of hard compressed video: those are read from one end to the other.
_BUFFER = 1 << 16


def first_break(path: Path) -> int | None:
    """The first byte of what should be an element of Matroska, a box of fragmented MP4, a tag of FLV, or a chunk of
    HXVS (cameras' `.264` and `.265`), and is none.

    None for a file that is whole, or whose end is missing, and for other containers.
    """
    try:
        with path.open("rb", _BUFFER) as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(0)
            head = file.read(_LONGEST_HEAD)
            if head.startswith(_EBML_HEADER):
                return _matroska_break(file, size)
            if head.startswith(_FLASH):
                return _flash_break(file, size)
            if head.startswith(_CAMERA):
                return _camera_break(file, size)
            return _fragment_break(file, size)
    except OSError:  # a bad disk, which FFmpeg meets as well
        return None


def _matroska_break(file: IO[bytes], size: int) -> int | None:
    position, segment_end, cluster_end = 0, size, 0
    while position < min(size, segment_end):
        file.seek(position)
        head = file.read(_LONGEST_HEAD)
        length = 9 - head[0].bit_length()
        if length > _LONGEST_KIND:
            return position
        wide = 9 - head[length].bit_length() if length < len(head) else _LONGEST_HEAD
        if length + wide > len(head):
            return position if len(head) == _LONGEST_HEAD else None
        kind, start = head[:length], position + length + wide
        stated = int.from_bytes(head[length : length + wide], "big") & ((1 << 7 * wide) - 1)
        unknown = stated == (1 << 7 * wide) - 1
        if kind == _SEGMENT:
            position, segment_end, cluster_end = start, _OPEN if unknown else start + stated, 0
            continue
        around = segment_end if position >= cluster_end or kind == _CLUSTER else cluster_end
        end = around if unknown else start + stated
        if end > around or (unknown and kind != _CLUSTER):
            return position
        if kind == _CLUSTER:
            position, cluster_end = start, end
        else:
            position = end
    return None


def _fragment_break(file: IO[bytes], size: int) -> int | None:
    found = list(boxes(file))
    if not any(kind == b"moof" for kind, _ in found):
        return None
    end = found[-1][1]
    return end if end + 8 <= size else None


def _flash_break(file: IO[bytes], size: int) -> int | None:
    file.seek(_FLASH_BEFORE_LENGTH)
    position = int.from_bytes(file.read(4), "big") + _FLASH_TAIL
    while position + _FLASH_HEAD <= size:
        file.seek(position)
        head = file.read(_FLASH_HEAD)
        if head[0] not in _FLASH_KINDS:
            return position
        position += _FLASH_HEAD + int.from_bytes(head[1:4], "big") + _FLASH_TAIL
    return None


def ends_within_tag(path: Path) -> bool:
    """Whether it is an FLV that was cut: the last bytes of a whole one say how long its last tag is."""
    with path.open("rb") as file:
        if file.read(len(_FLASH)) != _FLASH:
            return False
        end = file.seek(-_FLASH_TAIL, os.SEEK_END)
        length = int.from_bytes(file.read(_FLASH_TAIL), "big")
        if not _FLASH_HEAD <= length <= end:
            return True
        file.seek(end - length)
        head = file.read(_FLASH_HEAD)
        return head[0] not in _FLASH_KINDS or int.from_bytes(head[1:4], "big") + _FLASH_HEAD != length


def _camera_break(file: IO[bytes], size: int) -> int | None:
    position = _CAMERA_HEAD
    while position + _CAMERA_HEAD <= size:
        file.seek(position)
        head = file.read(_CAMERA_HEAD)
        if head.startswith(_CAMERA_INDEX):
            return None
        if not head.startswith(_CAMERA_KINDS):
            return position
        position += _CAMERA_HEAD + int.from_bytes(head[4:8], "little")
    return None
