"""Which orientations of a picture are worth their time: gains of their means, over the decoded frames.

    carfix dataset ../shared/data/val val --size 512x-2 --frames 60 --split test
    python bench/orientations.py val -m fast -m medium [--frames 2]

Corrections are taken whole, and results are not rounded to eight bits. An orientation is named by what is done to a
picture before a network sees it: `h` mirrors it left to right, `v` upside down, `t` swaps its sides after that.
"""

import argparse
import itertools
import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np

import carfix
from carfix.quality.reader import read_frames
from carfix.restore.engine.planes import Floats

VARIANTS = ("crf29-1500k", "crf35-1500k", "crf41-1000k")
ALONE = [swapped + mirrored for swapped in ("", "t") for mirrored in ("", "h", "v", "hv")]
#: All pairs with the picture as it lies, and sets of four that are closed or begin with the best pair.
TOGETHER = [
    *(["", other] for other in ALONE[1:]),
    ["", "h", "v", "hv"],
    ["", "hv", "th", "tv"],
    ["", "h", "t", "th"],
    ["", "h", "t", "tv"],
    ["", "h", "t", "thv"],
    ALONE,
]
#: From 8 bits to 16, in which a network's result is hardly rounded.
SCALE = 257


def turned(picture: Floats, way: str) -> Floats:
    """`picture`, `[H, W]`, as a network sees it."""
    seen = picture[:: -1 if "v" in way else 1, :: -1 if "h" in way else 1]
    return seen.T if "t" in way else seen


def turned_back(picture: Floats, way: str) -> Floats:
    """As it lay before `turned`."""
    seen = picture.T if "t" in way else picture
    return seen[:: -1 if "v" in way else 1, :: -1 if "h" in way else 1]


def psnr(pristine: Floats, picture: Floats) -> float:
    """In dB, of 8-bit codes that need not be whole."""
    return float(10 * np.log10(255**2 / np.mean((pristine - picture) ** 2)))


def frames(path: Path, wanted: list[int]) -> Iterator[Floats]:
    """The luma of these frames, 8-bit codes."""
    for number, frame in enumerate(itertools.islice(read_frames(path), wanted[-1] + 1)):
        if number in wanted:
            yield frame.luma.astype(np.float32)


def main() -> None:
    """Print a table a network."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("dataset", type=Path)
    parser.add_argument("-m", "--model", action="append", required=True)
    parser.add_argument("--frames", type=int, default=2, help="of each file")
    options = parser.parse_args()
    clips = json.loads((options.dataset / "manifest.json").read_text())["clips"]
    for model in options.model:
        gains: dict[tuple[str, ...], list[list[float]]] = {}
        with carfix.Restorer(model, device="cpu") as restore:
            for clip, variant in itertools.product(clips.values(), VARIANTS):
                step = clip["frames"] // options.frames
                wanted = [step // 2 + step * n for n in range(options.frames)]
                pristine = frames(options.dataset / clip["pristine"], wanted)
                decoded = frames(options.dataset / clip["variants"][variant]["file"], wanted)
                for truth, picture in zip(pristine, decoded, strict=True):
                    codes = {way: turned(picture, way).astype(np.uint16) * SCALE for way in ALONE}
                    found = {
                        way: turned_back(restore(each, bit_depth=16).astype(np.float32) / SCALE, way)
                        for way, each in codes.items()
                    }
                    before = psnr(truth, picture)
                    for ways in [*([way] for way in ALONE), *TOGETHER]:
                        mean = np.mean([found[way] for way in ways], axis=0)
                        rows = gains.setdefault(tuple(ways), [[] for _ in VARIANTS])
                        rows[VARIANTS.index(variant)].append(psnr(truth, mean) - before)
        print(f"\n| `{model}` | {' | '.join(VARIANTS)} | mean |\n| --- | {'---: | ' * len(VARIANTS)}---: |")
        for ways, rows in gains.items():
            cells = [float(np.mean(row)) for row in rows]
            name = ", ".join(way or "as it lies" for way in ways) if len(ways) < len(ALONE) else "all eight"
            print(f"| {name} | {' | '.join(f'{cell:+.3f}' for cell in [*cells, float(np.mean(cells))])} |")


if __name__ == "__main__":
    main()
