"""Which clips lie among the paths that a dataset is to be built from."""

import json
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from carfix.errors import CarfixError, UsageError
from carfix.training.clip import FOLDER, PRISTINE
from carfix.training.places import NOTES, Identity, identity
from carfix.training.sources import children_of, is_photo
from carfix.video.manifest import FILE_NAME
from carfix.video.suffixes import VIDEO_SUFFIXES


def find_clips(sources: list[Path], *, stills: bool, without: Path | None = None) -> Iterator[Path]:
    """Every clip among `sources`: files as they are, folders walked in the order of names.

    A folder that holds pictures is one clip, its frames in the order of their names; with `stills`, and where they
    were packed, each picture is a clip of its own. A folder that cannot be read passes for a clip, and reading that
    raises why. The folder `without`, datasets, and folders that a link leads to once more are not walked. Raises
    `CarfixError` for a path that does not exist, `UsageError` for one that is a dataset or of one, but for its pristine
    files.
    """
    walked = {identity(without)} if without is not None else set()
    for source in sources:
        if not source.exists():
            raise CarfixError(f"no such file or folder: {source}")
        if is_dataset(source) or _is_built(source):
            raise UsageError(
                f"the source {source} is what carfix built, a dataset or its variants; give the clips that it was "
                f"built from, or the dataset's {FOLDER}/*/{PRISTINE}"
            )
        if not source.is_dir():
            yield source
        else:
            yield from _walked(source, stills, walked)


def _walked(folder: Path, stills: bool, walked: set[Identity | None]) -> Iterator[Path]:
    """`walked` are the folders that are done with: links that lead in a circle would show each forty times."""
    known = identity(folder)
    if known is not None and known in walked:
        return
    walked.add(known)
    try:
        children = children_of(folder)
    except CarfixError:  # a disk's lost+found: told by who takes it for a clip, and the others are built
        yield folder
        return
    files = [child for child in children if child.is_file()]
    pictures = [file for file in files if is_photo(file)]
    if stills or _are_packed(folder, pictures):
        yield from pictures
    elif pictures:
        yield folder
    yield from (file for file in files if file.suffix.lower() in VIDEO_SUFFIXES)
    for child in children:
        # What carfix built is no source, or a dataset beside its clips would take its variants for more of them.
        if child.is_dir() and not is_dataset(child):
            yield from _walked(child, stills, walked)


def _are_packed(folder: Path, pictures: Sequence[Path]) -> bool:
    """Whether carfix packed the pictures: what is packed as a picture was a photograph."""
    if not pictures or not (folder / NOTES).is_file():
        return False
    try:
        notes = json.loads((folder / NOTES).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False  # told by who reads the notes
    return isinstance(notes, dict) and any(picture.name in notes for picture in pictures)


def _is_built(source: Path) -> bool:
    """Whether `source` is the folder of a dataset's clips, or lies in it and is no pristine file."""
    if source.name == PRISTINE:
        return False
    resolved = Path(os.path.realpath(source))
    return any(path.name == FOLDER and is_dataset(path.parent) for path in (resolved, *resolved.parents))


def is_dataset(folder: Path) -> bool:
    """Whether `folder` holds a manifest of carfix's, and not one of another program's of the same name."""
    try:
        fields = json.loads((folder / FILE_NAME).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return isinstance(fields, dict) and {"carfix", "format", "clips"} <= fields.keys()
