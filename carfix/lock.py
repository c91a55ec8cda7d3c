"""What one process works at a time: a second one ends before it has done anything."""

import contextlib
import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from carfix.errors import CarfixError

if sys.platform == "win32":
    import msvcrt
else:
    import fcntl

WINDOWS = sys.platform == "win32"
#: How often a file may be removed while it is locked. A disk whose numbers of files mean nothing has them all.
_TRIES = 20
#: Seconds between two looks at a lock that another process has.
_A_MOMENT = 0.1


@contextlib.contextmanager
def alone_in(folder: Path) -> Iterator[None]:
    """Keeps others out of `folder`, which exists, while the block runs. The end of the process ends it, too.

    Raises `CarfixError` if another process is at work there. Some network folders have no locks, and Windows opens no
    folders: nobody is kept out.
    """
    descriptor = None if WINDOWS else os.open(folder, os.O_RDONLY)
    try:
        if descriptor is not None and not _locked(descriptor):
            raise CarfixError(
                f"another carfix is at work in {folder}: wait until it is done, or give another folder"
            )
        yield
    finally:
        if descriptor is not None:
            os.close(descriptor)


def lock_file(path: Path) -> IO[bytes] | None:
    """`path`, made if need be, open and locked by this process; None if another one has it. Raises `OSError`.

    Who has it may remove it, and others may have opened it before: it locks nothing then, and the one that is there by
    now counts.
    """
    tries = 0
    while True:
        file = path.open("ab")
        try:
            if not _locked(file.fileno()):
                file.close()
                return None
            tries += 1
            if WINDOWS or tries == _TRIES or _is_at(path, file):
                return file
        except BaseException:
            file.close()
            raise
        file.close()


@contextlib.contextmanager
def one_at_a_time(path: Path, patience: float) -> Iterator[None]:
    """Lets one process after another into the block, by a lock of `path`, which is removed behind it.

    The end of a process frees it. Who has waited `patience` seconds goes in all the same (the other may stand still),
    and so does everyone where `path` cannot be made.
    """
    lock: IO[bytes] | None = None
    until = time.monotonic() + patience
    with contextlib.suppress(OSError):
        while (lock := lock_file(path)) is None and time.monotonic() < until:
            time.sleep(_A_MOMENT)
    try:
        yield
    finally:
        if lock is not None:
            with lock, contextlib.suppress(OSError):
                if WINDOWS:
                    lock.close()  # no file that is open is removed there
                path.unlink(missing_ok=True)


def _is_at(path: Path, file: IO[bytes]) -> bool:
    with contextlib.suppress(FileNotFoundError):
        return os.path.samestat(os.fstat(file.fileno()), path.stat())
    return False


def _locked(descriptor: int) -> bool:
    """Whether this process has the lock now; True as well where there are none (some network folders)."""
    try:
        if sys.platform == "win32":
            msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
        else:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (BlockingIOError, PermissionError):
        return False
    except OSError:
        pass
    return True
