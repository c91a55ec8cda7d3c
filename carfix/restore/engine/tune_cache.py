"""What was found by timing, kept in the user's cache folder: a resumed run must compute what the first one did."""

import contextlib
import dataclasses
import hashlib
import json
import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar

from carfix.lock import one_at_a_time

T = TypeVar("T")

#: Seconds to wait for another process that is finding the same: more than a timing takes where little else runs.
_PATIENCE = 120.0


def cache_folder(environment: Mapping[str, str] = os.environ, platform: str = sys.platform) -> Path | None:
    """carfix's folder among the user's caches; None where there is no home."""
    if given := environment.get("XDG_CACHE_HOME"):
        return Path(given) / "carfix"
    if platform == "win32":
        local = environment.get("LOCALAPPDATA")
        return Path(local) / "carfix" / "Cache" if local else None
    home = environment.get("HOME") or _home_of_user()
    if not home:
        return None
    return Path(home) / ("Library/Caches" if platform == "darwin" else ".cache") / "carfix"


def _home_of_user() -> str | None:
    """As the system's list of users has it: cron and services may set no HOME, and timing anew for each file costs."""
    with contextlib.suppress(ImportError, KeyError):
        import pwd

        return pwd.getpwuid(os.getuid()).pw_dir
    return None


@contextlib.contextmanager
def stand_in_cache() -> Iterator[Path | None]:
    """An `XDG_CACHE_HOME` for the processes of one run, where the user's caches cannot be written to; else None.

    Each of thousands of files has a process of its own, and timing takes longer than a short clip. What is in the
    user's cache folder, which may be read alone, is in it, too.
    """
    folder = cache_folder()
    with contextlib.ExitStack() as stack:
        instead: Path | None = None
        if folder is None or not _takes_files(folder):
            with contextlib.suppress(OSError):  # no room there either: each process finds out for itself
                instead = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="carfix-")))
        if instead is not None and folder is not None:
            with contextlib.suppress(OSError):
                shutil.copytree(folder, instead / "carfix")
        yield instead


def _takes_files(folder: Path) -> bool:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder, buffering=0) as file:
            file.write(bytes(4096))  # a full disk takes names
    except OSError:
        return False
    return True


class TuneCache:
    """Small facts by everything that they depend on, one file each. The first writer of several wins."""

    def __init__(self, folder: Path | None) -> None:
        """`folder` None, or one that cannot be written to, keeps nothing: everything is found again."""
        self._folder = folder

    def get_or_find(self, key: Mapping[str, Any], read: Callable[[Any], T], find: Callable[[], T]) -> T:
        """The value of `key`, found by `find` if it is not there; by one process, while others wait for it.

        A value is a dataclass or JSON itself; `read` makes one of its JSON form (a dataclass's fields), or raises
        `ValueError`, `KeyError` or `TypeError` if it is none.
        """
        if self._folder is None:
            return find()
        digest = hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()
        path = self._folder / f"tune-{digest[:32]}.json"
        with contextlib.suppress(_Unusable):
            return _read(path, key, read)
        with contextlib.suppress(OSError):
            path.parent.mkdir(parents=True, exist_ok=True)
        # Timings beside each other take many times as long, and disturb each other: what they find is kept for good.
        with one_at_a_time(path.with_name(f".{path.stem}.lock"), _PATIENCE):
            with contextlib.suppress(_Unusable):
                return _read(path, key, read)
            found = find()
            with contextlib.suppress(OSError):
                self._write(path, key, found, read)
        # Another process may have been first all the same: all that run beside each other compute alike.
        with contextlib.suppress(_Unusable):
            return _read(path, key, read)
        return found

    def _write(
        self, path: Path, key: Mapping[str, Any], value: object, read: Callable[[Any], object]
    ) -> None:
        fields = (
            dataclasses.asdict(value)
            if dataclasses.is_dataclass(value) and not isinstance(value, type)
            else value
        )
        descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=".tune-")
        temporary = Path(name)
        try:
            with os.fdopen(descriptor, "w", encoding="utf-8") as file:
                json.dump({"key": key, "value": fields}, file, indent=1)
            try:
                path.hardlink_to(temporary)  # refused where the file is there already
            except OSError:
                try:
                    _read(path, key, read)
                except _Unusable:
                    temporary.replace(path)  # damaged, or a file system without links
        finally:
            temporary.unlink(missing_ok=True)


class _Unusable(Exception):
    """There is no such file, or it is damaged or another key's."""


def _read(path: Path, key: Mapping[str, Any], read: Callable[[Any], T]) -> T:
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
        if record["key"] != json.loads(json.dumps(key)):
            raise ValueError("another key's")
        return read(record["value"])
    except (OSError, ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError) as error:
        raise _Unusable from error
