"""What was measured before, so that a rerun computes only what changed: one JSON line a measurement."""

import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any

from carfix.errors import CarfixError
from carfix.video.faults import reason

FILE_NAME = "evaluate-cache.jsonl"


def key(**parts: object) -> str:
    """A digest of everything that a measurement depends on."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def file_identity(path: Path) -> tuple[int, int]:
    """Size in bytes and time of change in ns. Raises `CarfixError` if the file is missing."""
    try:
        status = path.stat()
    except OSError as error:
        raise CarfixError(f"{path}: {error.strerror or error}; build the dataset again") from error
    return status.st_size, status.st_mtime_ns


class Cache:
    """Measurements by key in a file that is only appended to: a killed run loses at most its last line."""

    def __init__(self, path: Path | None) -> None:
        """`path` None keeps everything in memory alone. Raises `CarfixError` if what is there cannot be read."""
        self._path = path
        self._records: dict[str, Mapping[str, Any]] = {}
        for line in _lines(path) if path is not None else []:
            try:
                record = json.loads(line)
                key, value = record["key"], record["value"]
            except (ValueError, KeyError, TypeError):
                continue  # half a line: that measurement is repeated
            if isinstance(key, str) and isinstance(value, dict):
                self._records[key] = value

    def get(self, key: str) -> Mapping[str, Any] | None:
        """The measurement of `key`, None if it was never made."""
        return self._records.get(key)

    def put(self, key: str, value: Mapping[str, Any]) -> None:
        """Keep a measurement. A dataset that cannot be written to is measured anew every time."""
        self._records[key] = value
        if self._path is None:
            return
        try:
            with self._path.open("a+b") as file:
                record = json.dumps({"key": key, "value": value}) + "\n"
                file.write(_line_break(file) + record.encode())
        except OSError:
            self._path = None


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="utf-8", errors="replace").splitlines()
    except FileNotFoundError:
        return []
    except OSError as error:
        raise CarfixError(f"cannot read {path}: {reason(error)}; remove it, or use --no-cache") from error


def _line_break(file: IO[bytes]) -> bytes:
    """What a further line of `file` needs before it: a killed run may have left half a line."""
    if file.seek(0, os.SEEK_END) == 0:
        return b""
    file.seek(-1, os.SEEK_END)
    return b"" if file.read(1) == b"\n" else b"\n"
