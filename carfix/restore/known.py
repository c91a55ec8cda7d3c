"""Outputs that were found to be the whole of their inputs: a later run over the same archive need not read them again.

They are listed in the user's cache folder, each with what its two files were like. Whatever is wrong with that list,
files are compared anew, as without it.
"""

import contextlib
import os
import time
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from carfix.restore.engine.tune_cache import cache_folder
from carfix.restore.tasks import Task

if TYPE_CHECKING:
    from sqlite3 import Connection

FILE_NAME = "finished.sqlite3"
#: Seconds by which files must be older than now, or younger (clocks differ): within a disk's tick a change would not
#: show.
SETTLED = 10.0
#: Seconds to wait for another run that is writing.
_PATIENCE = 0.5
#: With these, an output is not the whole.
PARTS = ("start", "duration", "end")
#: No SQLite in this Python, no folder, a disk that is full or without locks, a damaged list.
_FAILURES = (ImportError, OSError)


def facts_of(task: Task, options: Mapping[str, Any]) -> str | None:
    """What must be the same if files are not to be compared again; None where it cannot be told.

    `options` are those of `restore_video`. Take it before files are compared: they may change meanwhile.
    """
    if any(options.get(name) is not None for name in PARTS):
        return None
    try:
        files = task.source.stat(), task.output.stat()
        source = os.path.realpath(task.source)
    except OSError:
        return None
    if any(abs(time.time() - file.st_mtime) < SETTLED for file in files):
        return None
    return repr((source, options.get("stream"), *((file.st_size, file.st_mtime_ns) for file in files)))


def is_known(task: Task, facts: str | None) -> bool:
    """Whether the output was remembered with these `facts`."""
    with contextlib.suppress(*_FAILURES), _listed() as table:
        row = table.execute("SELECT facts FROM finished WHERE output = ?", (_key(task),)).fetchone()
        return row is not None and facts is not None and row[0] == facts
    return False


def remember(task: Task, facts: str | None) -> None:
    """The output is the whole of its input, as long as `facts` are what they are."""
    if facts is None:
        return
    with contextlib.suppress(*_FAILURES), _listed() as table:
        table.execute("INSERT OR REPLACE INTO finished VALUES (?, ?)", (_key(task), facts))


def _key(task: Task) -> bytes:
    return os.fsencode(os.path.realpath(task.output))


@contextlib.contextmanager
def _listed() -> Iterator["Connection"]:
    """The table, to be read or written in one go. Raises one of `_FAILURES`."""
    import sqlite3  # which small builds of Python lack

    folder = cache_folder()
    if folder is None:
        raise FileNotFoundError
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / FILE_NAME
    try:
        with contextlib.closing(sqlite3.connect(path, timeout=_PATIENCE)) as table, table:
            table.execute("PRAGMA synchronous = OFF")  # what a power cut takes is compared again
            table.execute("CREATE TABLE IF NOT EXISTS finished (output BLOB PRIMARY KEY, facts TEXT)")
            yield table
    except sqlite3.Error as error:
        # Others are of a moment: it is busy, or there is no room.
        damaged = isinstance(error, sqlite3.DatabaseError) and not isinstance(error, sqlite3.OperationalError)
        if damaged:
            path.unlink(missing_ok=True)
        raise OSError(str(error)) from error
