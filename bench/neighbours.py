"""What the frames before and behind one could add to it, at most, where nothing moves: a linear estimate.

    carfix dataset ../shared/data/val val --size 512x-2 --frames 60 --split test
    python bench/neighbours.py val [--model fast] [--variants crf29-1500k,crf35-1500k,crf41-1000k]

For every pixel the differences between restored neighbours and the restored frame, each fading with how much the
decoded picture changed around there, are fitted to what the restored frame still lacks: least squares, a fit for
each clip and variant, on the very frames that it is measured on. So a gain is one that no network could count on; what
aligning moving things might add is not in it.
"""

import argparse
import itertools
from pathlib import Path

import numpy as np
from encoding_cost import luma
from numpy.typing import NDArray
from scipy.ndimage import uniform_filter

import carfix

#: Frames that a neighbour is away.
AWAY = (-4, -2, -1, 1, 2, 4)
#: Mean changes of codes in a square of `SIDE` pixels at which a neighbour counts 1/e.
FADES = (1.0, 2.0, 4.0, 8.0)
SIDE = 5

Floats = NDArray[np.float32]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("dataset", type=Path)
    parser.add_argument("--model", default="fast")
    parser.add_argument("--variants", default="crf29-1500k,crf35-1500k,crf41-1000k")
    options = parser.parse_args()
    clips = sorted(path for path in (options.dataset / "clips").iterdir() if path.is_dir())
    near = [n for n, (away, _) in enumerate(itertools.product(AWAY, FADES)) if abs(away) == 1]
    every = list(range(len(AWAY) * len(FADES)))
    print("| clip | variant | unchanged pixels | one frame on either side | two and four as well |")
    print("| --- | --- | ---: | ---: | ---: |")
    with carfix.Restorer(options.model, device="cpu") as restore:
        for clip, variant in itertools.product(clips, options.variants.split(",")):
            decoded = luma(clip / f"{variant}.mp4")
            pristine = luma(clip / "pristine.mkv").astype(np.float32)
            products, wanted, error = sums(
                pristine, decoded.astype(np.float32), restore(decoded).astype(np.float32)
            )
            gains = [gain(products, wanted, error, chosen) for chosen in (near, every)]
            same = np.mean(decoded[1:] == decoded[:-1])
            print(
                f"| {clip.name} | {variant} | {same:.0%} | "
                + " | ".join(f"{g:+.3f} dB" for g in gains)
                + " |",
                flush=True,
            )


def sums(
    pristine: Floats, decoded: Floats, restored: Floats
) -> tuple[NDArray[np.float64], NDArray[np.float64], float]:
    """Of `[N, H, W]` planes: products of all pairs of differences, products with what is lacking, and its energy."""
    count = len(AWAY) * len(FADES)
    products, wanted, error = np.zeros((count, count)), np.zeros(count), 0.0
    reach = max(map(abs, AWAY))
    for t in range(reach, len(decoded) - reach):
        lacking = (pristine[t] - restored[t]).ravel()
        rows: list[Floats] = []
        for away in AWAY:
            difference = restored[t + away] - restored[t]
            changed = uniform_filter(np.abs(decoded[t + away] - decoded[t]), SIDE)
            rows += [(difference * np.exp(-((changed / fade) ** 2))).ravel() for fade in FADES]
        matrix = np.stack(rows)
        products += matrix @ matrix.T
        wanted += matrix @ lacking
        error += float(lacking @ lacking)
    return products, wanted, error


def gain(
    products: NDArray[np.float64], wanted: NDArray[np.float64], error: float, chosen: list[int]
) -> float:
    """dB by which the least squares fit of the `chosen` differences lowers the squared error."""
    part, target = products[np.ix_(chosen, chosen)], wanted[chosen]
    ridge = 1e-6 * np.trace(part) / len(chosen) * np.eye(len(chosen))
    weights = np.linalg.solve(part + ridge, target)
    left = error - 2 * weights @ target + weights @ part @ weights
    return float(10 * np.log10(error / left))


if __name__ == "__main__":
    main()
