"""Folders that one process works in at a time: a second one ends before it has done anything."""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

from carfix.errors import CarfixError

try:
    import fcntl
except ImportError:  # Windows: two runs are not kept apart there, nor can a folder be opened
    fcntl = None  # type: ignore[assignment]


@contextlib.contextmanager
def alone_in(folder: Path) -> Iterator[None]:
    """Keeps others out of `folder`, which exists, while the block runs. The end of the process ends it, too.

    Raises `CarfixError` if another process is at work there. Some network folders have no locks: nobody is kept out.
    """
    descriptor = os.open(folder, os.O_RDONLY) if fcntl is not None else None
    try:
        if descriptor is not None:
            with contextlib.suppress(OSError):
                _lock(descriptor, folder)
        yield
    finally:
        if descriptor is not None:
            os.close(descriptor)


def _lock(descriptor: int, folder: Path) -> None:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise CarfixError(
            f"another carfix is at work in {folder}: wait until it is done, or give another folder"
        ) from None
