"""Linux with what Windows refuses: to remove or rename open files, to force to the disk what is only read."""

import errno
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from carfix.restore import state


def refuse_as_windows(monkeypatch: pytest.MonkeyPatch) -> None:
    import fcntl  # which Windows has not

    fsync = os.fsync

    def writable_only(descriptor: int) -> None:
        if fcntl.fcntl(descriptor, fcntl.F_GETFL) & os.O_ACCMODE == os.O_RDONLY:
            raise OSError(errno.EBADF, os.strerror(errno.EBADF))
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", writable_only)
    for name in ("unlink", "remove", "rename", "replace"):
        monkeypatch.setattr(os, name, _closed_only(getattr(os, name)))
    monkeypatch.setattr(state, "WINDOWS", True)


def _closed_only(function: Callable[..., None]) -> Callable[..., None]:
    def call(*paths: Any, dir_fd: int | None = None, **places: int | None) -> None:  # noqa: ANN401
        folder = Path() if dir_fd is None else Path(f"/proc/self/fd/{dir_fd}")
        for path in paths:
            if (folder / path).resolve() in _open_files():
                raise PermissionError(errno.EACCES, "used by another process", path)
        function(*paths, **places, **({} if dir_fd is None else {"dir_fd": dir_fd}))

    return call


def _open_files() -> set[Path]:
    return {path.resolve() for path in Path("/proc/self/fd").iterdir()}
