"""The bytes of a pipe as they come, for FFmpeg to read."""

import io
import os
import select
from collections.abc import Callable
from typing import IO, Any

from carfix.interruption import A_WHILE


class Arriving:
    """A stream of bytes that hands out what is there, and ends when nobody wants more."""

    def __init__(self, source: IO[bytes]) -> None:
        # Below Python's buffer, which waits for as many as FFmpeg has room for: 32 KB, seconds of a camera.
        self._file: Any = getattr(source, "raw", source)
        self._tells = os.name == "posix" and _has_number(source)  # whether there is something to read
        #: Asked while nothing comes: a camera that is silent must not hold back the end of a run.
        self.wanted: Callable[[], bool] = lambda: True

    def read(self, size: int) -> bytes:
        """At most `size` bytes; none at the end."""
        while self._tells and not select.select([self._file], [], [], A_WHILE)[0]:
            if not self.wanted():
                return b""
        data: bytes = self._file.read(size)
        return data

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401 - going back, where the stream is a file
        return getattr(self._file, name)


def _has_number(source: IO[bytes]) -> bool:
    try:
        return source.fileno() >= 0
    except (AttributeError, io.UnsupportedOperation):
        return False
