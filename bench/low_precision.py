"""What fewer bits cost each network: gain lost by this machine's engines, and by a simulation of 8-bit numbers.

    carfix dataset ../shared/data/val val --size 512x-2 --frames 60 --split test
    python bench/low_precision.py val [-m car-cnn-mse] [--frames 2] [--engines]

With `--engines`: each engine that `--precision auto` chooses from on this CPU. Without, simulated in torch: inputs of
all convolutions but the first and the last are rounded to the format, scaled by the largest of a map (`a map`: of all
channels together), and so are weights, scaled by the largest of an output channel; sums and the residual stream stay
in fp32. A kernel could keep no more than that. Networks take their corrections whole.
"""

import argparse
import copy
import itertools
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from carfix.net.arch import RestorationNet, convolution_layers
from carfix.net.catalog import load_model
from carfix.quality.reader import read_frames
from carfix.restore.engine.choose import candidates, open_kind

VARIANTS = ("crf29-1500k", "crf35-1500k", "crf41-1000k")
Round = Callable[[Tensor], Tensor]


def to_float8(kind: torch.dtype) -> Round:
    """Rounds values in [-1, 1] to `kind`, whose largest number stands for 1."""
    top = torch.finfo(kind).max
    return lambda x: (x * top).to(kind).float() / top


def to_integer(x: Tensor) -> Tensor:
    """Rounds values in [-1, 1] to 8-bit integers."""
    return (x * 127).round() / 127


FORMATS: dict[str, Round | None] = {
    "fp32": None,
    "bf16": lambda x: x.bfloat16().float(),
    "fp8 e4m3": to_float8(torch.float8_e4m3fn),
    "fp8 e5m2": to_float8(torch.float8_e5m2),
    "int8": to_integer,
}


def rounded(net: RestorationNet, to: Round | None) -> RestorationNet:
    """A copy of `net` whose body computes so."""
    net = copy.deepcopy(net)
    if to is None:
        return net
    for layer in convolution_layers(net)[1:-1]:
        largest = layer.weight.abs().amax(dim=(1, 2, 3), keepdim=True)
        layer.weight.copy_(to(layer.weight / largest) * largest)
        layer.register_forward_pre_hook(scaled_input(to))
    return net


def scaled_input(to: Round) -> Callable[[nn.Module, tuple[Tensor]], Tensor]:
    """A hook that rounds what a layer is given."""

    def hook(_: nn.Module, inputs: tuple[Tensor]) -> Tensor:
        largest = inputs[0].abs().max()
        return to(inputs[0] / largest) * largest

    return hook


@torch.inference_mode()
def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("dataset", type=Path)
    parser.add_argument("-m", "--model", action="append")
    parser.add_argument("--engines", action="store_true")
    parser.add_argument("--frames", type=int, default=2, help="of each of fifteen files")
    options = parser.parse_args()
    clips = sorted(path for path in (options.dataset / "clips").iterdir() if path.is_dir())
    for name in options.model or ["car-cnn-mse", "medium", "fast", "tiny"]:
        ways = engines(name) if options.engines else simulations(name)
        gains: dict[str, list[float]] = {kind: [] for kind in ways}
        apart: dict[str, list[float]] = {kind: [] for kind in ways}
        most = dict.fromkeys(ways, 0)
        for clip, variant in itertools.product(clips, VARIANTS):
            pristine = frames(clip / "pristine.mkv", options.frames)
            x = frames(clip / f"{variant}.mp4", options.frames)
            exact: Tensor | None = None
            for kind, restore in ways.items():
                y = restore(x)
                exact = y if exact is None else exact
                gains[kind].append(float((psnr(y, pristine) - psnr(x, pristine)).mean()))
                apart[kind].append(float((y != exact).float().mean()))
                most[kind] = max(most[kind], int((y - exact).abs().max()))
        print(name)
        of_exact = np.array(gains[next(iter(ways))])
        for kind, found in gains.items():
            loss, worst = np.mean(found - of_exact), min(found - of_exact)
            print(f"  {kind:14} {np.mean(found):+.3f} dB ({loss:+.4f}, worst {worst:+.4f}), "
                  f"{np.mean(apart[kind]):.2%} of codes differ, by at most {most[kind]}", flush=True)  # fmt: skip


def simulations(name: str) -> dict[str, Round]:
    """Codes to restored codes `[N, 1, H, W]`, by the format that the body computes in; fp32 first."""

    def by(net: RestorationNet) -> Round:
        return lambda x: ((net(x / 127.5 - 1) + 1) * 127.5).round()

    return {kind: by(rounded(load_model(name).net, to)) for kind, to in FORMATS.items()}


def engines(name: str) -> dict[str, Round]:
    """The same by this machine's engines; torch's in fp32 first."""
    model = load_model(name)

    def by(kind: str) -> Round:
        engine = open_kind(kind, model)
        return lambda x: torch.from_numpy(engine.restore(x[:, 0].to(torch.uint8).numpy(), 8))[:, None].float()

    return {kind: by(kind) for kind in candidates("auto")}


def frames(path: Path, count: int) -> Tensor:
    """`[N, 1, H, W]` codes from the middle of a clip, rows and columns in whole cells."""
    some = [frame.luma for frame in itertools.islice(read_frames(path), 20, 20 + 7 * count, 7)]
    codes = torch.from_numpy(np.stack(some)).float()
    return codes[:, None, : codes.shape[1] // 8 * 8, : codes.shape[2] // 8 * 8]


def psnr(x: Tensor, y: Tensor) -> Tensor:
    """Of each picture, in dB."""
    return 10 * torch.log10(255**2 / (x - y).square().mean(dim=(1, 2, 3)))


if __name__ == "__main__":
    main()
