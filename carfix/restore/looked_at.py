"""Whether an input is still what it was when the work on it began."""

from pathlib import Path
from typing import NamedTuple


class Look(NamedTuple):
    """What a file was at a moment; all is 0 if it was not there."""

    inode: int = 0
    size: int = 0  # bytes
    time: int = 0  # of the last change, ns


def look_at(path: Path) -> Look:
    """What is under this name now."""
    try:
        found = path.stat()
    except OSError:
        return Look()
    return Look(found.st_ino, found.st_size, found.st_mtime_ns)


def replaced(before: Look, now: Look, *, whole: bool) -> bool:
    """Whether something else is there than was read: another file, or the same one cut or written anew.

    A recording that goes on grows, and keeps the frames that it had promised: of others they were not all found
    (`whole` is False). Some network disks give the same file another number now and then.
    """
    kept = now.inode == before.inode and now.size >= before.size and whole
    return now != Look() and not kept and changed(before, now)


def changed(before: Look, now: Look) -> bool:
    """Whether it has been written to, or another file is there, or none."""
    return before[1:] != now[1:]
