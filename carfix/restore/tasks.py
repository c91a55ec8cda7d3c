"""From the command's paths to single files: folders walked, trees mirrored, every output named."""

import dataclasses
import os
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from fnmatch import fnmatch
from pathlib import Path

from carfix.errors import CarfixError, UsageError
from carfix.restore.place import same_file, tells_case
from carfix.video.encoder_settings import DEFAULT_CODEC
from carfix.video.faults import reason
from carfix.video.muxer import Y4M, output_format, suffix_holds
from carfix.video.suffixes import VIDEO_SUFFIXES

#: Inputs that are no container worth writing: raw streams lose all times, some formats can only be read, and others
#: cannot hold H.264 (Ogg, FFmpeg's MXF with most sound) or give its frames back at their times (ASF).
_REPLACED_SUFFIXES = frozenset(
    (
        *(".264", ".h264", ".265", ".h265", ".hevc", ".y4m", ".dav", ".ps"),
        *(".asf", ".wmv", ".ogv", ".mxf"),
    )
)
#: Containers for the video of encoders whose names begin so: WebM holds no other, and in MPEG's program streams few
#: players expect another.
_WEBM_CODECS = ("libvpx", "libsvtav1", "libaom", "librav1e", "av1_", "vp8_", "vp9_")
_SUFFIXES_FOR = {".webm": _WEBM_CODECS} | dict.fromkeys((".vob", ".mpg", ".mpeg"), ("mpeg1", "mpeg2"))
_DEFAULT_SUFFIX = ".mkv"
#: Suffixes for containers that `-f` names, where they are not their names.
_FORMAT_SUFFIXES = {
    "matroska": ".mkv",
    "mpegts": ".ts",
    Y4M: ".y4m",
    "ipod": ".m4v",
    "svcd": ".vob",
}


@dataclasses.dataclass(frozen=True)
class Task:
    """One file to restore."""

    source: Path
    output: Path


def plan_tasks(
    inputs: Sequence[Path],
    output: Path,
    *,
    recursive: bool = False,
    include: Sequence[str] = (),
    exclude: Sequence[str] = (),
    format: str | None = None,
    codec: str = DEFAULT_CODEC,
) -> list[Task]:
    """Inputs and their outputs.

    One input file goes into the file `output`. Several, a folder, or an `output` that is a folder: each file keeps
    its name, and files in folders (`recursive`) their place in the tree. `include` and `exclude` are glob
    patterns for names and for paths within the walked folder. A suffix whose container cannot hold the video that the
    encoder `codec` makes becomes .mkv, and `format` says that of all; where a new one would give two files one name,
    they keep their old suffixes before it. Raises `UsageError` for a folder without `recursive`, for two inputs
    with the same output, and where no file is left, `CarfixError` for a single folder that is not there.
    """
    # `os.path` takes what may not be looked at for something that is not there; `Path` raises.
    for path in inputs:
        if os.path.isdir(path) and not recursive:  # noqa: PTH112
            raise UsageError(f"{path} is a folder; -r restores the videos in it")
    into_folder = os.path.isdir(output)  # noqa: PTH112
    single = len(inputs) == 1 and not os.path.isdir(inputs[0])  # noqa: PTH112
    if single and recursive:
        # A folder that is not there (a disk that is not mounted) is no file, whose output would be judged by its name.
        try:
            inputs[0].stat()
        except OSError as error:
            raise CarfixError(f"cannot read {inputs[0]}: {reason(error)}") from error
    if single and not into_folder:
        return [Task(inputs[0], output)]
    if os.path.exists(output) and not into_folder:  # noqa: PTH110
        raise UsageError(f"the output of several inputs must be a folder, and {output} is a file")
    if not (into_folder or recursive) and output.suffix.lower() in VIDEO_SUFFIXES:
        # As for FFmpeg, which would join them: a folder of that name is not what was meant.
        raise UsageError(
            f"several inputs go into a folder, each for itself, and {output} is called as a video is; name a folder"
        )
    found = [pair for path in inputs for pair in _files(path, output, include, exclude)]
    if not found:
        raise UsageError(f"no video found in {', '.join(map(str, inputs))}")
    places = [place.with_suffix(_suffix(place, format, codec)) for _, place in found]
    claims = Counter(places)
    tasks = []
    for (source, place), wanted in zip(found, places, strict=True):
        crowded = claims[wanted] > 1 and wanted != place
        tasks.append(
            Task(source, output / (place.with_name(place.name + wanted.suffix) if crowded else wanted))
        )
    _check_collisions(tasks, output)
    for task in tasks:
        if same_file(task.source, task.output):
            raise UsageError(f"input and output are the same file: {task.source}; name another folder")
    return tasks


def _files(
    path: Path, output: Path, include: Sequence[str], exclude: Sequence[str]
) -> Iterator[tuple[Path, Path]]:
    if not os.path.isdir(path):  # noqa: PTH112 - as above
        yield path, Path(path.name)
        return
    skipped = Path(os.path.realpath(output))  # `resolve` raises where links lead in a circle
    unreadable: list[Path] = []
    for where, folders, names in os.walk(path, onerror=lambda error: unreadable.append(Path(error.filename))):
        folder = Path(where)
        # Neither what earlier runs wrote nor the state folders of this one are input.
        folders[:] = sorted(
            name for name in folders if not name.startswith(".") and (folder / name).resolve() != skipped
        )
        for name in sorted(names):
            place = (folder / name).relative_to(path)
            if _wanted(place, include, exclude):
                yield folder / name, place
    # Reading one fails as reading a file does: it is named among the failures, and the rest goes on.
    for folder in unreadable:
        place = folder.relative_to(path) if folder != path else Path(path.name)
        if not (_matches(place, exclude) or any(fnmatch(f"{place.as_posix()}/", p) for p in exclude)):
            yield folder, place


def _wanted(place: Path, include: Sequence[str], exclude: Sequence[str]) -> bool:
    if place.name.startswith(".") or _matches(place, exclude):
        return False
    return _matches(place, include) if include else place.suffix.lower() in VIDEO_SUFFIXES


def _matches(place: Path, patterns: Iterable[str]) -> bool:
    return any(fnmatch(place.name, p) or fnmatch(place.as_posix(), p) for p in patterns)


def _suffix(place: Path, format: str | None, codec: str) -> str:
    if format is not None:
        name = output_format(place, format)
        return _FORMAT_SUFFIXES.get(name, f".{name}")
    suffix = place.suffix.lower()
    kept = codec.startswith(_SUFFIXES_FOR.get(suffix, "")) and suffix not in _REPLACED_SUFFIXES
    return place.suffix if kept and suffix_holds(suffix, codec) else _DEFAULT_SUFFIX


def _check_collisions(tasks: Sequence[Task], folder: Path) -> None:
    names = {str(task.output) for task in tasks}
    apart = len({name.casefold() for name in names}) == len(names) or tells_case(folder)
    first: dict[str, Task] = {}
    for task in tasks:
        name = str(task.output)
        other = first.setdefault(name if apart else name.casefold(), task)
        # Folders are failures alone: disks have each a lost+found that may not be read.
        if other is not task and not os.path.isdir(task.source):  # noqa: PTH112
            alike = (
                "" if name == str(other.output) else ": its disk takes capital and small letters for the same"
            )
            raise UsageError(f"{other.source} and {task.source} would both become {task.output}{alike}")
