"""What one core's tiles can do, and what carfix's and torch's engines make of it.

    python bench/amx_parts.py [--rounds 7]

TFLOP/s (a multiplication and an addition being two) of one thread: products of tiles in registers, the same with every
factor loaded from the first-level cache, and each network on a 720p frame (the full one: 320x192), codes to codes. The
shortest of interleaved rounds counts: what else runs on the machine only ever lengthens one.
"""

import argparse
import ctypes
import sys
import time
from collections.abc import Callable

import numpy as np
from llvmlite import ir

from carfix.cpu import has_tiles
from carfix.net.catalog import load_model
from carfix.net.config import CarCnnConfig, multiply_adds_per_pixel
from carfix.restore.engine.amx.net import AmxNet
from carfix.restore.engine.amx.tiles import ROW_BYTES, TILE, Tiles
from carfix.restore.engine.choose import TORCH_BF16
from carfix.restore.engine.fused_engine import FusedEngine
from carfix.restore.engine.llvm.linking import linked
from carfix.restore.engine.llvm.net import zeros
from carfix.restore.engine.llvm.vectors import INDEX, POINTER, Code, at, loop

NETWORKS = ("tiny", "fast", "medium", "car-cnn-mse")
FRAME, SMALL = (720, 1280), (192, 320)
#: Operations of a product of tiles, products written out, rounds of them.
OPERATIONS, WRITTEN, REPEATS = 2 * 16 * 16 * 32, 32, 20_000


def products(load: bool) -> Callable[[], None]:
    """A function that multiplies tiles: four sums by turns, as a convolution has them."""
    module = ir.Module("peak")
    tiles = Tiles(module)
    function = ir.Function(module, ir.FunctionType(ir.VoidType(), [INDEX, POINTER]), "run")
    code: Code = ir.IRBuilder(function.append_basic_block())
    memory = function.args[1]
    tiles.configure(code, at(code, memory, 4 * TILE))
    for tile in range(8):
        tiles.load(code, tile, memory, ROW_BYTES)
    with loop(code, 0, function.args[0]):
        for _ in range(WRITTEN // 4):
            if load:
                for tile in range(4, 8):
                    tiles.load(code, tile, at(code, memory, (tile - 4) * TILE), ROW_BYTES)
            for total in range(4):
                tiles.multiply_add(code, total, 4 + total // 2, 6 + total % 2)
    tiles.restore(code, at(code, memory, 4 * TILE))
    code.ret_void()
    engine = linked(module)
    run = ctypes.CFUNCTYPE(None, ctypes.c_int64, ctypes.c_void_p)(engine.get_function_address("run"))
    zero = zeros(5 * TILE)  # the last for the tiles' configuration

    def work(kept: object = engine) -> None:
        run(REPEATS, zero.ctypes.data)

    return work


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=7)
    options = parser.parse_args()
    if not has_tiles():
        sys.exit("no CPU with AMX, or a system that does not let it be used")
    works: dict[str, tuple[Callable[[], object], float]] = {}
    peak = OPERATIONS * WRITTEN * REPEATS
    works["products of tiles"] = products(load=False), peak
    works["with all factors loaded"] = products(load=True), peak
    rng = np.random.default_rng(0)
    whole = (slice(None), slice(None))
    for name in NETWORKS:
        model = load_model(name)
        height, width = SMALL if isinstance(model.config, CarCnnConfig) else FRAME
        codes = rng.integers(16, 236, (height, width)).astype(np.uint8)
        operations = 2 * multiply_adds_per_pixel(model.config) * height * width
        net = AmxNet(model)
        memory = net.memory(height, width)
        torch_engine = FusedEngine(model, precision=TORCH_BF16.split()[1], threads=1)
        works[f"{name}, amx"] = (
            lambda net=net, codes=codes, memory=memory: net.restore(codes, 8, 1.0, whole, memory),
            operations,
        )
        works[f"{name}, torch bf16"] = (
            lambda engine=torch_engine, codes=codes: engine.restore(codes[None], 8),
            operations,
        )
    least = dict.fromkeys(works, float("inf"))
    for work, _ in works.values():
        work()
    for _ in range(options.rounds):
        for name, (work, _) in works.items():
            began = time.perf_counter()
            work()
            least[name] = min(least[name], time.perf_counter() - began)
    for name, (_, operations) in works.items():
        print(f"{name:26} {operations / least[name] / 1e12:6.2f} TFLOP/s {1e3 * least[name]:8.1f} ms")


if __name__ == "__main__":
    main()
