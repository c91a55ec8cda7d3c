"""Files that shall outlive a power cut."""

import contextlib
import errno
import os
import zlib
from pathlib import Path

#: Bytes that are read at once.
_PIECE = 1 << 20


def checksum(path: Path) -> int:
    """CRC-32 of what `path` holds. Raises `OSError`."""
    crc = 0
    with path.open("rb") as file:
        while piece := file.read(_PIECE):
            crc = zlib.crc32(piece, crc)
    return crc


#: What disks say that cannot be forced: some in user space and of networks.
_NEVER_FORCED = (errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP)


def sync(descriptor: int) -> None:
    """Return when what was written to this file is on the disk, or at once where a disk cannot say when.

    Raises `OSError`.
    """
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in _NEVER_FORCED:
            raise


def force_to_disk(path: Path) -> None:
    """Return when what `path` holds is on the disk. Raises `OSError`."""
    with path.open("rb+") as file:  # Windows refuses it of files that are open for reading alone
        sync(file.fileno())


def sync_folder(folder: Path) -> None:
    """Force names that were created or renamed in `folder` to the disk, where the system can."""
    with contextlib.suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            sync(descriptor)
        finally:
            os.close(descriptor)
