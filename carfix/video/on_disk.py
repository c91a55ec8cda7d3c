"""Files that shall outlive a power cut."""

import os
from pathlib import Path


def force_to_disk(path: Path) -> None:
    """Return when what `path` holds is on the disk. Raises `OSError`."""
    with path.open("rb+") as file:  # Windows refuses it of files that are open for reading alone
        os.fsync(file.fileno())
