"""How a file's path is given to FFmpeg, which takes addresses."""

import re
from pathlib import Path

#: With which FFmpeg takes what follows for a file, whatever is in its name.
FILE = "file:"
#: A path that was an address, its slashes made one: two letters or more, since one is a drive.
_ADDRESS = re.compile(r"([a-z][a-z0-9+.-]+):[/\\]", re.IGNORECASE)


def address(path: Path) -> str:
    """The address of a file. Without this FFmpeg reads a name such as 12:30:00.mp4 as one in a protocol "12"."""
    return f"{FILE}{path}"


def as_typed(path: Path) -> str:
    """`path` for messages, with both slashes if it was an address."""
    return _ADDRESS.sub(r"\1://", str(path), count=1) if _ADDRESS.match(str(path)) else str(path)


def address_hint(path: Path) -> str:
    """What to do where someone gave an address for a file, as the end of a message; else nothing."""
    if str(path).startswith(FILE):
        return f"; carfix takes paths, not addresses: leave {FILE} out"
    if str(path) == "-":  # where that is read, nobody looks for a file
        return "; carfix restore alone reads from a pipe: write what comes into a file (ffmpeg -i - -c copy FILE)"
    if not _ADDRESS.match(str(path)):
        return ""
    return (
        "; carfix reads files and pipes, not addresses: "
        "ffmpeg -i ADDRESS -c copy -f nut - | carfix restore - OUTPUT"
    )


def output_hint(path: Path) -> str:
    """The same where someone gave an address for a file to write."""
    if not _ADDRESS.match(str(path)):
        return ""
    return (
        "; carfix writes files and pipes, not addresses: "
        "carfix restore INPUT - -f nut | ffmpeg -i - -c copy -f FORMAT ADDRESS"
    )
