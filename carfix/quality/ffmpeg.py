"""The `ffmpeg` executables of this machine, and which of them has the filters that a job needs.

PyAV's wheels contain neither spp nor libvmaf; the package imageio-ffmpeg brings an executable that has both.
"""

import dataclasses
import functools
import os
import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

from carfix.errors import MissingPartError
from carfix.video.address import address

#: A line of `ffmpeg -filters`: two or three flags, the name, the pads, a description.
_FILTER_LINE = re.compile(r"^ [A-Z.|]{2,3} +(\w+) +[AVN|]+->[AVN|]+", re.MULTILINE)

#: The option that says whether to crop, in the list of the program's own: older decoders have one of that name.
_CROPPING = "-apply_cropping"

#: The variable that names imageio-ffmpeg another executable than its own.
_CHOSEN = "IMAGEIO_FFMPEG_EXE"

#: Seconds after which an executable that should only list itself counts as broken.
_PATIENCE = 30


@dataclasses.dataclass(frozen=True)
class FFmpeg:
    """An executable and what it can do."""

    path: str
    version: str
    filters: frozenset[str]
    crops: bool = False  # pictures as containers say, unless it is told otherwise (since 7.1)

    def as_decoded(self) -> tuple[str, ...]:
        """Options by which pictures are read as they lie in the file, like all that is measured: not turned as it is to
        be shown, nor cropped by its container.
        """
        return ("-noautorotate", *(("-apply_cropping", "codec") if self.crops else ()))


@functools.lru_cache(maxsize=8)
def probe(path: str) -> FFmpeg | None:
    """What the executable at `path` can do; None if it does not run."""
    try:
        version = _output(path, "-version").split("\n", 1)[0]
        return FFmpeg(
            path=path,
            version=version,
            filters=frozenset(_FILTER_LINE.findall(_output(path, "-filters"))),
            crops=_CROPPING in _output(path, "-h", "long"),
        )
    except (OSError, subprocess.SubprocessError):
        return None


def find_ffmpeg(*filters: str, trial: Callable[[FFmpeg], str | None] | None = None) -> FFmpeg:
    """PATH's ffmpeg if it has all `filters` and passes `trial`, else imageio-ffmpeg's.

    `trial` returns why an executable will not do, None if it does. Raises `MissingPartError` that says what was
    looked at, what it lacks, and the cure.
    """
    looked_at = []
    for label, path in _candidates():
        ffmpeg = probe(path)
        if ffmpeg is None:
            looked_at.append(f"{label} does not run")
            continue
        missing = [name for name in filters if name not in ffmpeg.filters]
        if missing:
            looked_at.append(f"{label} has no filter {', '.join(missing)}")
            continue
        failure = trial(ffmpeg) if trial is not None else None
        if failure is None:
            return ffmpeg
        looked_at.append(f"{label}: {failure}")
    needed = ", ".join(filters)
    found = "; ".join(looked_at) or "there is none on this machine"
    cure = "install one with `pip install -U imageio-ffmpeg`"
    if _CHOSEN in os.environ:
        cure = f"unset {_CHOSEN}, which stands for imageio-ffmpeg's own"
    raise MissingPartError(f"this needs an ffmpeg with {needed} ({found}); {cure}")


def _candidates() -> list[tuple[str, str]]:
    candidates = []
    if on_path := shutil.which("ffmpeg"):
        candidates.append((f"{on_path}", on_path))
    try:
        import imageio_ffmpeg

        bundled = imageio_ffmpeg.get_ffmpeg_exe()
    except (ImportError, RuntimeError):  # not installed, or its wheel for this platform has no executable
        return candidates
    if bundled not in (path for _, path in candidates):
        candidates.append((bundled if _CHOSEN in os.environ else "imageio-ffmpeg's", bundled))
    return candidates


def _output(path: str, *arguments: str) -> str:
    result = subprocess.run(
        [path, "-hide_banner", *arguments], capture_output=True, timeout=_PATIENCE, check=True
    )
    return result.stdout.decode(errors="replace")  # it may print paths of its making in any encoding


def input_arguments(path: Path) -> list[str]:
    """`-i PATH` that no name of a file can turn into an option or a protocol."""
    return ["-i", address(path)]
