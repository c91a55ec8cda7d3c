"""The manifest of a dataset: which clips there are, how each variant was encoded, and what it measures.

A dataset is a folder with `manifest.json` and, for each clip, a lossless pristine file and its encoded variants.
All paths in the manifest are relative to the folder.
"""

import dataclasses
import json
from collections.abc import Mapping
from fractions import Fraction
from pathlib import Path
from typing import Any, Literal

from carfix.errors import CarfixError
from carfix.replacing import replacing
from carfix.video.records import read_record

FILE_NAME = "manifest.json"
#: Raised when a field changes its meaning.
FORMAT = 1

Split = Literal["train", "val", "test"]
SPLITS: tuple[Split, ...] = ("train", "val", "test")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Variant:
    """One encoding of a clip. PSNR (dB) and SSIM are luma means over the frames against the pristine file."""

    name: str
    file: str
    encoder: Mapping[str, Any]  # codec, crf, maxrate (bit/s), bufsize (bit), preset, ...
    bytes: int
    psnr: float
    ssim: float


@dataclasses.dataclass(frozen=True, kw_only=True)
class Clip:
    """A pristine clip and its variants, all of the same size and number of frames."""

    name: str
    split: Split
    source: str
    source_sha256: str
    licence: str
    still: bool  # made from a photograph
    frames: int
    width: int
    height: int
    fps: str  # a fraction, e.g. "30000/1001"
    pristine: str
    settings: Mapping[str, Any]  # how the pristine file was made: size, first frame, ...
    variants: Mapping[str, Variant]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Manifest:
    """All clips of a dataset by name."""

    carfix: str  # version that wrote it
    clips: Mapping[str, Clip]

    def select(self, split: str) -> list[Clip]:
        """The clips of one split (or of `all`), in the order of their names."""
        return [clip for _, clip in sorted(self.clips.items()) if split in ("all", clip.split)]


def read_manifest(folder: Path) -> Manifest:
    """Read the manifest of the dataset in `folder`. Raises `CarfixError` if it is missing or damaged."""
    path = folder / FILE_NAME
    try:
        fields = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        raise CarfixError(
            f"{folder} is not a dataset: it has no {FILE_NAME}; build one with `carfix dataset`"
        ) from None
    except OSError as error:
        raise CarfixError(f"cannot read {path}: {error.strerror or error}") from error
    except ValueError as error:
        raise CarfixError(f"{path} cannot be read ({error}); build the dataset again") from error
    try:
        if fields["format"] != FORMAT:
            raise CarfixError(
                f"{path} has format {fields['format']}, which this carfix does not know; update carfix"
            )
        clips = {name: _clip(name, clip) for name, clip in fields["clips"].items()}
        return Manifest(carfix=str(fields["carfix"]), clips=clips)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise CarfixError(f"{path} is damaged ({error!r}); build the dataset again") from error


def _clip(name: str, fields: Mapping[str, Any]) -> Clip:
    try:
        variants = {
            key: read_record(Variant, {**value, "name": key}) for key, value in fields["variants"].items()
        }
        clip = read_record(Clip, {**fields, "name": name, "variants": variants})
    except ValueError as error:
        raise ValueError(f"of {name} {error}") from error
    if not _is_rate(clip.fps):
        raise ValueError(f"of {name} fps is {clip.fps!r}")
    return clip


def _is_rate(text: str) -> bool:
    try:
        return Fraction(text) > 0
    except (ValueError, ZeroDivisionError):
        return False


def write_manifest(folder: Path, manifest: Manifest) -> None:
    """Write the manifest of the dataset in `folder` (through a temporary file). Raises `CarfixError`."""
    clips = {name: dataclasses.asdict(clip) for name, clip in sorted(manifest.clips.items())}
    for clip in clips.values():
        del clip["name"]
        for variant in clip["variants"].values():
            del variant["name"]
    text = json.dumps({"format": FORMAT, "carfix": manifest.carfix, "clips": clips}, indent=1)
    try:
        with replacing(folder / FILE_NAME) as temporary:
            temporary.write_text(text + "\n", encoding="utf-8")
    except OSError as error:
        raise CarfixError(f"cannot write {folder / FILE_NAME}: {error.strerror or error}") from error
