"""What one network learnt in a fine-tuning, added to another of the same family.

    python bench/transfer.py BEFORE.safetensors AFTER.safetensors OTHER.safetensors OUTPUT.safetensors [--share 1]

Each weight of OTHER moves by `share` of what the same weight moved from BEFORE to AFTER (Ilharco et al., "Editing
models with task arithmetic", ICLR 2023). All three must be of one architecture and come from one training.
"""

import argparse
import dataclasses
import sys
from pathlib import Path

from carfix.net.checkpoint import load_checkpoint, save_checkpoint


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    for name in ("before", "after", "other", "output"):
        parser.add_argument(name, type=Path)
    parser.add_argument("--share", type=float, default=1.0)
    options = parser.parse_args()
    before, after, other = (load_checkpoint(path) for path in (options.before, options.after, options.other))
    if not before.net.config == after.net.config == other.net.config:
        sys.exit("the three are of different architectures")
    old, new, kept = (model.net.state_dict() for model in (before, after, other))
    other.net.load_state_dict({name: kept[name] + options.share * (new[name] - old[name]) for name in kept})
    save_checkpoint(options.output, other.net, dataclasses.replace(other.description, sha256=""))


if __name__ == "__main__":
    main()
