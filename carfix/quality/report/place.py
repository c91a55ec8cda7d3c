"""Where a page may be written: never over a video, and known before anything is measured."""

from collections.abc import Sequence
from pathlib import Path

from carfix.errors import CarfixError, UsageError
from carfix.replacing import replacing
from carfix.restore.place import check_place, same_file
from carfix.video.faults import reason

#: What an existing file must be called to be taken for a page that a further one may replace.
SUFFIXES = (".html", ".htm")

_PIPE = Path("-")


def check_page(page: Path, inputs: Sequence[Path]) -> None:
    """Raises `UsageError` if `page` is a pipe, `CarfixError` if it is one of `inputs` or cannot be written."""
    if page == _PIPE:
        raise UsageError("--html writes a file, not to stdout: name it, as in --html report.html")
    check_place(page, overwrite=True, parents=False)
    for path in inputs:
        if same_file(path, page):
            raise CarfixError(f"the page {page} is the input {path}; name another file behind --html")
    if page.exists() and not (page.is_file() and page.suffix.lower() in SUFFIXES):
        raise CarfixError(
            f"{page} exists already and is no page (.html): --html does not overwrite it; name another file"
        )


def write_whole(page: Path, content: bytes) -> None:
    """Write a file under a temporary name and rename it. Raises `CarfixError` if that cannot be."""
    try:
        with replacing(page) as temporary:
            temporary.write_bytes(content)
    except OSError as error:
        raise CarfixError(f"cannot write {page}: {reason(error)}") from error
