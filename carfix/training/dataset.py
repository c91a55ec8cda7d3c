"""Datasets: pristine clips, their encoded variants, and a manifest that says how each came to be."""

import dataclasses
import hashlib
import re
import shutil
from collections.abc import Callable, Sequence
from concurrent.futures import as_completed
from pathlib import Path

import numpy as np
import torch

from carfix import __version__
from carfix.errors import CarfixError, UsageError
from carfix.net.ssim import mse, psnr_from_mse, ssim
from carfix.training.encoding import Encoding, Luma, draw, encode, encode_lossless
from carfix.training.pack import Note, note_of, pack_source, write_note
from carfix.training.sources import (
    STILL_FPS,
    Size,
    animate,
    find_clips,
    is_photo,
    read_folder,
    read_photo,
    read_video,
)
from carfix.training.workers import workers
from carfix.video.manifest import FILE_NAME, Clip, Manifest, Split, Variant, read_manifest, write_manifest

#: Percent of the clips that become validation and test clips.
VAL_PERCENT = 10
TEST_PERCENT = 10


@dataclasses.dataclass(frozen=True, kw_only=True)
class Recipe:
    """How clips become variants."""

    encodings: Sequence[Encoding]
    drawn: int = 0  # further encodings a clip, drawn at random from all codecs and presets
    size: Size | None = None  # of the pristine clip, before encoding; None keeps the source's
    start: int = 0  # first frame taken
    frames: int = 100  # at most
    still_frames: int = 12  # length of a clip made from a photograph
    stills: bool = False  # pictures in folders are photographs, not consecutive frames
    scale_caps: bool = True
    licence: str = ""
    split: Split | None = None  # None: by the clip's name
    pack: int | None = None  # instead of variants: pack the sources, x264's CRF for clips


@dataclasses.dataclass(frozen=True)
class BuildReport:
    """What a run of `build_dataset` did."""

    built: list[str]
    kept: list[str]
    failed: dict[str, str]  # source to reason


def split_of(name: str) -> Split:
    """The split of a clip: decided by its name alone, so that adding clips moves none."""
    percent = int.from_bytes(hashlib.sha256(name.encode()).digest()[:4], "big") % 100
    if percent < TEST_PERCENT:
        return "test"
    return "val" if percent < TEST_PERCENT + VAL_PERCENT else "train"


def clip_names(paths: Sequence[Path]) -> dict[str, Path]:
    """A name for each clip: its file name without suffix, made unique by its folder's name."""
    names: dict[str, Path] = {}
    for path in paths:
        name = _clean(path.stem if path.is_file() else path.name)
        if name in names:
            name = f"{_clean(path.parent.name)}-{_clean(path.name)}"
        while name in names:
            name += "-2"
        names[name] = path
    return names


def _clean(text: str) -> str:
    return re.sub(r"[^A-Za-z0-9._-]+", "_", text).strip("._-") or "clip"


def build_dataset(
    *,
    sources: Sequence[Path],
    output: Path,
    recipe: Recipe,
    jobs: int = 1,
    progress: Callable[[int, int, str], None] = lambda done, total, name: None,
) -> BuildReport:
    """Build or extend the dataset in the folder `output`: only what is missing is made.

    A source that cannot be read is left out and named in the report. `progress` gets the number of clips done,
    their total and the last one's name. Raises `CarfixError` if nothing can be written, `UsageError` for a
    recipe without encodings.
    """
    if not recipe.encodings and not recipe.drawn and recipe.pack is None:
        raise UsageError("a dataset needs at least one encoding")
    paths = list(find_clips(list(sources), stills=recipe.stills))
    if not paths:
        raise CarfixError(f"no video, picture or folder of frames among {', '.join(map(str, sources))}")
    try:
        (output if recipe.pack is not None else output / "clips").mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise CarfixError(f"cannot make the folder {output}: {error.strerror or error}") from error
    if recipe.pack is not None:
        return _pack(clip_names(paths), output, recipe, jobs, progress)
    clips = dict(read_manifest(output).clips) if (output / FILE_NAME).exists() else {}
    names = clip_names(paths)
    report = BuildReport([], [], {})
    jobs_to_do = [(name, path, output, recipe, clips.get(name)) for name, path in names.items()]
    with workers(jobs) as submit:
        futures = {submit(_build_clip, *job): job[0] for job in jobs_to_do}
        for done, future in enumerate(as_completed(futures), 1):
            name = futures[future]
            try:
                clip, changed = future.result()
            except CarfixError as error:
                report.failed[str(names[name])] = str(error)
            else:
                (report.built if changed else report.kept).append(name)
                clips[name] = clip
                if changed:
                    write_manifest(output, Manifest(carfix=__version__, clips=clips))
            progress(done, len(names), name)
    return report


def _pack(
    names: dict[str, Path], output: Path, recipe: Recipe, jobs: int, progress: Callable[[int, int, str], None]
) -> BuildReport:
    """Pack the sources into the folder `output`; what is packed already, from the same source, is kept."""
    report = BuildReport([], [], {})
    with workers(jobs) as submit:
        futures = {submit(_pack_clip, name, path, output, recipe): name for name, path in names.items()}
        for done, future in enumerate(as_completed(futures), 1):
            name = futures[future]
            try:
                file, note, changed = future.result()
            except CarfixError as error:
                report.failed[str(names[name])] = str(error)
            else:
                (report.built if changed else report.kept).append(name)
                write_note(output, file, note)
            progress(done, len(names), name)
    return report


def _pack_clip(name: str, source: Path, output: Path, recipe: Recipe) -> tuple[str, Note, bool]:
    assert recipe.pack is not None
    note = Note(
        source=source.name,
        source_sha256=_source_sha256(source),
        settings={
            "size": list(recipe.size) if recipe.size else None,
            "start": recipe.start,
            "frames": recipe.frames,
            "crf": recipe.pack,
        },
        licence=recipe.licence,
        split=recipe.split,
    )
    for file in (f"{name}.mkv", f"{name}.jpg"):
        known = note_of(output / file)
        if known is None or not (output / file).is_file():
            continue
        if (known.source_sha256, known.settings) == (note.source_sha256, note.settings):
            return file, note, False
    path = pack_source(
        name, source, output, size=recipe.size, start=recipe.start, frames=recipe.frames, crf=recipe.pack
    )
    return path.name, note, True


def _build_clip(
    name: str, source: Path, output: Path, recipe: Recipe, known: Clip | None
) -> tuple[Clip, bool]:
    """Make the pristine file and the variants of one clip that are missing."""
    note = note_of(source)
    split: Split = recipe.split or (note.split if note else None) or split_of(name)
    licence = recipe.licence or (note.licence if note else "")
    digest = _source_sha256(source)
    still = source.is_file() and is_photo(source)
    settings = {
        "size": list(recipe.size) if recipe.size else None,
        "start": recipe.start,
        "frames": recipe.still_frames if still else recipe.frames,
    }
    wanted = [*recipe.encodings, *draw(recipe.drawn, f"{name}")]
    folder = output / "clips" / name
    if known is not None and (known.source_sha256, dict(known.settings)) != (digest, settings):
        known = None  # another source or another cut: nothing of it can be kept
    missing = [e for e in wanted if known is None or not _present(output, known.variants.get(e.name))]
    if known is not None and (output / known.pristine).is_file() and not missing:
        clip = dataclasses.replace(known, split=split, licence=licence or known.licence)
        return clip, clip != known
    if known is None and folder.exists():
        shutil.rmtree(folder)
    folder.mkdir(parents=True, exist_ok=True)
    if still:
        frames = animate(read_photo(source), size=recipe.size, frames=recipe.still_frames, seed=name)
        fps = STILL_FPS
    else:
        read = read_folder if source.is_dir() else read_video
        frames, fps = read(source, size=recipe.size, start=recipe.start, frames=recipe.frames)
    pristine = folder / "pristine.mkv"
    encode_lossless(pristine, frames, fps)
    variants = dict(known.variants) if known else {}
    for encoding in missing:
        path = folder / f"{encoding.name}.mp4"
        record = encode(path, frames, fps, encoding, scale_caps=recipe.scale_caps)
        psnr, similarity = _measure(path, frames)
        variants[encoding.name] = Variant(
            name=encoding.name,
            file=str(path.relative_to(output)),
            encoder=record,
            bytes=path.stat().st_size,
            psnr=psnr,
            ssim=similarity,
        )
    clip = Clip(
        name=name,
        split=split,
        source=source.name,
        source_sha256=digest,
        licence=licence,
        still=still,
        frames=len(frames),
        width=frames.shape[2],
        height=frames.shape[1],
        fps=str(fps),
        pristine=str(pristine.relative_to(output)),
        settings=settings,
        variants=variants,
    )
    return clip, True


def _present(output: Path, variant: Variant | None) -> bool:
    if variant is None:
        return False
    path = output / variant.file
    return path.is_file() and path.stat().st_size == variant.bytes


def _source_sha256(source: Path) -> str:
    digest = hashlib.sha256()
    files = sorted(child for child in source.iterdir() if is_photo(child)) if source.is_dir() else [source]
    for file in files:
        try:
            with file.open("rb") as stream:
                while block := stream.read(1 << 20):
                    digest.update(block)
        except OSError as error:
            raise CarfixError(f"{file} cannot be read: {error.strerror or error}") from error
    return digest.hexdigest()


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
