"""Where the winograd engine's time goes: its parts, its ceiling, and how many layers move down a frame together.

    python bench/winograd_parts.py [fast:1280x720 ...] [--rounds 3] [--integers] [--avx2]

Parts are measured by leaving the others out of the machine code; what they sum up to less than the whole is what they
cost each other in caches. The ceiling is a loop of multiply-adds on registers. Groups: layers that move together, and
megapixels a second with each; "all" is every layer's map whole but for three rows of tiles. All cores compute at once,
a frame each; the shortest of the rounds counts, because what else runs on a machine only lengthens them.
"""

import argparse
import ctypes
import functools
import threading
import time
from collections.abc import Callable
from unittest import mock

import numpy as np
from llvmlite import ir

from carfix.cpu import available_threads
from carfix.net.catalog import load_model
from carfix.net.checkpoint import Model
from carfix.restore.engine.llvm import linking
from carfix.restore.engine.llvm.linking import linked
from carfix.restore.engine.llvm.net import zeros
from carfix.restore.engine.llvm.vectors import INDEX, POINTER, Vectors, at, carried
from carfix.restore.engine.winograd import net as winograd_net
from carfix.restore.engine.winograd import program
from carfix.restore.engine.winograd.kernels import Body, Convolution
from carfix.restore.engine.winograd.net import WinogradNet, Workspace
from carfix.restore.engine.winograd.products import Products

CASES = ["tiny:1280x720", "fast:1280x720", "medium:1280x720", "car-cnn-mse:320x192"]
PARTS = {
    "into tiles": (Convolution, "_tile_in"),
    "products": (Products, "multiply"),
    "out of tiles": (Body, "_tile_out"),
}
GROUPS = (2, 4, 8, 1 << 30)
#: Rounds of the ceiling's loop: some tenths of a second.
LOOPS = 2_000_000


def on_all_cores(prepare: Callable[[], Callable[[], object]]) -> float:
    """Seconds that the slowest core takes for what `prepare` returns, once it is warm."""
    threads = available_threads()
    together, seconds = threading.Barrier(threads), []

    def run() -> None:
        own = prepare()
        own()
        together.wait()
        began = time.perf_counter()
        own()
        seconds.append(time.perf_counter() - began)

    running = [threading.Thread(target=run) for _ in range(threads)]
    for thread in running:
        thread.start()
    for thread in running:
        thread.join()
    return max(seconds)


def without(model: Model, parts: list[str], *, integers: bool) -> WinogradNet:
    """The network's machine code without these parts, made anew and not kept."""
    program._compiled.cache_clear()
    patches = [mock.patch.object(*PARTS[part], lambda *_: None) for part in parts]
    patches.append(mock.patch.object(program, "kept", lambda _, write: linked(write())))
    for patch in patches:
        patch.start()
    net = WinogradNet(model, integers=integers)
    for patch in patches:
        patch.stop()
    program._compiled.cache_clear()
    return net


def frame(net: WinogradNet, codes: np.ndarray) -> float:
    """Seconds of a frame on each core."""

    def prepare() -> Callable[[], object]:
        memory = Workspace(net.shape, *codes.shape)
        return lambda: net.restore(codes, 8, 1.0, (slice(None), slice(None)), memory)

    return on_all_cores(prepare)


def ceiling(net: WinogradNet) -> float:
    """Multiply-adds a second of a core that has everything in registers."""
    lanes, registers = net.shape.blocking.lanes, net.shape.blocking.registers
    sums = registers - 4
    module = ir.Module("ceiling")
    vectors = Vectors(module, lanes)
    function = ir.Function(module, ir.FunctionType(ir.VoidType(), [POINTER, INDEX]), "ceiling")
    memory, count = function.args
    code = ir.IRBuilder(function.append_basic_block())
    x, y = vectors.load(code, memory), vectors.load(code, at(code, memory, lanes))
    start = [vectors.load(code, at(code, memory, lanes * n)) for n in range(sums)]
    totals = carried(code, count, 1, start, lambda _, now: [vectors.multiply_add(code, x, y, z) for z in now])
    for n, total in enumerate(totals):
        vectors.store(code, total, at(code, memory, lanes * n))
    code.ret_void()
    engine = linked(module)
    call = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_int64)(engine.get_function_address("ceiling"))

    def prepare() -> Callable[[], object]:
        own = zeros(lanes * sums)
        return lambda: call(own.ctypes.data, LOOPS)

    return LOOPS * sums * lanes / min(on_all_cores(prepare) for _ in range(5))


def main() -> None:
    """See above."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("cases", nargs="*", default=CASES)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--integers", action="store_true", help="products of 16-bit integers")
    parser.add_argument("--avx2", action="store_true", help="as on a CPU without AVX-512")
    options = parser.parse_args()
    if options.avx2:
        features = linking._features
        linking._features = lambda: {
            name: has and not name.startswith("avx512") for name, has in features().items()
        }
    for case in options.cases:
        name, _, size = case.partition(":")
        width, height = map(int, size.split("x"))
        model = load_model(name)
        codes = np.random.default_rng(0).integers(0, 256, (height, width)).astype(np.uint8)
        made = functools.partial(without, model, integers=options.integers)
        nets = {"whole": made([])}
        nets |= {part: made([other for other in PARTS if other != part]) for part in PARTS}
        nets["the rest"] = made(list(PARTS))
        best = dict.fromkeys(nets, float("inf"))
        for _ in range(options.rounds):
            for part, net in nets.items():
                best[part] = min(best[part], frame(net, codes))
        rest = best["the rest"]
        shown = ", ".join(f"{part} {1e3 * (best[part] - rest):.0f}" for part in PARTS)
        print(
            f"{case}: a frame {1e3 * best['whole']:.0f} ms on each core at once: {shown}, the rest {1e3 * rest:.0f}"
        )
        layers = nets["whole"].shape.layers[1:-1]  # of the body, which the parts are those of
        tiles = np.prod([-(-side // model.config.scale // 4) for side in (height, width)])
        products = tiles * sum(layer.matrices * layer.inputs * layer.outputs for layer in layers)
        most = ceiling(nets["whole"])
        speed = products / (best["products"] - rest)
        print(f"  products {2e-9 * speed:.0f} of {2e-9 * most:.0f} GFLOP/s a core, {speed / most:.0%}")
        speeds = []
        for group in GROUPS:
            number_of = min(group, len(layers) // 2 * 2)
            with mock.patch.object(winograd_net, "GROUP", number_of):
                seconds = min(frame(nets["whole"], codes) for _ in range(options.rounds))
            label = "all" if number_of < group else str(group)
            speeds.append(f"{label} {codes.size * available_threads() / 1e6 / seconds:.3g}")
        print(f"  layers together, megapixels a second: {', '.join(speeds)}")


if __name__ == "__main__":
    main()
