"""Small files that have their names only when they are complete."""

import contextlib
import os
import threading
from collections.abc import Iterator
from pathlib import Path

from carfix.interruption import unfinished


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Where to write what `path` is to hold: that becomes `path` behind the block.

    If anything fails, `path` stays as it was, and nothing else is left. Raises `OSError` if it cannot be renamed.
    """
    # Not made of the file's own name, which may be as long as the file system allows. Threads may write beside each
    # other in one folder.
    temporary = path.with_name(f".carfix-{os.getpid()}-{threading.get_ident()}.tmp")
    with unfinished(temporary):
        yield temporary
        temporary.replace(path)
