"""The shape of pixels in Matroska and WebM: FFmpeg's muxer takes it from where PyAV has no hand.

H.264 and HEVC say it in their stream as well; AV1, VP9, FFV1 and raw video do not, and without it anamorphic video is
shown too narrow. So a track is written with room in its name, and when the file is complete the shape takes that room:
nothing else moves.
"""

import dataclasses
import zlib
from collections.abc import Iterator, Sequence
from fractions import Fraction
from pathlib import Path

from av.video.stream import VideoStream

#: FFmpeg's names of the containers.
MATROSKA = ("matroska", "webm")
#: What a track's name ends with until the file is complete: more bytes than a shape takes, and no one's text.
ROOM = "\x1f" * 40

_SEGMENT, _CLUSTER, _TRACKS, _ENTRY = 0x18538067, 0x1F43B675, 0x1654AE6B, 0xAE
_CHECKSUM, _VOID, _NAME, _VIDEO = 0xBF, 0xEC, 0x536E, 0xE0
_DISPLAY_WIDTH, _DISPLAY_HEIGHT, _DISPLAY_UNIT = 0x54B0, 0x54BA, 0x54B2
#: The unit in which width and height are a ratio.
_RATIO = 3
#: Longest head of an element: four bytes of its kind, eight of its size.
_LONGEST_HEAD = 12


@dataclasses.dataclass(frozen=True, kw_only=True)
class Shape:
    """How a track is shown."""

    pixels: Fraction  # width of a pixel by its height
    width: int  # pixels
    height: int
    name: str  # of the track; empty for none

    def elements(self, format: str) -> bytes:
        """As part of a track's description. WebM knows pixels alone."""
        if format == "webm":
            width, height, unit = max(1, round(self.width * self.pixels)), self.height, b""
        else:
            ratio = self.pixels * self.width / self.height
            width, height, unit = ratio.numerator, ratio.denominator, _element(_DISPLAY_UNIT, _number(_RATIO))
        return _element(_DISPLAY_WIDTH, _number(width)) + _element(_DISPLAY_HEIGHT, _number(height)) + unit


def make_room(video: VideoStream, format: str, pixels: Fraction | None) -> Shape | None:
    """Make room in the name of a track, which has its size, for `pixels`; None where nothing is to be said of them."""
    if format not in MATROSKA or not pixels or pixels == 1:
        return None
    name = video.metadata.get("title", "")
    video.metadata["title"] = name + ROOM
    return Shape(pixels=pixels, width=video.width, height=video.height, name=name)


def write_shapes(path: Path, format: str, shapes: Sequence[Shape]) -> None:
    """Write `shapes` into the complete file `path`, one for each track with `ROOM`, in their order."""
    if not shapes:
        return
    with path.open("r+b") as file:
        position = 0
        while True:
            file.seek(position)
            head = file.read(_LONGEST_HEAD)
            if not head:
                return
            kind, start, size = _head(head, 0)
            if kind == _TRACKS:
                break
            if kind == _CLUSTER:
                return
            position += start if kind == _SEGMENT else start + size
        file.seek(position + start)
        tracks = _with_shapes(file.read(size), format, iter(shapes))
        assert len(tracks) == size
        file.seek(position + start)
        file.write(tracks)


def _with_shapes(tracks: bytes, format: str, shapes: Iterator[Shape]) -> bytes:
    parts = []
    summed = False
    for kind, data, whole in _children(tracks):
        if kind == _CHECKSUM:
            summed = True
        elif kind == _ENTRY:
            parts.append(whole[: len(whole) - len(data)] + _shaped(data, format, shapes))
        else:
            parts.append(whole)
    content = b"".join(parts)
    return _element(_CHECKSUM, zlib.crc32(content).to_bytes(4, "little")) + content if summed else content


def _shaped(entry: bytes, format: str, shapes: Iterator[Shape]) -> bytes:
    children = list(_children(entry))
    if not any(kind == _NAME and data.endswith(ROOM.encode()) for kind, data, _ in children):
        return entry
    shape = next(shapes)
    parts = []
    for kind, data, whole in children:
        if kind == _NAME:
            parts.append(_element(_NAME, data[: -len(ROOM)]) if shape.name else b"")
        elif kind == _VIDEO:
            parts.append(_element(_VIDEO, data + shape.elements(format)))
        else:
            parts.append(whole)
    content = b"".join(parts)
    return content + _element(_VOID, bytes(len(entry) - len(content) - 2))


def _children(data: bytes) -> Iterator[tuple[int, bytes, bytes]]:
    """Kind, content and the whole of each element in `data`."""
    position = 0
    while position < len(data):
        kind, start, size = _head(data, position)
        end = position + start + size
        yield kind, data[position + start : end], data[position:end]
        position = end


def _head(data: bytes, position: int) -> tuple[int, int, int]:
    """Kind of the element at `position`, the length of its head, and of its content."""
    length = 9 - data[position].bit_length()
    kind = int.from_bytes(data[position : position + length], "big")
    position += length
    wide = 9 - data[position].bit_length()
    size = int.from_bytes(data[position : position + wide], "big") & ((1 << 7 * wide) - 1)
    return kind, length + wide, size


def _element(kind: int, content: bytes) -> bytes:
    wide = 1
    while len(content) >= (1 << 7 * wide) - 1:
        wide += 1
    size = (len(content) | 1 << 7 * wide).to_bytes(wide, "big")
    return kind.to_bytes((kind.bit_length() + 7) // 8, "big") + size + content


def _number(value: int) -> bytes:
    return value.to_bytes((value.bit_length() + 7) // 8, "big")
