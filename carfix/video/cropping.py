"""Pictures of which an MP4 or MOV shows a part (`clap`); FFmpeg's players heed that, and PyAV has no word for it."""

import struct
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO

from av.video.stream import VideoStream

from carfix.video.truncation import BOX_HEAD, box_at

#: From a track's box to the descriptions of what is in it; what stands before the first of them, within its box.
_TO_DESCRIPTIONS, _COUNT = (b"mdia", b"minf", b"stbl", b"stsd"), 8
#: What stands in a description of video before the boxes within it, its own head included.
_DESCRIPTION = 86
#: Where a track's header states its number, by the version that it begins with.
_NUMBER = {0: 12, 1: 20}


def shown_size(path: Path, stream: VideoStream) -> tuple[int, int] | None:
    """Width and height in pixels of the part that is shown of a video; None where its container states none."""
    if not path.is_file() or "mov" not in stream.container.format.name:
        return None
    try:
        with path.open("rb") as file:
            size = file.seek(0, 2)
            for track in _within(file, 0, size, (b"moov", b"trak")):
                if _number(file, track) == stream.id:
                    return next(_shown(file, track), None)
    except (OSError, struct.error):  # who reads it says what is wrong
        pass
    return None


def crop_note(shown: tuple[int, int] | None, width: int, height: int) -> tuple[str, ...]:
    """A line if less than the whole picture is shown of the input."""
    if shown is None or shown == (width, height):
        return ()
    part = f"{shown[0]}x{shown[1]} of the picture's {width}x{height} pixels"
    return (f"the input says that {part} are shown, which is not kept: players will show all of it",)


def _number(file: IO[bytes], track: tuple[int, int]) -> int | None:
    for start, _ in _within(file, *track, (b"tkhd",)):
        file.seek(start)
        header = file.read(24)
        return int.from_bytes(header[_NUMBER.get(header[0], 12) :][:4], "big")
    return None


def _shown(file: IO[bytes], track: tuple[int, int]) -> Iterator[tuple[int, int]]:
    for start, end in _within(file, *track, _TO_DESCRIPTIONS):
        for place, _ in _within(file, start + _COUNT + _DESCRIPTION, end, (b"clap",)):
            file.seek(place)
            width, width_by, height, height_by = struct.unpack(">4I", file.read(16))
            if width_by and height_by:
                yield round(width / width_by), round(height / height_by)


def _within(file: IO[bytes], start: int, end: int, path: Sequence[bytes]) -> Iterator[tuple[int, int]]:
    """Beginning and end of what is in each box that `path` leads to, kind by kind."""
    while start + BOX_HEAD <= end:
        kind, before, length = box_at(file, start)
        if length < before:
            return
        if kind == path[0]:
            inside = start + before, min(end, start + length)
            yield from [inside] if len(path) == 1 else _within(file, *inside, path[1:])
        start += length
