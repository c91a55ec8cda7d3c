"""Folders for files of a moment, where the system has its own such."""

import contextlib
import errno
import tempfile
from collections.abc import Iterator
from pathlib import Path

from carfix.errors import CarfixError

#: What a disk, or a user's share of it, says that is full.
FULL = frozenset((errno.ENOSPC, errno.EDQUOT))


@contextlib.contextmanager
def scratch(prefix: str = "carfix-") -> Iterator[Path]:
    """An empty folder, which is gone behind the block.

    Raises `CarfixError` where there is no place for one (a container that may only be read), or if the block fails
    since it is full: neither is a fault of what the block wrote there to try it.
    """
    with contextlib.ExitStack() as stack:
        try:
            # Whoever wrote there and failed may hold a file open, which Windows does not remove.
            made = tempfile.TemporaryDirectory(prefix=prefix, ignore_cleanup_errors=True)
        except OSError as error:
            raise CarfixError(
                f"no folder takes temporary files ({error.strerror}); set TMPDIR to one that does"
            ) from error
        folder = Path(stack.enter_context(made))
        try:
            yield folder
        except Exception as error:
            if not _is_full(error):
                raise
            raise CarfixError(
                f"the folder for temporary files is full: make room in {folder.parent}, or set TMPDIR to another"
            ) from error


def _is_full(error: BaseException | None) -> bool:
    """Whether it, or what it came of, is for want of room."""
    while error is not None and getattr(error, "errno", None) not in FULL:
        error = error.__cause__ or error.__context__
    return error is not None
