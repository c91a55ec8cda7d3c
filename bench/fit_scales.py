"""Measures which H.264 quantizer other codecs' quantizers stand for: `_OFFSETS` in carfix/video/quantizer.py.

    python bench/fit_scales.py data [-m tiny -m fast -m medium]

`data` is a dataset with training clips (never the clips that carfix is measured on). Each is encoded by other
codecs at several qualities. A codec's quantizer becomes the H.264 quantizer that the code has for it plus an offset,
from which the network's curve (carfix/restore/strength.json) gives the share of its correction: the table has
the mean gains in PSNR for every offset, and of the networks alone. The best should be at 0.
"""

import argparse
import dataclasses
import tempfile
from pathlib import Path

import numpy as np

from carfix.net.catalog import load_model
from carfix.quality.strength_fit import Sample, mean_gain, random_parts, sample_of
from carfix.restore.engine import open_engine
from carfix.restore.strength import strength_of
from carfix.training.encoding import Encoding, encode
from carfix.training.sources import read_video
from carfix.video.manifest import read_manifest

ENCODINGS = {
    "MPEG-4 Part 2": [Encoding(codec="mpeg4", qscale=q, preset=None, gop=25) for q in (2, 3, 5, 8, 16, 28)],
    "MPEG-2": [Encoding(codec="mpeg2video", qscale=q, preset=None, gop=15) for q in (2, 4, 8, 16, 28)],
    "HEVC": [Encoding(codec="libx265", crf=q, preset="veryfast", gop=50) for q in (16, 22, 28, 34, 40, 46)],
    "AV1": [Encoding(codec="libsvtav1", crf=q, preset="9", gop=50) for q in (14, 24, 34, 44, 54, 63)],
    "JPEG": [Encoding(codec="mjpeg", qscale=q, preset=None) for q in (2, 3, 5, 8, 16, 28)],
    "VP9": [Encoding(codec="libvpx-vp9", crf=q, preset=None, gop=50) for q in (15, 24, 34, 44, 54, 63)],
}
OFFSETS = range(-8, 13, 2)
FRAMES = 9  # encoded of each clip
LOOKED_AT = (2, 6)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("dataset", type=Path)
    parser.add_argument("-m", "--model", action="append")
    arguments = parser.parse_args()
    manifest = read_manifest(arguments.dataset)
    clips = [clip for split in ("train", "val") for clip in manifest.select(split) if not clip.still]
    models = [load_model(name) for name in arguments.model or ("tiny", "fast", "medium")]
    engines = [open_engine(model, device="cpu") for model in models]
    curves = [strength_of(model.description.sha256).curve for model in models]
    if None in curves:
        parser.error("a network without a curve; see bench/fit_strength.py")
    # By codec, of each network.
    samples: dict[str, list[list[Sample]]] = {codec: [[] for _ in models] for codec in ENCODINGS}
    with tempfile.TemporaryDirectory(prefix="carfix-") as folder:
        path = Path(folder) / "stream.mp4"
        for number, clip in enumerate(clips, 1):
            pristine, fps = read_video(
                arguments.dataset / clip.pristine, size=None, start=0, frames=min(FRAMES, clip.frames)
            )
            for codec, encodings in ENCODINGS.items():
                for encoding in encodings:
                    encode(path, pristine, fps, encoding)
                    for quantizer, decoded, wanted in random_parts(
                        path, pristine, LOOKED_AT, np.random.default_rng(0)
                    ):
                        for engine, found in zip(engines, samples[codec], strict=True):
                            found.append(sample_of(engine, quantizer, decoded, wanted))
            print(f"{number}/{len(clips)} {clip.name}", flush=True)
    print("| codec | offset | " + " | ".join(model.description.name for model in models) + " |")
    print("| --- | ---: |" + " ---: |" * len(models))
    for codec, of_models in samples.items():
        print_row(codec, "alone", [mean_gain(found, None) for found in of_models])
        for offset in OFFSETS:
            gains = [
                mean_gain(moved(found, offset), curve) for found, curve in zip(of_models, curves, strict=True)
            ]
            print_row(codec, f"{offset:+d}", gains)


def moved(samples: list[Sample], offset: float) -> list[Sample]:
    """The same with other quantizers."""
    return [dataclasses.replace(sample, quantizer=sample.quantizer + offset) for sample in samples]


def print_row(codec: str, label: str, gains: list[float]) -> None:
    """A row of the table."""
    print(f"| {codec} | {label} | " + " | ".join(f"{gain:+.3f}" for gain in gains) + " |")


if __name__ == "__main__":
    main()
