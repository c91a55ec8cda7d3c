"""Fits what share of its correction each network gives to frames of a quantizer: carfix/restore/strength.json.

    python bench/fit_strength.py data -m tiny -m fast -m medium
    python bench/fit_strength.py data -m car-cnn-mse -m car-cnn -m car-cnn-ssim --frames 1 --stills 30

`data` is a dataset with training clips (never the clips that carfix is measured on) in H.264 of all levels. Networks
that are not named keep the curve that they have, installed ones also where another network has their name.
"""

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from carfix.errors import CarfixError
from carfix.net.catalog import installed, load_model
from carfix.net.checkpoint import read_description
from carfix.quality.strength_fit import KNOTS, Sample, fit_curve, mean_gain, place_of, random_parts, sample_of
from carfix.restore.engine import open_engine
from carfix.restore.strength import Curve, curves_from_json, curves_to_json
from carfix.training.patches import chosen_frames
from carfix.training.sources import read_video
from carfix.video.manifest import Clip, read_manifest

#: Losses that are about structure more than about squared error: their networks' curves are for SSIM.
STRUCTURE = ("ssim", "both")
#: A frame whose error is less than rounding leaves cannot tell anything.
LEAST_ERROR = 0.02


def crops(
    dataset: Path, clip: Clip, frames: int, variants: int
) -> Iterator[tuple[float, np.ndarray, np.ndarray]]:
    """Quantizer, decoded and pristine codes of parts of a clip's frames."""
    names = sorted(name for name in clip.variants if name.startswith("crf"))
    rng = np.random.default_rng(len(clip.name))
    names = sorted(rng.permutation(names)[:variants])
    wanted = chosen_frames(clip.frames, frames + 2)[1:-1] if clip.frames > frames + 1 else range(clip.frames)
    pristine, _ = read_video(dataset / clip.pristine, size=None, start=0, frames=clip.frames)
    for name in names:
        yield from random_parts(dataset / clip.variants[name].file, pristine, wanted, rng)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("dataset", type=Path)
    parser.add_argument("-m", "--model", action="append", required=True)
    parser.add_argument("--frames", type=int, default=3, help="of each variant")
    parser.add_argument("--variants", type=int, default=12, help="of each clip, at most")
    parser.add_argument("--stills", type=int, default=100, help="how many of the photographs")
    parser.add_argument("--output", type=Path, default=Path("carfix/restore/strength.json"))
    arguments = parser.parse_args()
    dataset: Path = arguments.dataset
    if not arguments.output.parent.is_dir():  # hours of measuring would be for nothing
        parser.error(f"no folder {arguments.output.parent} here; run it in the top folder of a clone")
    manifest = read_manifest(dataset)
    known = [clip for split in ("train", "val") for clip in manifest.select(split)]
    videos = [clip for clip in known if not clip.still]
    stills = [clip for clip in known if clip.still]
    picked = np.linspace(0, len(stills) - 1, min(len(stills), arguments.stills)).round().astype(int)
    clips = [*videos, *(stills[index] for index in picked)]
    models = [load_model(name) for name in arguments.model]
    engines = [open_engine(model, device="cpu") for model in models]
    samples: list[list[Sample]] = [[] for _ in engines]
    for number, clip in enumerate(clips, 1):
        for quantizer, decoded, pristine in crops(dataset, clip, arguments.frames, arguments.variants):
            if float(((pristine.astype(np.float64) - decoded) ** 2).mean()) < LEAST_ERROR:
                continue
            for engine, found in zip(engines, samples, strict=True):
                structure = engine.model.description.loss in STRUCTURE
                found.append(sample_of(engine, quantizer, decoded, pristine, structure=structure))
        print(f"{number}/{len(clips)} {clip.name}: {len(samples[0])} frames", flush=True)
    curves = curves_from_json(arguments.output.read_text()) if arguments.output.exists() else {}
    shipped = {read_description(path).sha256 for path in installed().values()}
    for model, found in zip(models, samples, strict=True):
        name = place_of(curves, model.description.name, model.sha256, shipped)
        curves[name] = curve = fit_curve(found, model.sha256)
        print(f"{name}: {dict(zip(KNOTS, curve.strengths, strict=True))}")
        print_gains(found, curve)
    arguments.output.write_text(curves_to_json(curves))


def print_gains(samples: list[Sample], curve: Curve) -> None:
    """By quantizer: all of the correction, and the share."""
    for low, high in zip((0.0, *KNOTS), (*KNOTS, 99.0), strict=True):
        here = [sample for sample in samples if low <= sample.quantizer < high]
        if here:
            print(
                f"  {low:g} to {high:g}: {len(here)} frames, {mean_gain(here, None):+.3f} dB, "
                f"with the curve {mean_gain(here, curve):+.3f}"
            )
    print(f"  all: {mean_gain(samples, None):+.3f} dB, with the curve {mean_gain(samples, curve):+.3f}")


if __name__ == "__main__":
    try:
        main()
    except CarfixError as error:
        sys.exit(f"fit_strength.py: {error}")
