"""Frames that were decoded once, in files beside the dataset that are mapped into memory.

A file's name has everything in it that decides what it holds, so that a dataset that was built anew makes new ones.
"""

import dataclasses
import errno
import hashlib
import io
import json
import os
import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np

from carfix.errors import CarfixError
from carfix.training.clip import cut
from carfix.training.encoding import Luma
from carfix.video.faults import reason
from carfix.video.manifest import Clip

FOLDER = ".cache"

#: Why a dataset that others may read cannot be written to.
_FORBIDDEN = (errno.EROFS, errno.EACCES, errno.EPERM)

#: Frames, height and width.
Shape = tuple[int, int, int]


def pristine_file(dataset: Path, clip: Clip, limit: int) -> Path:
    """Where up to `limit` pristine frames of a clip are kept."""
    return _folder(dataset, clip, limit) / "pristine.npy"


def decoded_file(dataset: Path, clip: Clip, variant: str, limit: int) -> Path:
    """Where up to `limit` decoded frames of a variant are kept."""
    # Its size, PSNR and SSIM tell it from one that was encoded anew.
    made = _digest(dataclasses.asdict(clip.variants[variant]))
    return _folder(dataset, clip, limit) / f"{variant}-{made}.npy"


def mapped(file: Path, shape: Shape) -> Luma | None:
    """The frames in `file`, mapped; None if it is not there or not whole."""
    head = _head(shape)
    try:
        with file.open("rb") as stream:
            # Not `np.load`: a damaged head makes it raise whatever Python's parser does.
            if stream.read(len(head)) != head:
                return None
        frames: Luma = np.memmap(file, np.uint8, "r", len(head), shape)
    except (OSError, ValueError):  # a file that was cut is smaller than its frames
        return None
    return frames


def _head(shape: Shape) -> bytes:
    """What a file of NumPy begins with."""
    head = io.BytesIO()
    fields = {"descr": np.dtype(np.uint8).str, "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(head, fields)
    return head.getvalue()


def kept(file: Path, shape: Shape, make: Callable[[], Luma]) -> Luma:
    """The frames in `file`, which `make` gives where it does not hold them. Raises `CarfixError`."""
    frames = mapped(file, shape)
    if frames is None:
        _write(file, make())
        frames = mapped(file, shape)
    if frames is None:
        raise CarfixError(f"{file} cannot be read again; delete the folder {file.parent.parent}")
    return frames


def _write(file: Path, frames: Luma) -> None:
    temporary = file.with_name(f".{file.name}.{os.getpid()}-{threading.get_ident()}.tmp")
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with temporary.open("wb") as stream:
            # Not `np.save`: it does not say why it could not write.
            stream.write(_head(frames.shape))
            stream.write(np.ascontiguousarray(frames).data)
        try:
            temporary.replace(file)
        except OSError:
            # Windows, where another thread was ahead and has the same frames mapped already.
            if mapped(file, frames.shape) is None:
                raise
    except OSError as error:
        cure = (
            "link the dataset's manifest.json and clips into a folder that can be written to, and give that"
            if error.errno in _FORBIDDEN
            else "it needs room, less with fewer --frames"
        )
        raise CarfixError(
            f"cannot write the cache of decoded frames {file}: {reason(error)}; {cure}"
        ) from error
    finally:
        temporary.unlink(missing_ok=True)


def _folder(dataset: Path, clip: Clip, limit: int) -> Path:
    fields = (clip.source_sha256, cut(clip.settings), clip.width, clip.height, clip.frames)
    return dataset / FOLDER / f"{clip.name}-{_digest(fields)}-{limit}"


def _digest(fields: object) -> str:
    return hashlib.sha256(json.dumps(fields, sort_keys=True).encode()).hexdigest()[:12]
