"""Weights between those of a network and of its fine-tuned self: what it learnt, without all that it forgot.

    python bench/mix.py FIRST.safetensors SECOND.safetensors 0.75 MIXED.safetensors

Each weight is (1 - share) of the first's and share of the second's (Wortsman et al., "Robust fine-tuning of zero-shot
models", CVPR 2022). Both must be of one architecture and one training after the other.
"""

import argparse
import dataclasses
import sys
from pathlib import Path

import torch

from carfix.net.checkpoint import load_checkpoint, save_checkpoint


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("first", type=Path)
    parser.add_argument("second", type=Path)
    parser.add_argument("share", type=float)
    parser.add_argument("output", type=Path)
    options = parser.parse_args()
    first, second = load_checkpoint(options.first), load_checkpoint(options.second)
    if first.net.config != second.net.config:
        sys.exit("the two are of different architectures")
    old, new = first.net.state_dict(), second.net.state_dict()
    second.net.load_state_dict({name: torch.lerp(old[name], new[name], options.share) for name in old})
    save_checkpoint(options.output, second.net, dataclasses.replace(second.description, sha256=""))


if __name__ == "__main__":
    main()
