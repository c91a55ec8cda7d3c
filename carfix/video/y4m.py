"""What y4m's header says of frames: their fields, the shape of pixels and where chroma lies, which PyAV passes on to no
muxer of bare frames.
"""

from pathlib import Path
from typing import IO

from carfix.video.source import BOTTOM_FIRST_ORDERS, SourceInfo

#: What FFmpeg's muxer writes where it does not know.
_NO_FIELDS = b" Ip "
_NO_SHAPE = b" A0:0 "
_NO_PLACE = b" C420jpeg XYSCSS=420JPEG"
#: Where chroma of 4:2:0 with eight bits lies, by FFmpeg's names.
_PLACES = {"left": b" C420mpeg2 XYSCSS=420MPEG2", "topleft": b" C420paldv XYSCSS=420PALDV"}


class Y4mFile:
    """A file for the muxer to write into; nobody goes back in it."""

    def __init__(self, target: Path | IO[bytes], info: SourceInfo) -> None:
        """Raises `OSError`."""
        self._opened = isinstance(target, Path)
        self._file: IO[bytes] = target.open("wb") if isinstance(target, Path) else target
        self._known = {}
        if info.interlaced:
            self._known[_NO_FIELDS] = b" Ib " if info.field_order in BOTTOM_FIRST_ORDERS else b" It "
        if pixels := info.sample_aspect_ratio:
            self._known[_NO_SHAPE] = f" A{pixels.numerator}:{pixels.denominator} ".encode()
        if (place := info.colour.chroma_location) in _PLACES:
            self._known[_NO_PLACE] = _PLACES[place]
        self._begun = False

    def write(self, data: bytes) -> int:
        """All of `data`, the first of which begins with the header."""
        said = data
        if not self._begun:
            self._begun = True
            header, end, frames = data.partition(b"\n")
            for unknown, known in self._known.items():
                header = header.replace(unknown, known)
            said = header + end + frames
        self._file.write(said)
        return len(data)

    def finish(self) -> None:
        """Close the file if it was opened here. Raises `OSError`."""
        if self._opened:
            self._file.close()
