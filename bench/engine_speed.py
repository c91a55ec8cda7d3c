"""Megapixels a second of each engine on this machine's CPU, beside eager PyTorch in the same run.

    python bench/engine_speed.py [--model fast] [--rounds 7]

Rounds are interleaved and medians taken, because machines are noisy; what counts is the last column, the ratio to
eager PyTorch in fp32 on 256-pixel windows.
"""

import argparse
import os
import platform
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import av
import numpy as np
import torch

import carfix
from carfix.restore.engine import Planes
from carfix.restore.engine.ncnn_engine import NcnnEngine
from carfix.restore.engine.torch_engine import TorchEngine

CLIP = Path(__file__).resolve().parent.parent / "tests" / "data" / "highway.mp4"
CPU = torch.device("cpu")


def sample() -> Planes:
    """A real 720p frame's worth of luma: four frames of the sample clip in a square."""
    with av.open(CLIP) as container:
        frames = [f.to_ndarray()[: f.height] for f in container.decode(video=0)][:4]
    luma: Planes = np.block([[frames[0], frames[1]], [frames[2], frames[3]]])[None]
    return luma


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", default="fast")
    parser.add_argument("--rounds", type=int, default=7)
    options = parser.parse_args()
    model = carfix.load_model(options.model)
    luma = sample()
    engines: dict[str, Callable[[Planes, int], Planes]] = {
        "eager torch, fp32": TorchEngine(model, device=CPU, precision="fp32", tile=256, batch=1).restore,
        "ncnn, fp32": NcnnEngine(model, tile=None, batch=None).restore,
    }
    if torch.cpu._is_amx_tile_supported():
        engines["torch, bf16 (AMX)"] = TorchEngine(
            model, device=CPU, precision="bf16", tile=None, batch=None
        ).restore
    results = {name: restore(luma, 8).astype(int) for name, restore in engines.items()}  # warms up, too
    seconds: dict[str, list[float]] = {name: [] for name in engines}
    for _ in range(options.rounds):
        for name, restore in engines.items():
            began = time.perf_counter()
            restore(luma, 8)
            seconds[name].append(time.perf_counter() - began)
    print(f"{model.description.name}, {luma.shape[2]}x{luma.shape[1]}, {len(os.sched_getaffinity(0))} cores, "
          f"{platform.processor() or platform.machine()}")  # fmt: skip
    exact = results["eager torch, fp32"]
    usual = statistics.median(seconds["eager torch, fp32"])
    for name, times in seconds.items():
        median = statistics.median(times)
        off = np.abs(results[name] - exact)
        print(
            f"{name:20} {luma.size / 1e6 / median:7.2f} MP/s  {usual / median:5.2f} x eager   "
            f"{(off > 0).mean():.2%} of codes differ, by at most {off.max()}"
        )


if __name__ == "__main__":
    main()
