"""Measures how slowly the quantizer that `--strength auto` goes by should follow: `KEPT` in carfix/restore/strength.py.

    python bench/fit_level.py data [-m fast]

`data` is a dataset with training clips (never the clips that carfix is measured on). The first frames of encodings are
restored with shares read off running means of the quantizers, from the frame's own (0 is kept) to the whole clip's
mean; nothing that stands still is held. The table has the mean gain in PSNR over the decoded frames, and the flicker of
static regions over the decoded video's.
"""

import argparse
import dataclasses
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from carfix.net.catalog import load_model
from carfix.quality.reader import read_frames
from carfix.quality.strength_fit import ROUNDING, correction_of
from carfix.restore.engine import Engine, open_engine
from carfix.restore.strength import Level, strength_of
from carfix.training.sources import read_video
from carfix.video.manifest import Clip, read_manifest
from carfix.video.quantizer import h264_quantizer

#: Names of the encodings that are looked at, by column.
COLUMNS = {
    "CRF 15": ("crf15",),
    "CRF 17 to 21": ("crf17", "crf19", "crf21"),
    "CRF 24, 25": ("crf24", "crf25"),
    "CRF 29, 35": ("crf29-2000k", "crf35-2000k"),
    "HEVC, CRF 20 to 29": tuple(f"libx265-crf{crf}" for crf in range(20, 30)),
}
FRAMES = 30
#: Larger frames take too long for what they add.
MOST_PIXELS = 300_000
#: The pristine picture stands still where it changes by no more codes than this.
STILL = 1

Quantizers = NDArray[np.float64]


def running(kept: float) -> Callable[[Quantizers], Quantizers]:
    """Running means of which each frame leaves `kept`."""

    def means(quantizers: Quantizers) -> Quantizers:
        level = Level(kept)
        return np.array([level.after(quantizer) for quantizer in quantizers], dtype=np.float64)

    return means


def whole(quantizers: Quantizers) -> Quantizers:
    """The clip's mean for all of its frames."""
    return np.full_like(quantizers, quantizers.mean())


WAYS = {**{f"{kept:g} kept": running(kept) for kept in (0.0, 0.5, 0.8, 0.9)}, "the clip's mean": whole}


@dataclasses.dataclass(frozen=True)
class Restored:
    """Frames `[N, H, W]` of one encoding, in 8-bit codes."""

    pristine: NDArray[np.uint8]
    decoded: NDArray[np.float64]
    correction: NDArray[np.float64]
    quantizers: Quantizers

    def shown(self, shares: Quantizers) -> NDArray[np.float64]:
        """With each frame's share of its correction, rounded to codes."""
        return np.rint(self.decoded + shares[:, None, None] * self.correction).clip(0, 255)

    def psnr(self, frames: NDArray[np.float64]) -> float:
        """Mean over the frames, in dB."""
        error = ((frames - self.pristine) ** 2).mean(axis=(1, 2))
        return float((10 * np.log10(255**2 / (error + ROUNDING))).mean())

    def flicker(self, frames: NDArray[np.float64]) -> float:
        """Mean change of a pixel, in codes, where the pristine picture stands still."""
        still = np.abs(np.diff(self.pristine.astype(np.int16), axis=0)) <= STILL
        return float(np.abs(np.diff(frames, axis=0))[still].mean())


def restored(engine: Engine, path: Path, pristine: NDArray[np.uint8]) -> Restored | None:
    """None if a frame tells no quantizer."""
    frames = [frame for frame, _ in zip(read_frames(path, quantizers=True), pristine, strict=False)]
    quantizers = [None if frame.picture is None else h264_quantizer(frame.picture) for frame in frames]
    if None in quantizers:
        return None
    decoded = [frame.luma.astype(np.uint8, copy=False) for frame in frames]
    return Restored(
        pristine=pristine[: len(frames)],
        decoded=np.stack(decoded).astype(np.float64),
        correction=np.stack([correction_of(engine, plane) for plane in decoded]),
        quantizers=np.array(quantizers, dtype=np.float64),
    )


def column_of(variant: str) -> str | None:
    """The column that an encoding belongs to; names may say more behind the CRF."""
    for column, names in COLUMNS.items():
        if any(variant == name or variant.startswith(f"{name}-") for name in names):
            return column
    return None


def looked_at(clip: Clip) -> dict[str, str]:
    """The clip's encodings that are in the table, with their columns."""
    found = {name: column_of(name) for name in clip.variants}
    return {name: column for name, column in found.items() if column is not None}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("dataset", type=Path)
    parser.add_argument("-m", "--model", default="fast")
    arguments = parser.parse_args()
    dataset: Path = arguments.dataset
    model = load_model(arguments.model)
    curve = strength_of(model.description.sha256).curve
    if curve is None:
        parser.error("a network without a curve; see bench/fit_strength.py")
    engine = open_engine(model, device="cpu")
    manifest = read_manifest(dataset)
    clips = [clip for split in ("train", "val") for clip in manifest.select(split) if not clip.still]
    # Gain and flicker by column and way, of each encoding.
    found: dict[tuple[str, str], list[tuple[float, float]]] = defaultdict(list)
    for number, clip in enumerate(clips, 1):
        pristine, _ = read_video(dataset / clip.pristine, size=None, start=0, frames=min(FRAMES, clip.frames))
        if pristine[0].size > MOST_PIXELS:
            continue
        for variant, column in looked_at(clip).items():
            video = restored(engine, dataset / clip.variants[variant].file, pristine)
            if video is None:
                continue
            psnr, flicker = video.psnr(video.decoded), video.flicker(video.decoded)
            for way, means in WAYS.items():
                shares = np.array([curve.at(quantizer) for quantizer in means(video.quantizers)])
                shown = video.shown(shares)
                found[column, way].append((video.psnr(shown) - psnr, video.flicker(shown) / flicker))
        print(f"{number}/{len(clips)} {clip.name}", flush=True)
    print("| | " + " | ".join(f"{column}, dB | flicker" for column in COLUMNS) + " |")
    print("| --- |" + " ---: | ---: |" * len(COLUMNS))
    for way in WAYS:
        print(f"| {way} | " + " | ".join(cells(found[column, way]) for column in COLUMNS) + " |")


def cells(found: list[tuple[float, float]]) -> str:
    """The mean gain and flicker; dashes where the dataset has no such encodings."""
    if not found:
        return "- | -"
    gain, flicker = np.mean(found, axis=0)
    return f"{gain:+.3f} | {flicker:.2f}"


if __name__ == "__main__":
    main()
