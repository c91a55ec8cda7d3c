"""Text, lines and screens written into pristine frames and encoded: what cameras' pictures alone do not teach.

    python bench/text_pairs.py data texts.npz --sequences 600 [--split val] [--seed 1]

Each sequence is a clip or photograph of the dataset with a recorder's clock, names, boxes and lines drawn over it (or a
screen in its place), encoded by x264 at a drawn quality; in a third of them the picture below was encoded before, so
that crisp text stands on a coarse picture, as an export makes it. The file has the arrays `decoded` and `pristine`,
`[N, H, W]` uint8, all cut to one size, and `plain`, the number of frames without such an encoding before.
`carfix dataset --burn-in` makes clips of the same drawings, for `carfix train`.
"""

import argparse
import tempfile
from pathlib import Path

import numpy as np
from encoding_cost import luma
from numpy.typing import NDArray
from overlays import encode

from carfix.training.burn_in import SCREENS, Drawing, screen
from carfix.training.patches import load_pairs

Codes = NDArray[np.uint8]

SIZE = (320, 480)
FRAMES, KEPT = 10, (2, 5, 8)
CRFS, CRFS_BEFORE, CRFS_AFTER = (15, 48), (28, 44), (15, 26)
AFTER = 0.33  # share of the sequences


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("dataset", type=Path)
    parser.add_argument("output", type=Path)
    parser.add_argument("--sequences", type=int, default=600)
    parser.add_argument("--split", default="train")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    rng = np.random.default_rng(options.seed)
    sources = {pair.clip: pair.pristine for pair in load_pairs(options.dataset, options.split, frames=24)}
    sources = {
        name: planes
        for name, planes in sources.items()
        if planes.shape[1] >= SIZE[0] and planes.shape[2] >= SIZE[1]
    }
    names = sorted(sources)
    after = [number < AFTER * options.sequences for number in range(options.sequences)][::-1]
    decoded, pristine = [], []
    with tempfile.TemporaryDirectory(prefix="carfix-text-") as folder:
        for number, twice in enumerate(after):
            planes = excerpt(sources[names[number * 7919 % len(names)]], rng)
            if rng.random() < SCREENS:
                planes = np.repeat(screen(rng, *SIZE)[None], len(planes), 0)
            below = planes
            if twice:
                encode(first := Path(folder, "first.mp4"), planes, int(rng.integers(*CRFS_BEFORE)))
                below = luma(first).astype(np.uint8)
            drawn = Drawing(rng, FRAMES)
            source, target = drawn.over(below), drawn.over(planes)
            encode(
                video := Path(folder, "text.mp4"), source, int(rng.integers(*(CRFS_AFTER if twice else CRFS)))
            )
            shown = luma(video).astype(np.uint8)
            decoded.append(shown[list(KEPT)])
            pristine.append(target[list(KEPT)])
    np.savez(
        options.output,
        decoded=np.concatenate(decoded),
        pristine=np.concatenate(pristine),
        plain=len(KEPT) * after.count(False),
    )


def excerpt(planes: Codes, rng: np.random.Generator) -> Codes:
    """`FRAMES` frames, cut out at a multiple of 16; a photograph's short clip goes to and fro."""
    y, x = (
        int(rng.integers((side - size) // 16 + 1)) * 16
        for side, size in zip(planes.shape[1:], SIZE, strict=True)
    )
    order = np.arange(FRAMES) % (2 * len(planes) - 2)
    order = np.minimum(order, 2 * len(planes) - 2 - order)
    return np.ascontiguousarray(planes[order, y : y + SIZE[0], x : x + SIZE[1]])


if __name__ == "__main__":
    main()
