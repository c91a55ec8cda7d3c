"""Where the output goes: whether it may and can be written there, and whether there is room."""

import contextlib
import hashlib
import os
import shutil
import tempfile
from collections.abc import Iterable
from pathlib import Path

from carfix.errors import CarfixError
from carfix.video.address import as_typed, output_hint
from carfix.video.faults import reason
from carfix.video.sink import SegmentFile
from carfix.video.source import SourceInfo
from carfix.video.timeline import Timeline

#: Segments and the file that they are joined into lie beside each other for a while.
_COPIES = 2
#: Bytes in a name: what the usual file systems take, but for encrypted ones (eCryptfs, as on many a NAS: 143).
_LONGEST_NAME = 255
#: A restored file is rarely smaller than its input at the default quality: with less room than this part of the
#: input's size there is no hope, with less than `_COPIES` of it some worry. How much larger it gets, some four times
#: or not at all, only finished segments tell: see `RoomLeft`.
_HOPELESS = 0.5
#: Frames stored without loss or nearly so get far smaller; their size says nothing about the output's.
_LARGE_CODECS = ("rawvideo", "ffv1", "huffyuv", "utvideo", "prores", "dnxhd", "v210", "mjpeg", "png")


def fitting(name: str, output: Path) -> Path:
    """The file `name` beside `output`, or if that is too long for a file system, one called by a hash of it."""
    if len(os.fsencode(name)) > _longest_name(output.parent):
        name = f".{hashlib.sha256(os.fsencode(output.name)).hexdigest()[:32]}{Path(name).suffix}"
    return output.with_name(name)


def _longest_name(folder: Path) -> int:
    """Bytes in a name on the disk of `folder`; some tell more than they take."""
    told = 0
    with contextlib.suppress(OSError, AttributeError):  # not there yet; Windows
        told = os.pathconf(folder, "PC_NAME_MAX")
    return min(_LONGEST_NAME, told) if told > 0 else _LONGEST_NAME


def part_of(output: Path) -> Path:
    """Under what name `output` grows until it is complete."""
    return fitting(f".{output.name}.part", output)


def same_file(source: Path, output: Path) -> bool:
    """Also through symbolic and hard links."""
    with contextlib.suppress(OSError):
        return source.samefile(output)
    return False


def tells_case(folder: Path) -> bool:
    """Whether the disk of `folder`, which need not be there yet, takes `cam.mp4` and `CAM.mp4` for two files."""
    try:
        with tempfile.NamedTemporaryFile(prefix=".carfix-", dir=_existing(folder)) as file:
            name = Path(file.name)
            return not name.with_name(name.name.upper()).exists()
    except OSError:
        return True  # who writes there says what is wrong


def _existing(folder: Path) -> Path:
    while not folder.exists() and folder.parent != folder:
        folder = folder.parent
    return folder


def check_place(output: Path, *, overwrite: bool, parents: bool) -> None:
    """Raises `CarfixError` if `output` is in the way or its folder is not there or not writable.

    With `parents`, missing folders are fine where they can be created.
    """
    try:
        if output.is_dir():
            raise CarfixError(f"the output {output} is a folder; name a file in it")
        if output.exists() and not output.is_file():
            # What is written under another name and renamed would take its place: of /dev/null, say.
            raise CarfixError(
                f"{output} is a device or a pipe, which a file would take the place of; name a file"
            )
        if output.exists() and not overwrite:
            raise CarfixError(f"{output} exists already; -y overwrites it")
    except OSError as error:  # in a folder that may not be searched
        raise CarfixError(f"cannot write {output}: {reason(error)}") from error
    folder = _existing(output.parent) if parents else output.parent
    if not folder.is_dir():
        raise CarfixError(f"there is no folder {as_typed(folder)} to write to{output_hint(output)}")
    if not os.access(folder, os.W_OK):
        raise CarfixError(f"the folder {folder} is not writable")


def make_folder(folder: Path) -> None:
    """Create `folder` and those above it. Raises `CarfixError`."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise CarfixError(f"cannot create the folder {folder}: {reason(error)}") from error


def copy_times(source: Path, target: Path) -> str | None:
    """Give `target` the times of `source`, as `cp --preserve=timestamps` does. A warning if that cannot be."""
    try:
        times = source.stat()
        os.utime(target, ns=(times.st_atime_ns, times.st_mtime_ns))
    except OSError as error:  # not worth the work that is done
        return f"the times of {source} could not be kept: {reason(error)}"
    return None


def check_room(
    info: SourceInfo, timeline: Timeline, output: Path, *, frames: int, kept: int = 0
) -> str | None:
    """A warning if the disk may get full, None if not. Raises `CarfixError` if it surely will.

    `frames` are wanted of the timeline's; `kept` bytes of an earlier run's work are there, which is used or goes.
    """
    whole = info.path.stat().st_size
    if info.codec in _LARGE_CODECS:
        whole -= int(timeline.sizes.sum())
    size = whole * frames / len(timeline.presentation)
    try:
        free = shutil.disk_usage(_existing(output.parent)).free + kept
    except OSError:
        return None
    if free < _HOPELESS * size:
        raise CarfixError(
            f"there is no room for {output}: {_megabytes(free)} free, about {_megabytes(_COPIES * size)} needed"
        )
    if free < _COPIES * size:
        return f"{_megabytes(free)} free beside {output}; {_megabytes(_COPIES * size)} or more may be needed"
    return None


class RoomLeft:
    """Whether the rest of a job will find room, as far as its finished segments tell."""

    def __init__(self, output: Path, *, frames: int, earlier: Iterable[SegmentFile]) -> None:
        """`frames` are those of the whole output, `earlier` segments finished."""
        self._output = output
        self._frames = frames
        self._finished = self._size = 0
        for segment in earlier:
            self._add(segment)
        self._told = False

    def _add(self, segment: SegmentFile) -> None:
        self._finished += segment.frames
        self._size += segment.size

    def after(self, segment: SegmentFile | None) -> str | None:
        """A warning, once, if at the rate of the finished segments, now `segment` too, the disk will get full."""
        if segment is not None:
            self._add(segment)
        if self._told or not self._finished:
            return None
        whole = self._size / self._finished * self._frames
        needed = _COPIES * whole - self._size
        try:
            free = shutil.disk_usage(self._output.parent).free
        except OSError:
            return None
        if free >= needed:
            return None
        self._told = True
        return (
            f"{_megabytes(free)} free beside {self._output}, which will be about {_megabytes(whole)}: "
            f"{_megabytes(needed)} more are needed until it is complete"
        )


def _megabytes(size: float) -> str:
    return f"{size / 1e6:.0f} MB"
