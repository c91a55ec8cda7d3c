"""Files that shall outlive a power cut."""

import contextlib
import os
from pathlib import Path


def force_to_disk(path: Path) -> None:
    """Return when what `path` holds is on the disk. Raises `OSError`."""
    with path.open("rb+") as file:  # Windows refuses it of files that are open for reading alone
        os.fsync(file.fileno())


def sync_folder(folder: Path) -> None:
    """Force names that were created or renamed in `folder` to the disk, where the system can."""
    with contextlib.suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
