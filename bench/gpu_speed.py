"""Frames a second of each network on a GPU, beside the ceiling measured in the same run and plain PyTorch.

    python bench/gpu_speed.py [--json] [--seconds 200]

One row a network, frame size, precision and variant of the computation: frames a second of the network alone (codes
to codes, on the device), its share of what the measured matrix product would allow, and of what that and one reading
and one writing of every feature map would. "chosen" is what carfix takes itself, with copies to and from the device,
beside each other as in a restore. What does not fit into --seconds is left out and named. `--device cpu --dry-run`
goes through all of it in tiny sizes.
"""

import argparse
import json
import platform
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gpu_parts as parts
import numpy as np
import torch

import carfix
from carfix.net.arch import RestorationNet, build, convolution_layers
from carfix.net.catalog import installed, load_model
from carfix.net.checkpoint import Description, Model
from carfix.net.config import CarCnnConfig, margin
from carfix.net.tensors import model_of
from carfix.restore.engine.autotune import Task, frame_seconds, geometries
from carfix.restore.engine.cuda_check import picture
from carfix.restore.engine.cuda_open import open_accelerator
from carfix.restore.engine.cuda_program import COMPILED, EAGER, HOPPER, Batch, Builder
from carfix.restore.engine.cuda_streams import COMPUTE, queues_of, seconds_of
from carfix.restore.engine.cuda_tune import free_memory
from carfix.restore.engine.torch_engine import ACCELERATOR_BATCH, DTYPES
from carfix.restore.engine.tune_cache import TuneCache
from carfix.restore.windows import window_size

SIZES = {"1080p": (1080, 1920), "720p": (720, 1280)}
TINY = {"tiny": (48, 80)}
#: Seconds a round of timing, rounds; a GPU's clock settles within the first.
ROUND, ROUNDS = 0.15, 3
#: Seconds that compiling one network for one shape may take: it is not begun with less time left.
COMPILING = 60.0


class Bench:
    """Rows as they are measured, and what there was no time for."""

    def __init__(self, device: torch.device, *, tiny: bool, seconds: float) -> None:
        self.device, self.tiny = device, tiny
        self.round = 0.01 if tiny else ROUND
        self.queues = queues_of(device)
        self.end = time.monotonic() + seconds
        self.rows: list[dict[str, Any]] = []
        self.left_out: list[str] = []
        self.transfer = parts.copy_rate(device, self.queues, 1 << (20 if tiny else 30))
        self.operations: dict[str, float] = {}

    def products(self, precisions: list[str]) -> None:
        side = 256 if self.tiny else 8192
        for precision in precisions:
            self.operations[precision] = parts.matrix_rate(self.device, precision, self.queues, side)

    def attempt(self, what: str, work: Callable[[], None], needed: float = 5.0) -> None:
        """Do `work` if there is time; what fails is named and left out."""
        if time.monotonic() + needed > self.end:
            self.left_out.append(f"{what}: no time")
            return
        began = time.monotonic()
        try:
            work()
        except Exception as error:  # noqa: BLE001 - the other rows are measured all the same
            self.left_out.append(f"{what}: {type(error).__name__}: {' '.join(str(error).split()):.160}")
        print(f"{what}: {time.monotonic() - began:.1f} s", file=sys.stderr, flush=True)
        if self.device.type == "cuda":
            torch.cuda.empty_cache()

    def row(self, model: Model, size: str, precision: str, variant: str, rate: float, how: str = "") -> None:
        height, width = {**SIZES, **TINY}[size]
        arithmetic, roofline = parts.ceilings(
            model.net, height, width, itemsize=DTYPES[precision].itemsize,
            operations=self.operations[precision], transfer=self.transfer,
        )  # fmt: skip
        self.rows.append(
            {
                "network": model.description.name,
                "size": size,
                "precision": precision,
                "variant": variant,
                "frames_per_second": rate,
                "share_of_arithmetic": rate / arithmetic,
                "share_of_roofline": rate / roofline,
                "how": how,
            }
        )

    def variant(self, model: Model, size: str, precision: str, variant: str) -> None:
        """The network alone in its best geometry; what is slow to build, or to try, is given one geometry only."""
        height, width = {**SIZES, **TINY}[size]
        config = model.config
        height, width = height + -height % config.scale, width + -width % config.scale
        cuda = self.device.type == "cuda"
        task = Task(
            height=height, width=width, frames=ACCELERATOR_BATCH, config=config, margin=margin(config),
            itemsize=DTYPES[precision].itemsize, memory=free_memory(self.device),
            cache=torch.cuda.get_device_properties(self.device).L2_cache_size if cuda else 0,
        )  # fmt: skip
        builder = Builder(model.net, device=self.device, precision=precision, queues=self.queues)
        best: tuple[float, str] | None = None
        for tile, count in geometries(task)[: None if variant in (EAGER, HOPPER) else 1]:
            rows, columns = window_size(task.cut(tile))
            program = builder.build(variant, Batch(count, rows, columns, 8))
            with self.queues.on(COMPUTE):
                program.input.copy_(torch.from_numpy(picture(rows, columns)).expand(count, -1, -1))
            seconds = seconds_of(program, self.queues, least=self.round, rounds=ROUNDS)
            seconds = frame_seconds(task, tile, count, seconds)
            how = f"{count} of {columns}x{rows}" + (", graph" if program.captured else "")
            if best is None or seconds < best[0]:
                best = (seconds, how)
        assert best is not None
        self.row(model, size, precision, variant, 1 / best[0], best[1])

    def plain(self, model: Model, size: str, precision: str) -> None:
        codes = torch.from_numpy(picture(*{**SIZES, **TINY}[size]))[None].to(self.device)
        restore = parts.plain_pytorch(model.net, self.device, precision)
        seconds = seconds_of(lambda: restore(codes), self.queues, least=self.round, rounds=ROUNDS)
        self.row(model, size, precision, "plain PyTorch", 1 / seconds)

    def chosen(self, model: Model, size: str, precision: str) -> None:
        """As a user gets it; with how long the choice took."""
        height, width = {**SIZES, **TINY}[size]
        engine = open_accelerator(
            model,
            device=self.device,
            precision=precision,
            cache=TuneCache(None),
            variants=self.quick(model, precision),
        )
        began = time.monotonic()
        plan = engine.plan(height, width)
        took = time.monotonic() - began
        rate = parts.overlapped_rate(engine, picture(height, width)[None], 8 if self.tiny else 64)
        how = f"{plan.variant}, {plan.windows} windows of {plan.tile}, found in {took:.0f} s"
        self.row(model, size, precision, "chosen", rate, how)
        engine.close()

    def quick(self, model: Model, precision: str) -> tuple[str, ...]:
        """The variants here without the compiler, which has rows of its own."""
        builder = Builder(model.net, device=self.device, precision=precision, queues=self.queues)
        return tuple(v for v in builder.variants() if v != COMPILED)

    def pictures(self, model: Model, precisions: list[str]) -> dict[str, Any]:
        """What a precision costs on real frames, against fp32: dB against the pristine clip, and codes."""
        count = 1 if self.tiny else 8
        decoded, pristine = (parts.luma_of(path, count) for path in (parts.DECODED, parts.PRISTINE))
        if self.tiny:
            decoded, pristine = decoded[:, :64, :96], pristine[:, :64, :96]
        found: dict[str, Any] = {}
        exact: np.ndarray | None = None
        for precision in ["fp32", *(p for p in precisions if p != "fp32")]:
            engine = open_accelerator(
                model, device=self.device, precision=precision, cache=TuneCache(None), variants=(EAGER,)
            )
            restored = engine.restore(decoded, 8)
            engine.close()
            if exact is None:
                exact = restored
            off = np.abs(restored.astype(int) - exact)
            found[precision] = {
                "psnr_difference_db": parts.psnr(restored, pristine) - parts.psnr(exact, pristine),
                "codes_that_differ": float((off > 0).mean()),
                "largest_difference": int(off.max()),
                "engine": engine.description,
            }
        return found

    def whole(self, model: Model, size: str) -> dict[str, Any]:
        width, height = (96, 64) if self.tiny else SIZES[size][::-1]
        engine = open_accelerator(
            model, device=self.device, cache=TuneCache(None), variants=self.quick(model, "fp16"),
            precision="fp32" if self.device.type == "cpu" else "auto",
        )  # fmt: skip
        engine.plan(height, width)
        found = parts.end_to_end(engine, width, height, 12 if self.tiny else 360)
        engine.close()
        return {"model": model.description.name, "size": size, **found}


def random_model(config: CarCnnConfig) -> Model:
    """car-cnn with random weights whose residual is a few codes large, as a trained one's."""
    torch.manual_seed(0)
    net: RestorationNet = build(config).eval().requires_grad_(False)
    last = convolution_layers(net)[-1]
    last.weight.normal_(0, 0.02)
    x = torch.rand(1, 1, 64, 64) * 2 - 1
    last.weight.mul_(0.03 / (net(x) - x).abs().mean())
    description = Description(name="car-cnn (random)", config=config, loss="none", steps=0,
                              training_data="none", gains={}, licence="Apache-2.0")  # fmt: skip
    return model_of(net, description, Path("random"))


def measure(device: torch.device, *, tiny: bool, seconds: float) -> dict[str, Any]:
    began = time.monotonic()
    bench = Bench(device, tiny=tiny, seconds=seconds)
    precisions = ["fp32", "bf16"] if device.type == "cpu" else ["fp16", "bf16", "fp32"]
    bench.products(precisions)
    models = [load_model(name) for name in installed()]
    full = [m for m in models if isinstance(m.net.config, CarCnnConfig)] or [
        random_model(CarCnnConfig(features=16, blocks=1) if tiny else CarCnnConfig())
    ]
    others = [m for m in models if not isinstance(m.net.config, CarCnnConfig)]
    first, usual, sizes = full[0], precisions[0], list(TINY if tiny else SIZES)
    variants = Builder(first.net, device=device, precision=usual, queues=bench.queues).variants()
    result: dict[str, Any] = {}

    def network(model: Model, size: str, precision: str, variant: str, needed: float = 5.0) -> None:
        what = f"{model.description.name}, {size}, {precision}, {variant}"
        work = {"plain PyTorch": bench.plain, "chosen": bench.chosen}.get(variant)
        if work is None:
            bench.attempt(what, lambda: bench.variant(model, size, precision, variant), needed)
        else:
            bench.attempt(what, lambda: work(model, size, precision), needed)

    # The most telling first: what is left out for want of time is at the end.
    soon = [v for v in (EAGER, HOPPER) if v in variants]
    for variant in ("plain PyTorch", *soon, "chosen"):
        network(first, sizes[0], usual, variant)
    if usual != "fp32":
        network(first, sizes[0], "fp32", "plain PyTorch")
    bench.attempt("pictures", lambda: result.update(pictures=bench.pictures(first, precisions)))
    best = others[0] if tiny and others else first
    bench.attempt("restore", lambda: result.update(end_to_end=bench.whole(best, sizes[0])), 20)
    for model in (*others, *full[1:]):
        network(model, sizes[0], usual, "chosen")
    for model in (first, *others):
        for size in sizes[1:]:
            network(model, size, usual, "chosen")
    for variant in variants:
        if variant not in soon:
            network(first, sizes[0], usual, variant, COMPILING if variant == COMPILED else 5.0)
    for precision in precisions[1:]:
        network(first, sizes[0], precision, "chosen")
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else platform.processor() or "cpu"
    return {
        "device": name, "carfix": carfix.__version__, "torch": torch.__version__, "cuda": torch.version.cuda,
        "matrix_teraflops": {p: rate / 1e12 for p, rate in bench.operations.items()},
        "copy_gigabytes_per_second": bench.transfer / 1e9,
        "rows": bench.rows, **result, "left_out": bench.left_out, "seconds": time.monotonic() - began,
    }  # fmt: skip


def table(found: dict[str, Any]) -> str:
    """The same for people."""
    products = ", ".join(f"{p} {rate:.0f}" for p, rate in found["matrix_teraflops"].items())
    lines = [
        f"{found['device']}, torch {found['torch']}; matrix product, TFLOP/s: {products}; "
        f"copy {found['copy_gigabytes_per_second']:.0f} GB/s",
        f"{'network':18} {'size':6} {'':5} {'variant':15} {'frames/s':>9} {'of arithmetic':>14} {'of roofline':>12}",
    ]
    lines += [
        f"{r['network']:18} {r['size']:6} {r['precision']:5} {r['variant']:15} {r['frames_per_second']:9.2f} "
        f"{r['share_of_arithmetic']:14.0%} {r['share_of_roofline']:12.0%}  {r['how']}"
        for r in found["rows"]
    ]
    for precision, p in found.get("pictures", {}).items():
        lines.append(
            f"{precision}: {p['psnr_difference_db']:+.4f} dB against fp32, {p['codes_that_differ']:.2%} of codes "
            f"differ, by at most {p['largest_difference']}"
        )
    if whole := found.get("end_to_end"):
        stages = ", ".join(f"{stage} {whole[stage]:.1f}" for stage in ("decode", "network", "encode"))
        lines.append(
            f"restore -preset {parts.PRESET}, {whole['model']}, {whole['size']}: {whole['restore']:.1f} frames/s, "
            f"{whole['of_slowest']:.2f} of its slowest stage ({stages} alone)"
        )
    return "\n".join([*lines, *(f"left out: {what}" for what in found["left_out"])])


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--seconds", type=float, default=200.0)
    parser.add_argument("--dry-run", action="store_true", help="tiny sizes, to see that everything runs")
    options = parser.parse_args()
    device = torch.device(options.device)
    if device.type == "cuda" and device.index is None:
        device = torch.device("cuda", 0)
    if device.type == "cuda" and not torch.cuda.is_available():
        parser.exit(3, "no CUDA device can be used here; --device cpu --dry-run goes through the motions\n")
    found = measure(device, tiny=options.dry_run, seconds=options.seconds)
    print(json.dumps(found, indent=1) if options.json else table(found))


if __name__ == "__main__":
    main()
