"""Machine code, and what goes with it, kept in the user's cache folder: to make it takes longer than a short clip.

What lies there runs in this process, or steers what does. Only a file of this user's that nobody else may write is
taken, and only whole and under its own name: it begins with the SHA-256 of its name and of what follows.
"""

import contextlib
import functools
import hashlib
import os
import stat
import tempfile
from collections.abc import Callable
from pathlib import Path

from carfix.restore.engine.tune_cache import cache_folder

_DIGEST_BYTES = hashlib.sha256().digest_size
#: Folders of `carfix.restore.engine` whose programs write code.
_WRITERS = ("llvm", "winograd", "amx")


def made_once(
    key: str, make: Callable[[], bytes], folder: Path | None = None, *, suffix: str = ".o"
) -> bytes:
    """The file of `key`, made by `make` if it is not in `folder` (None: the user's); carfix's own writers are part of
    the key.
    """
    folder = folder or cache_folder()
    if folder is None:
        return make()
    name = hashlib.sha256(f"{_writers_sha256()} {key}".encode()).hexdigest()[:32]
    path = folder / f"code-{name}{suffix}"
    code = _read(path)
    if code is None:
        code = make()
        with contextlib.suppress(OSError):
            _write(path, code)
    return code


@functools.cache
def _writers_sha256() -> str:
    """Of the programs that write code: another version, or a change of it, writes other code."""
    digest = hashlib.sha256()
    engine = Path(__file__).parent.parent
    for path in sorted(path for folder in _WRITERS for path in (engine / folder).glob("*.py")):
        digest.update(f"{path.relative_to(engine).as_posix()} {path.stat().st_size}\n".encode())
        digest.update(path.read_bytes())
    return digest.hexdigest()


def _read(path: Path) -> bytes | None:
    """What `_write` wrote; None if it is not there, damaged, or not safely ours."""
    try:
        with path.open("rb") as file:
            if not _is_ours(os.fstat(file.fileno())):
                return None
            record = file.read()
    except OSError:
        return None
    digest, code = record[:_DIGEST_BYTES], record[_DIGEST_BYTES:]
    return code if _digest(path, code) == digest else None


def _digest(path: Path, code: bytes) -> bytes:
    return hashlib.sha256(path.name.encode() + code).digest()


def _is_ours(status: os.stat_result) -> bool:
    if not hasattr(os, "getuid"):
        return True  # Windows keeps other users out of the folder itself
    return status.st_uid == os.getuid() and not status.st_mode & (stat.S_IWGRP | stat.S_IWOTH)


def _write(path: Path, code: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=".code-")  # for this user alone
    temporary = Path(name)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(_digest(path, code) + code)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
