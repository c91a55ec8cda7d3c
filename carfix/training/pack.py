"""A corpus small enough to travel: pristine luma, scaled and cut as a dataset wants it, nearly lossless.

Variants are many times larger than what they are made from. So a corpus is packed once, carried to the machine that
trains, and encoded there on all its cores: `build_dataset` takes packed files as any other source, and the notes
beside them for their licences and splits.
"""

import dataclasses
import json
from pathlib import Path
from typing import Any

from carfix.errors import CarfixError
from carfix.training.encoding import encode_nearly_lossless, encode_photo
from carfix.training.sources import Size, is_photo, read_folder, read_video, scaled_photo
from carfix.video.manifest import Split

#: What a packed folder says of its files.
NOTES = "corpus.json"
#: MJPEG's quantizer scale of packed photographs: the best it has.
PHOTO_QSCALE = 2


@dataclasses.dataclass(frozen=True, kw_only=True)
class Note:
    """What is known of a packed file."""

    source: str
    source_sha256: str
    settings: dict[str, Any]  # how it was packed: size, first frame, number of frames, CRF
    licence: str
    split: Split | None  # None: by the clip's name


def pack_source(
    name: str, source: Path, output: Path, *, size: Size | None, start: int, frames: int, crf: int
) -> Path:
    """Pack a clip (with x264's `crf`) or a photograph into the folder `output`; returns the file.

    Raises `CarfixError` if the source cannot be read or the file not be written.
    """
    if source.is_file() and is_photo(source):
        path = output / f"{name}.jpg"
        encode_photo(path, scaled_photo(source, size), PHOTO_QSCALE)
        return path
    read = read_folder if source.is_dir() else read_video
    luma, fps = read(source, size=size, start=start, frames=frames)
    path = output / f"{name}.mkv"
    encode_nearly_lossless(path, luma, fps, crf)
    return path


def write_note(output: Path, file: str, note: Note) -> None:
    """Add what is known of a packed file to the folder's notes."""
    path = output / NOTES
    known = json.loads(path.read_text()) if path.exists() else {}
    known[file] = dataclasses.asdict(note)
    # In one step: other processes look files up in it meanwhile.
    temporary = path.with_suffix(".tmp")
    temporary.write_text(json.dumps(dict(sorted(known.items())), indent=1) + "\n")
    temporary.replace(path)


def note_of(source: Path) -> Note | None:
    """The note on a packed file, None for other sources. Raises `CarfixError` if the notes are damaged."""
    return _notes(source.parent / NOTES).get(source.name)


def _notes(path: Path) -> dict[str, Note]:
    if not path.is_file():
        return {}
    try:
        notes: dict[str, Any] = json.loads(path.read_text())
        return {name: Note(**note) for name, note in notes.items()}
    except (ValueError, TypeError, AttributeError, OSError) as error:
        raise CarfixError(f"{path} is damaged: {error}; pack the corpus again") from error
