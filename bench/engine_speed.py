"""Megapixels a second of each engine of this machine's CPU, beside eager PyTorch in the same run.

    python bench/engine_speed.py [--networks fast s2f16b4 car-cnn] [--rounds 7] [--json FILE]

Two kinds of rows. "windows": 256-pixel windows of real frames, each a picture of its own, for every engine alike: what
counts is the ratio to eager PyTorch in fp32 (channels_last, all cores on one window, four windows at once). "frames":
whole 720p frames in windows of each engine's own size, overlaps included, beside the same eager engine in 256-pixel
windows: what a restore gains. Rounds are interleaved and medians taken, because machines are noisy.

A network is the name of installed weights, `car-cnn` at full width, or `s2f16b4` for a fast one of scale 2, 16 features
and 4 blocks; those that are not installed get random weights that change a picture by some four codes.
"""

import argparse
import json
import re
import statistics
import time
from pathlib import Path
from typing import Any

import av
import numpy as np
import torch

import carfix
from carfix.cpu import available_threads, cores
from carfix.net.arch import build, convolution_layers
from carfix.net.catalog import installed
from carfix.net.checkpoint import Description, Model
from carfix.net.config import CarCnnConfig, Config, FastConfig, multiply_adds_per_pixel
from carfix.net.tensors import model_of
from carfix.restore.engine import Engine, Planes
from carfix.restore.engine.choose import EXACT_FIRST, LIBRARIES, can_bf16, candidates, open_kind
from carfix.restore.engine.overlap import prepare
from carfix.restore.engine.torch_engine import TorchEngine

CLIP = Path(__file__).resolve().parent.parent / "tests" / "data" / "highway.mp4"
CPU = torch.device("cpu")
EAGER = "eager torch, fp32"
SIDE = 256
#: Mean change by a network with random weights, in [-1, 1]: about four 8-bit codes.
CHANGE = 0.03
#: Multiply-adds of a frame beyond which only windows are timed: the full network takes half a minute a frame.
MOST_WORK = 1e11


def sample() -> Planes:
    """A real 720p frame's worth of luma: four frames of the sample clip in a square."""
    with av.open(CLIP) as container:
        frames = [f.to_ndarray()[: f.height] for f in container.decode(video=0)][:4]
    luma: Planes = np.block([[frames[0], frames[1]], [frames[2], frames[3]]])[None]
    return luma


def cut(frame: Planes, count: int) -> Planes:
    """`[count, 256, 256]` crops of `[1, H, W]`."""
    rows, columns = frame.shape[1] // SIDE, frame.shape[2] // SIDE
    places = [(n // columns % rows, n % columns) for n in range(count)]
    return np.stack([frame[0, r * SIDE : (r + 1) * SIDE, c * SIDE : (c + 1) * SIDE] for r, c in places])  # type: ignore[return-value]


def network(name: str) -> Model:
    """Installed weights, or random ones."""
    if name in installed():
        return carfix.load_model(name)
    config: Config = CarCnnConfig()
    if name != "car-cnn":
        match = re.fullmatch(r"s(\d+)f(\d+)b(\d+)", name)
        if match is None:
            raise SystemExit(
                f"no network {name}: installed are {', '.join(installed())}; else car-cnn, s2f16b4, ..."
            )
        scale, features, blocks = map(int, match.groups())
        config = FastConfig(scale=scale, features=features, blocks=blocks)
    torch.manual_seed(0)
    net = build(config).eval().requires_grad_(False)
    last = convolution_layers(net)[-1]
    last.weight.normal_(0, 0.02)
    x = torch.rand(1, 1, 64, 64) * 2 - 1
    last.weight.mul_(CHANGE / (net(x) - x).abs().mean())
    description = Description(
        name=name, config=config, loss="mse", steps=1, training_data="none", gains={}, licence="Apache-2.0"
    )
    return model_of(net, description, Path(name))


def engines_of(model: Model, tile: int | None) -> dict[str, Engine]:
    """Eager PyTorch in 256-pixel windows, and every engine of this machine in windows of `tile`."""
    engines: dict[str, Engine] = {EAGER: TorchEngine(model, device=CPU, precision="fp32", tile=SIDE, batch=1)}
    kinds = {*candidates("auto"), *(candidates("bf16") if can_bf16() else ())}
    for kind in EXACT_FIRST:
        if kind in kinds:
            name = f"{kind.replace(' ', ', ')}" + ("" if kind in LIBRARIES else ", packed and fused")
            engines[name] = open_kind(kind, model, tile=tile)
    return engines


def measure(engines: dict[str, Engine], planes: Planes, rounds: int) -> list[dict[str, Any]]:
    """Medians of interleaved rounds, in the engines' order."""
    for engine in engines.values():
        prepare(engine, *planes.shape[1:])
    results = {
        name: engine.restore(planes, 8).astype(int) for name, engine in engines.items()
    }  # warms up, too
    seconds: dict[str, list[float]] = {name: [] for name in engines}
    for _ in range(rounds):
        for name, engine in engines.items():
            began = time.perf_counter()
            engine.restore(planes, 8)
            seconds[name].append(time.perf_counter() - began)
    usual = statistics.median(seconds[EAGER])
    rows = []
    for name, times in seconds.items():
        median = statistics.median(times)
        off = np.abs(results[name] - results[EAGER])
        rows.append(
            {
                "engine": name,
                "megapixels_per_second": planes.size / 1e6 / median,
                "times_eager": usual / median,
                "codes_differing": float((off > 0).mean()),
                "largest_difference": int(off.max()),
            }
        )
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--networks", nargs="+", default=["fast", "s2f16b4", "s2f32b3", "s2f48b4", "car-cnn"])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--json", type=Path, help="write the rows there, too")
    options = parser.parse_args()
    frame = sample()
    threads = available_threads()
    print(f"{threads} threads on {len(cores())} cores, torch {torch.__version__}, "
          f"{torch.backends.cpu.get_cpu_capability()}")  # fmt: skip
    rows: list[dict[str, Any]] = []
    for name in options.networks:
        model = network(name)
        per_pixel = multiply_adds_per_pixel(model.config)
        whole = per_pixel * frame.size <= MOST_WORK
        for kind, planes, tile in (
            ("windows", cut(frame, 2 * threads), SIDE),
            ("frames", frame.repeat(2, 0), None),
        ):
            if kind == "frames" and not whole:
                continue
            engines = engines_of(model, tile)
            found = measure(engines, planes, options.rounds if whole else min(options.rounds, 3))
            for engine in engines.values():
                engine.close()
            print(f"\n{name} ({per_pixel / 1000:.3g} k multiply-adds a pixel), {kind}")
            for row in found:
                print(
                    f"  {row['engine']:30} {row['megapixels_per_second']:7.2f} MP/s  "
                    f"{row['times_eager']:5.2f} x eager   "
                    f"{row['codes_differing']:.2%} of codes differ, by at most {row['largest_difference']}"
                )
            rows += [{"network": name, "what": kind, **row} for row in found]
    if options.json:
        options.json.write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
