"""One clip of a dataset: its pristine file and its variants, made in a folder of their own and then moved.

So nothing is replaced before what replaces it is complete, and nothing is ever deleted but what carfix made.
"""

import dataclasses
import shutil
from collections.abc import Mapping
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import torch

from carfix.errors import CarfixError
from carfix.net.ssim import WINDOW, mse, psnr_from_mse, ssim
from carfix.training.burn_in import SCREENS, VERSION, Drawing, screen
from carfix.training.encoding import Encoding, Luma, cap_scale, draw, encode, encode_lossless
from carfix.training.naming import BURN_IN, PLACE, place_of, source_name, split_of, without_burn_in
from carfix.training.pack import note_of
from carfix.training.recipe import Recipe
from carfix.training.sources import (
    STILL_FPS,
    frames_in,
    is_photo,
    read_photo,
    read_source,
    read_video,
    source_sha256,
)
from carfix.training.stills import animate
from carfix.video.faults import reason
from carfix.video.manifest import Clip, Split, Variant

#: Folder of a dataset in which each clip has one.
FOLDER = "clips"
PRISTINE = "pristine.mkv"
VARIANT_SUFFIX = ".mp4"


@dataclasses.dataclass(frozen=True, kw_only=True)
class ClipJob:
    """A clip to make."""

    name: str
    source: Path
    sha256: str | None  # of the source; None: not yet known
    output: Path  # the dataset's folder
    recipe: Recipe
    known: Clip | None  # what the dataset holds under this name


@dataclasses.dataclass(frozen=True, kw_only=True)
class Built:
    """What became of a `ClipJob`."""

    clip: Clip
    made: bool  # files lie in the scratch folder
    changed: bool  # of the clip that the dataset held: more than where its source lies
    #: Frames of the source, among those that were read, which the decoder concealed damage in.
    damaged: int = 0


def folder_of(output: Path, name: str) -> Path:
    """Where the files of the clip `name` of the dataset `output` lie."""
    return output / FOLDER / name


def scratch_of(output: Path, name: str) -> Path:
    """Where they are made. What a killed build left in it, the next one of this clip removes."""
    return output / FOLDER / f".{name}.tmp"


def build_clip(job: ClipJob) -> Built:
    """Make what is missing of a clip in its scratch folder, from where `install` takes it. Raises `CarfixError`."""
    source, recipe = job.source, job.recipe
    note = note_of(source)
    # A clip with text is in the split of the one without, whose pictures it shows.
    own = without_burn_in(job.name) if recipe.burn_in else job.name
    split: Split = recipe.split or (note.split if note else None) or split_of(own)
    sha256 = job.sha256 or source_sha256(source)
    still = source.is_file() and is_photo(source)
    settings = {
        "size": list(recipe.size) if recipe.size else None,
        "start": recipe.start,
        "frames": recipe.still_frames if still else recipe.frames,
        PLACE: place_of(source, job.output),
        **({BURN_IN: VERSION} if recipe.burn_in else {}),
    }
    known = job.known
    licence = recipe.licence or (note.licence if note else "")
    if known is not None and known.source_sha256 == sha256:
        licence = licence or known.licence
    if known is not None and (known.source_sha256, cut(known.settings)) != (sha256, cut(settings)):
        known = None  # another source or another cut: nothing of it can be kept
    missing = missing_encodings(job, known)
    if known is not None and not missing and frames_in(job.output / known.pristine) == known.frames:
        kept = dataclasses.replace(known, split=split, licence=licence)
        moved = dataclasses.replace(kept, settings=settings)
        return Built(clip=moved, made=False, changed=kept != known)
    there, damaged = _kept(job, known), 0
    if known is not None and there is not None and not recipe.burn_in:
        # Not the source's once more, which another version may read otherwise: all variants are of the same pictures.
        frames, fps, drawing = there, Fraction(known.fps), None
    else:
        frames, fps, damaged = _frames(job, still)
        if min(frames.shape[1:]) < WINDOW:
            raise CarfixError(
                f"{source} gives frames of {frames.shape[2]}x{frames.shape[1]}; SSIM, which variants are measured by, "
                f"needs {WINDOW}x{WINDOW} or more: leave it out or give a larger --size"
            )
        frames, drawing = _drawn(job, frames)
    pristine = drawing.over(frames) if drawing else frames
    if there is not None and not np.array_equal(there, pristine):
        # Drawn with other fonts: variants of the one are not to be measured against the other.
        known, there, missing = None, None, missing_encodings(job, None)
    made = _make(job, missing, frames, pristine, drawing, fps, keeps_pristine=there is not None)
    clip = Clip(
        name=job.name,
        split=split,
        source=source_name(source),
        source_sha256=sha256,
        licence=licence,
        still=still,
        frames=len(frames),
        width=frames.shape[2],
        height=frames.shape[1],
        fps=str(fps),
        pristine=_relative(job, PRISTINE),
        settings=settings,
        variants={**(known.variants if known else {}), **made},
    )
    return Built(clip=clip, made=True, changed=True, damaged=damaged)


def install(output: Path, clip: Clip, before: Clip | None) -> None:
    """Move what `build_clip` made to its place; files of the clip as it was `before` that it replaces go.

    Raises `CarfixError`.
    """
    folder, scratch = folder_of(output, clip.name), scratch_of(output, clip.name)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, variant in before.variants.items() if before else ():
            if clip.variants.get(name) != variant:
                # First: half of one clip and half of another must not pass for either.
                (folder / Path(variant.file).name).unlink(missing_ok=True)
        for file in scratch.iterdir():
            file.replace(folder / file.name)
        scratch.rmdir()
    except OSError as error:
        raise CarfixError(f"cannot write {folder}: {reason(error)}") from error


def discard(output: Path, name: str) -> None:
    """Remove what an interrupted `build_clip` has left."""
    shutil.rmtree(scratch_of(output, name), ignore_errors=True)


def cut(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Which part of a source a clip is, in which size; not where the source lies."""
    return {key: value for key, value in settings.items() if key != PLACE}


def missing_encodings(job: ClipJob, known: Clip | None) -> list[Encoding]:
    """Those that the recipe asks for and the clip does not have, or has with other options."""
    wanted: dict[str, Encoding] = {}
    for encoding in (*job.recipe.encodings, *draw(job.recipe.drawn, job.name, burn_in=job.recipe.burn_in)):
        wanted.setdefault(encoding.name, encoding)
    if known is None:
        return list(wanted.values())
    scale = Fraction(1)
    if job.recipe.scale_caps:
        scale = cap_scale(known.width, known.height, Fraction(known.fps))
    return [
        encoding
        for name, encoding in wanted.items()
        if not _present(job.output, known.variants.get(name), encoding.record(scale))
    ]


def _present(output: Path, variant: Variant | None, record: Mapping[str, Any]) -> bool:
    """Whether a variant is there and was encoded with what the encoder would be given now."""
    if variant is None or any(variant.encoder.get(key) != record[key] for key in ("codec", "options")):
        return False
    path = output / variant.file
    return path.is_file() and path.stat().st_size == variant.bytes


def _frames(job: ClipJob, still: bool) -> tuple[Luma, Fraction, int]:
    source, recipe = job.source, job.recipe
    if still:
        photo = read_photo(source)
        return animate(photo, size=recipe.size, frames=recipe.still_frames, seed=job.name), STILL_FPS, 0
    return read_source(source, size=recipe.size, start=recipe.start, frames=recipe.frames)


def _kept(job: ClipJob, known: Clip | None) -> Luma | None:
    """The frames of the clip's pristine file; None if it is not there or not whole."""
    if known is None:
        return None
    try:
        frames, _ = read_video(job.output / known.pristine, size=None, start=0, frames=known.frames + 1)
    except CarfixError:
        return None
    return frames if frames.shape == (known.frames, known.height, known.width) else None


def _make(
    job: ClipJob,
    encodings: list[Encoding],
    frames: Luma,
    pristine: Luma,
    drawing: Drawing | None,
    fps: Fraction,
    *,
    keeps_pristine: bool,
) -> dict[str, Variant]:
    """The pristine file and the variants, in the scratch folder; nothing is left there if that fails.

    A pristine file that the clip keeps is not written again: what was measured against it would count as changed.
    """
    scratch = scratch_of(job.output, job.name)
    discard(job.output, job.name)
    made: dict[str, Variant] = {}
    try:
        scratch.mkdir(parents=True)
        if not keeps_pristine:
            encode_lossless(scratch / PRISTINE, pristine, fps)
        for encoding in encodings:
            path = scratch / f"{encoding.name}{VARIANT_SUFFIX}"
            shown = pristine
            if drawing and encoding.over is not None:
                shown = drawing.over(_encoded(scratch / "below.mp4", frames, fps, encoding.over))
            record = encode(path, shown, fps, encoding, scale_caps=job.recipe.scale_caps)
            psnr, similarity = _measure(path, pristine)
            made[encoding.name] = Variant(
                name=encoding.name,
                file=_relative(job, path.name),
                encoder=record,
                bytes=path.stat().st_size,
                psnr=psnr,
                ssim=similarity,
            )
    except BaseException as error:
        discard(job.output, job.name)
        if isinstance(error, OSError):
            raise CarfixError(f"cannot write {scratch}: {reason(error)}") from error
        raise
    return made


def _drawn(job: ClipJob, frames: Luma) -> tuple[Luma, Drawing | None]:
    """The clip's frames or a screen, and what is to be written over them, if the recipe wants that."""
    if not job.recipe.burn_in:
        return frames, None
    rng = np.random.default_rng(list(job.name.encode()))
    if rng.random() < SCREENS:
        frames = np.repeat(screen(rng, *frames.shape[1:])[None], len(frames), 0)
    return frames, Drawing(rng, len(frames))


def _encoded(scratch: Path, frames: Luma, fps: Fraction, crf: int) -> Luma:
    """What x264 leaves of the frames."""
    encode(scratch, frames, fps, Encoding(crf=crf))
    decoded, _ = read_video(scratch, size=None, start=0, frames=len(frames))
    scratch.unlink()
    return decoded


def _relative(job: ClipJob, file: str) -> str:
    return (folder_of(job.output, job.name) / file).relative_to(job.output).as_posix()


def _measure(path: Path, pristine: Luma) -> tuple[float, float]:
    """Mean luma PSNR (dB) and SSIM of an encoded file against `[N, H, W]`; checks that no frame is missing."""
    decoded, _ = read_video(path, size=None, start=0, frames=len(pristine) + 1)
    if decoded.shape != pristine.shape:
        raise CarfixError(f"{path.name} decodes to {decoded.shape[0]} frames instead of {pristine.shape[0]}")
    psnrs: list[float] = []
    ssims: list[float] = []
    for reference, candidate in zip(pristine, decoded, strict=True):
        x = torch.from_numpy(reference)[None, None].float()
        y = torch.from_numpy(candidate)[None, None].float()
        psnrs.append(float(psnr_from_mse(mse(x, y), 255.0)))
        ssims.append(float(ssim(x, y, 255.0)))
    return float(np.mean(psnrs)), float(np.mean(ssims))
