"""What is computed of a video where only what moves is: pixels, tiles of all layers, time, and codes that differ.

    python bench/moving_parts.py VIDEO... -m fast [-m medium] [--frames 60] [--fp32]

Of one thread, frame after frame, whole and in parts in turn; times are the sums of each frame's shorter one of two.
"""

import argparse
import itertools
import time
from pathlib import Path

import numpy as np

from carfix.net.catalog import load_model
from carfix.quality.reader import read_frames
from carfix.restore.engine import Wanted
from carfix.restore.engine.winograd.net import WinogradNet
from carfix.restore.hold import Moves

WHOLE = (slice(None), slice(None))


def main() -> None:
    """See above."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("videos", type=Path, nargs="+")
    parser.add_argument("-m", "--model", action="append", required=True)
    parser.add_argument("--frames", type=int, default=60)
    parser.add_argument("--fp32", action="store_true", help="products in fp32")
    options = parser.parse_args()
    for path, name in itertools.product(options.videos, options.model):
        net = WinogradNet(load_model(name), integers=not options.fp32)
        moves, memory = Moves(), None
        pixels, shares, differ, most = [], [], 0, 0
        seconds = np.zeros(2)
        for frame in itertools.islice(read_frames(path), options.frames):
            cell = net.shape.scale
            luma = np.ascontiguousarray(frame.luma[: len(frame.luma) // cell * cell])
            luma = np.ascontiguousarray(luma[:, : luma.shape[1] // cell * cell])
            memory = memory or net.memory(*luma.shape)
            wanted = moves(luma)
            if wanted is None:
                continue
            times: list[list[float]] = [[], []]
            found = []
            for turn in range(4):
                part: Wanted | None = wanted if turn % 2 else None
                began = time.perf_counter()
                found.append(net.restore(luma, frame.bit_depth, 1.0, WHOLE, memory, part))
                times[turn % 2].append(time.perf_counter() - began)
            seconds += [min(each) for each in times]
            pixels.append(wanted.mean())
            shares.append(net.demand(memory, wanted).share)
            change = np.abs(found[0].astype(int) - found[1])[wanted == 1]
            differ += int((change > 0).sum())
            most = max(most, int(change.max(initial=0)))
        looked_at = max(1.0, float(np.sum(pixels)) * luma.size)
        print(
            f"{path.name}, {name}: {np.mean(pixels):.0%} of the pixels move, {np.mean(shares):.0%} of the tiles are "
            f"computed, in {seconds[1] / seconds[0]:.0%} of the time ({1e3 * seconds[0] / len(pixels):.1f} ms); "
            f"{differ / looked_at:.2%} of the codes differ, by {most} at most",
            flush=True,
        )


if __name__ == "__main__":
    main()
