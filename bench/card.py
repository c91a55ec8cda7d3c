"""What an evaluation found, written into the weights' own description and printed as rows for their cards.

carfix evaluate val --split test --json > evaluation.json
python bench/card.py evaluation.json weights/*.safetensors
"""

import argparse
import dataclasses
import json
from pathlib import Path
from typing import Any

from carfix.net.checkpoint import load_checkpoint, save_checkpoint
from carfix.net.config import multiply_adds_per_pixel, parameter_count, receptive_field_radius

#: Rows of every card: the rivals.
RIVALS = {"spp-best": "spp, best quantizer for each variant", "spp": "spp as FFmpeg runs it on H.264"}


def row(label: str, method: dict[str, Any], decoded: dict[str, Any]) -> str:
    """Gains over decoded: CRFs in a cell for each cap, then the means."""
    caps: dict[str, list[str]] = {}
    for variant, cell in method["variants"].items():
        gain = cell["psnr"] - decoded["variants"][variant]["psnr"]
        caps.setdefault(variant.partition("-")[2], []).append(f"{gain:+.2f}")
    mean = method["gain"]["decoded"]
    cells = " | ".join(" ".join(gains) for gains in caps.values())
    return f"| {label} | {cells} | {mean['psnr']:+.3f} | {mean['ssim']:+.4f} |"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("evaluation", type=Path)
    parser.add_argument("weights", type=Path, nargs="+")
    options = parser.parse_args()
    methods = json.loads(options.evaluation.read_text())["methods"]
    decoded = methods["decoded"]
    for path in options.weights:
        model = load_checkpoint(path)
        method = methods.get(model.description.name)
        if method is None:
            print(f"{path}: not in the evaluation")
            continue
        gain = method["gain"]["decoded"]
        description = dataclasses.replace(
            model.description, gains={"psnr": gain["psnr"], "ssim": gain["ssim"]}
        )
        save_checkpoint(path, model.net, description)
        least, config = gain["smallest"], model.config
        parameters = parameter_count(config)
        print(f"\n{description.name}: {parameters:,} parameters, {multiply_adds_per_pixel(config):,.0f} multiply-adds "
              f"a pixel, radius {receptive_field_radius(config)}, SHA-256 {model.description.sha256}")  # fmt: skip
        print(row(f"`{description.name}`", method, decoded))
        print(f"smallest {least['psnr']:+.3f} dB ({least['clip']}, {least['variant']}); "
              f"flicker {method['flicker']['shown']:.4f}, decoded {decoded['flicker']['shown']:.4f}, "
              f"pristine {decoded['flicker']['pristine']:.4f}; over spp-best "
              f"{method['gain'].get('spp-best', {}).get('psnr', float('nan')):+.3f} dB, "
              f"{method['gain'].get('spp-best', {}).get('ssim', float('nan')):+.4f}")  # fmt: skip
        for clip, variants in method["clips"].items():
            gains = [cell["psnr"] - decoded["clips"][clip][name]["psnr"] for name, cell in variants.items()]
            print(f"  {clip}: {sum(gains) / len(gains):+.3f}")
    for name, label in RIVALS.items():
        if name in methods:
            print(row(label, methods[name], decoded))


if __name__ == "__main__":
    main()
