"""What y4m's header says of pixels: their shape and where chroma lies, to which PyAV has no way to the muxer."""

from pathlib import Path
from typing import IO

from carfix.video.source import SourceInfo

#: What FFmpeg's muxer writes where it does not know.
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
