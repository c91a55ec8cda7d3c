"""A corpus small enough to travel: pristine luma, scaled and cut as a dataset wants it, nearly lossless.

Variants are many times larger than what they are made from. So a corpus is packed once, carried to the machine that
trains, and encoded there on all its cores: `build_dataset` takes packed files as any other source, and the notes
beside them for their licences and splits.
"""

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from carfix.errors import CarfixError
from carfix.lock import alone_in
from carfix.progress import OnProgress
from carfix.replacing import replacing
from carfix.training.encoding import encode_nearly_lossless, encode_photo
from carfix.training.naming import PLACE, Named, Origin, name_sources, place_of, source_name
from carfix.training.places import NOTES, check_targets, make_folder
from carfix.training.recipe import BuildReport, Recipe
from carfix.training.sources import (
    is_interlaced,
    is_photo,
    read_source,
    source_sha256,
)
from carfix.training.stills import scaled_photo
from carfix.training.workers import workers
from carfix.video.faults import reason
from carfix.video.manifest import Split
from carfix.video.records import read_record

#: MJPEG's quantizer scale of packed photographs: the best it has.
PHOTO_QSCALE = 2
CLIP_SUFFIX, PHOTO_SUFFIX = ".mkv", ".jpg"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Note:
    """What is known of a packed file."""

    source: str
    source_sha256: str
    settings: dict[str, Any]  # how it was packed: size, first frame, number of frames, CRF
    licence: str
    split: Split | None  # None: by the clip's name


def pack_corpus(
    paths: Sequence[Path], output: Path, recipe: Recipe, jobs: int, progress: OnProgress
) -> BuildReport:
    """Pack the sources into the folder `output`; what is packed already, from the same source, is kept.

    Raises `UsageError`, before anything is written, if a file to write is a source, and `CarfixError` if the folder
    cannot be written, its notes cannot be read, or another process packs there.
    """
    notes = _notes(output / NOTES)
    origins = {Path(file).stem: _origin(note) for file, note in notes.items()}
    names = name_sources(paths, output, origins)
    targets = [_target(output, name, named.path) for name, named in names.items()]
    check_targets(paths, targets)
    make_folder(output)
    report = BuildReport([], [], {})
    calls = {name: (name, named, output, recipe) for name, named in names.items()}
    with alone_in(output):
        try:
            with workers(jobs) as run:
                for done, (name, outcome) in enumerate(run(_pack, calls), 1):
                    try:
                        file, note, changed, damaged = outcome()
                    except CarfixError as error:
                        report.failed[str(names[name].path)] = str(error)
                    else:
                        if changed:
                            _install(output, file, note)
                        elif note != notes.get(file):
                            write_note(output, file, note)
                        (report.built if changed else report.kept).append(name)
                        if changed and is_interlaced(names[name].path):
                            report.interlaced.append(name)
                        if damaged:
                            report.damaged.append(name)
                    progress(done, len(names), name)
        except BaseException:
            for target in targets:
                _scratch_of(target).unlink(missing_ok=True)
            raise
    return report


def _origin(note: Note) -> Origin:
    return Origin(source=note.source, sha256=note.source_sha256, place=note.settings.get(PLACE))


def _target(output: Path, name: str, source: Path) -> Path:
    suffix = PHOTO_SUFFIX if source.is_file() and is_photo(source) else CLIP_SUFFIX
    return output / f"{name}{suffix}"


def _scratch_of(target: Path) -> Path:
    """Where a file is written first: what a killed run leaves there, the next one writes over."""
    return target.with_name(f".{target.name}.tmp")


def _pack(name: str, named: Named, output: Path, recipe: Recipe) -> tuple[str, Note, bool, int]:
    """Pack a source beside its place.

    Returns its file there, its note, whether there is a new one to `_install`, and how many of its frames are damaged.
    Raises `CarfixError` if the source cannot be read or the file not be written.
    """
    source = named.path
    note = Note(
        source=source_name(source),
        source_sha256=named.sha256 or source_sha256(source),
        settings={
            "size": list(recipe.size) if recipe.size else None,
            "start": recipe.start,
            "frames": recipe.frames,
            "crf": recipe.pack,
            PLACE: place_of(source, output),
        },
        licence=recipe.licence,
        split=recipe.split,
    )
    target = _target(output, name, source)
    known = note_of(target)
    if known is not None and known.source_sha256 == note.source_sha256:
        note = dataclasses.replace(note, licence=note.licence or known.licence)
    if known is None and target.exists():
        raise CarfixError(f"{target} is there already and not of this corpus; move it away or pack elsewhere")
    if known is not None and target.is_file() and _same_content(known, note):
        return target.name, note, False, 0
    scratch = _scratch_of(target)
    try:
        damaged = _encode(source, scratch, recipe)
    except BaseException:
        scratch.unlink(missing_ok=True)
        raise
    return target.name, note, True, damaged


def _same_content(one: Note, other: Note) -> bool:
    return one.source_sha256 == other.source_sha256 and all(
        one.settings.get(key) == value for key, value in other.settings.items() if key != PLACE
    )


def _encode(source: Path, file: Path, recipe: Recipe) -> int:
    """A clip with x264's CRF `recipe.pack`, a photograph as a JPEG; returns how many frames are damaged."""
    assert recipe.pack is not None
    if source.is_file() and is_photo(source):
        encode_photo(file, scaled_photo(source, recipe.size), PHOTO_QSCALE)
        return 0
    luma, fps, damaged = read_source(source, size=recipe.size, start=recipe.start, frames=recipe.frames)
    encode_nearly_lossless(file, luma, fps, recipe.pack)
    return damaged


def _install(output: Path, file: str, note: Note) -> None:
    """Bring a packed file to its place. Raises `CarfixError`."""
    target = output / file
    try:
        # In this order: a note without a file is packed again, and no file is ever there without its note.
        target.unlink(missing_ok=True)
        write_note(output, file, note)
        _scratch_of(target).replace(target)
    except OSError as error:
        raise CarfixError(f"cannot write {target}: {reason(error)}") from error


def write_note(output: Path, file: str, note: Note) -> None:
    """Add what is known of a packed file to the folder's notes. Raises `CarfixError`."""
    path = output / NOTES
    known = {name: dataclasses.asdict(each) for name, each in _notes(path).items()}
    known[file] = dataclasses.asdict(note)
    try:
        with replacing(path) as temporary:  # other processes look files up in it meanwhile
            temporary.write_text(json.dumps(dict(sorted(known.items())), indent=1) + "\n", encoding="utf-8")
    except OSError as error:
        raise CarfixError(f"cannot write {path}: {reason(error)}") from error


def note_of(source: Path) -> Note | None:
    """The note on a packed file, None for other sources. Raises `CarfixError` if the notes are damaged."""
    return _notes(source.parent / NOTES).get(source.name)


def _notes(path: Path) -> dict[str, Note]:
    if not path.is_file():
        return {}
    try:
        notes: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        return {name: read_record(Note, note) for name, note in notes.items()}
    except (ValueError, TypeError, AttributeError, OSError) as error:
        raise CarfixError(
            f"{path} is damaged: {reason(error)}; correct that, or pack the corpus again, in a new folder"
        ) from error
