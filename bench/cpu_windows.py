"""What windows and pages are worth to a CPU's engine in bf16 or fp32: frames a second, rounds interleaved, medians.

Four ways in one run: square windows of MAP_BYTES, and windows by the model of `cpu_grid`, in pages of 4 kB; these in
large pages; the fastest by timing, in large pages. Pages are a matter of a whole process, so two take turns.

    python bench/cpu_windows.py [--precision fp32] [--rounds 5] [fast:1280x720 ...]
"""

import argparse
import math
import multiprocessing
import os
import statistics
import time
from multiprocessing.connection import Connection

import numpy as np

from carfix.net.catalog import LARGE_PAGES, load_model
from carfix.net.config import Config, margin
from carfix.restore.engine.cpu_grid import MAP_BYTES, SLOW_CELLS_16_BIT
from carfix.restore.engine.fused_engine import FusedEngine
from carfix.restore.engine.overlap import begin, in_order
from carfix.restore.engine.tune_cache import TuneCache
from carfix.restore.windows import window_size

CASES = [
    *(f"{name}:{size}" for name in ("tiny", "fast", "medium") for size in ("640x360", "720x576", "1280x720")),
    "tiny:1920x1080",
    "fast:1920x1080",
    "car-cnn-mse:640x360",
]
SQUARE, MODEL, TIMED = "squares", "by the model", "timed"
#: Seconds of a round, about.
SECONDS = 1.0
#: Margins that squares have, at least: otherwise half of what they compute would be thrown away.
MARGINS = 6


def square(config: Config, itemsize: int) -> int:
    """Side of a square window whose maps have MAP_BYTES, and whose rows 16 bit is quick with."""
    side = math.isqrt(MAP_BYTES * config.scale**2 // (config.features * itemsize))
    if itemsize == 2:
        side = min(side, (SLOW_CELLS_16_BIT - 1) * config.scale)
    return max(side, MARGINS * margin(config)) // config.scale * config.scale


def serve(connection: Connection, name: str, size: tuple[int, int], precision: str) -> None:
    """Answer the name of a way with a frame's seconds in it, and with what its windows are."""
    model = load_model(name)
    itemsize = 2 if precision == "bf16" else 4
    ways = {
        way: FusedEngine(model, precision=precision, tile=tile, cache=TuneCache(None))
        for way, tile in ((SQUARE, square(model.config, itemsize)), (MODEL, None), (TIMED, None))
    }
    planes = np.random.default_rng(0).integers(0, 256, (ways[SQUARE].batch, *size)).astype(np.uint8)
    while way := connection.recv():
        engine = ways[way]
        if way == TIMED:
            engine.plan(*size)
        began = time.perf_counter()
        engine.restore(planes, 8)
        count = max(2, round(SECONDS / (time.perf_counter() - began)))
        began = time.perf_counter()
        for _ in in_order(engine, (begin(engine, planes, 8) for _ in range(count))):
            pass
        seconds = (time.perf_counter() - began) / count / len(planes)
        found = engine.cut(planes).found
        height, width = window_size(found)
        connection.send((seconds, f"{len(found)} of {width}x{height}"))


def start(pages: str, *arguments: object) -> Connection:
    """A process of its own with these pages; it ends with this one."""
    os.environ[LARGE_PAGES] = pages
    ours, theirs = multiprocessing.get_context("spawn").Pipe()
    process = multiprocessing.get_context("spawn").Process(
        target=serve, args=(theirs, *arguments), daemon=True
    )
    process.start()
    return ours


def main() -> None:
    """See above."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("cases", nargs="*", default=CASES)
    parser.add_argument("--precision", default="bf16", choices=("bf16", "fp32"))
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    print("| network | video | squares | by the model | in large pages | timed | timed over squares |")
    print("| --- | --- | ---: | ---: | ---: | ---: | --- |")
    for case in options.cases:
        name, _, size = case.partition(":")
        width, height = map(int, size.split("x"))
        small, large = (start(pages, name, (height, width), options.precision) for pages in "01")
        ways = [(small, SQUARE), (small, MODEL), (large, MODEL), (large, TIMED)]
        seconds: list[list[float]] = [[] for _ in ways]
        windows = ""
        for _ in range(options.rounds):
            for (connection, way), times in zip(ways, seconds, strict=True):
                connection.send(way)
                took, windows = connection.recv()
                times.append(took)
        for connection in (small, large):
            connection.send("")
        speeds = [1 / statistics.median(times) for times in seconds]
        shown = " | ".join(f"{speed:.3g}" for speed in speeds)
        gain = speeds[-1] / speeds[0] - 1
        print(f"| `{name}` | {size} | {shown} | {gain:+.0%}, {windows} |", flush=True)


if __name__ == "__main__":
    main()
