"""Fits the gain that `carfix inspect` predicts: from an evaluation's gains to what the files' decoders tell.

    carfix dataset CLIPS data --split test && carfix dataset CLIPS data --split test --crf 15,19,24 --maxrate none
    carfix evaluate data --split test --no-spp --json > evaluation.json
    python bench/fit_gain.py data evaluation.json carfix/quality/gain_fit.json

Every network of the evaluation that is installed gets a fit; those already in the file are kept otherwise.
"""

import argparse
import json
from pathlib import Path

from carfix.net.catalog import installed
from carfix.net.checkpoint import read_description
from carfix.quality.gain import Point, fit_gain, fits_from_json, fits_to_json
from carfix.quality.inspect import Inspection, inspect_file
from carfix.video.manifest import read_manifest


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("dataset", type=Path)
    parser.add_argument("evaluation", type=Path, help="what carfix evaluate --json printed")
    parser.add_argument("output", type=Path, help="the file of all fits")
    arguments = parser.parse_args()
    methods = json.loads(arguments.evaluation.read_text())["methods"]
    clips = read_manifest(arguments.dataset).clips
    fits = fits_from_json(arguments.output.read_text()) if arguments.output.exists() else {}
    inspected: dict[str, Inspection] = {}
    for name, path in installed().items():
        if name not in methods:
            continue
        points = []
        for clip, variants in methods[name]["clips"].items():
            for variant, cell in variants.items():
                file = clips[clip].variants[variant].file
                if file not in inspected:
                    inspected[file] = inspect_file(arguments.dataset / file)
                found = inspected[file]
                if found.mean_quantizer is None or found.bits_per_pixel is None:
                    continue
                gain = cell["psnr"] - methods["decoded"]["clips"][clip][variant]["psnr"]
                points.append(Point(clip, found.mean_quantizer, found.bits_per_pixel, gain))
        fits[name] = fit_gain(points, read_description(path).sha256)
        fit = fits[name]
        print(
            f"{name}: {', '.join(fit.terms)}; error on unseen clips {fit.error:.3f} dB, {fit.variants} variants"
        )
    arguments.output.write_text(fits_to_json(fits))


if __name__ == "__main__":
    main()
