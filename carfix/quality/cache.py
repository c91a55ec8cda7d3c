"""What was measured before, so that a rerun computes only what changed: one JSON line a measurement."""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from carfix.errors import CarfixError

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
        """`path` None keeps everything in memory alone."""
        self._path = path
        self._records: dict[str, Mapping[str, Any]] = {}
        if path is not None and path.exists():
            for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
                try:
                    record = json.loads(line)
                    self._records[record["key"]] = record["value"]
                except (ValueError, KeyError, TypeError):
                    continue  # half a line: that measurement is repeated

    def get(self, key: str) -> Mapping[str, Any] | None:
        """The measurement of `key`, None if it was never made."""
        return self._records.get(key)

    def put(self, key: str, value: Mapping[str, Any]) -> None:
        """Keep a measurement. A dataset that cannot be written to is measured anew every time."""
        self._records[key] = value
        if self._path is None:
            return
        try:
            with self._path.open("a", encoding="utf-8") as file:
                file.write(json.dumps({"key": key, "value": value}) + "\n")
        except OSError:
            self._path = None
