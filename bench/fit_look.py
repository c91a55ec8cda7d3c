"""Trains the network that sees how coarsely a picture was quantized: carfix/restore/look.safetensors.

    python bench/fit_look.py samples-*.npz [--held val.npz] [--steps 10000] [--output carfix/restore/look.safetensors]

Samples are made by `bench/look_samples.py`. What counts is the gain in PSNR of the fast networks with the shares that
their curves give at the estimated level; the level itself, where it is known, leads there. Ten minutes on two cores.
"""

import argparse
import dataclasses
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.numpy import save_file
from torch import Tensor, nn
from torch.nn import functional

from carfix.net.catalog import installed
from carfix.net.checkpoint import read_description
from carfix.quality.strength_fit import ROUNDING
from carfix.restore import look
from carfix.restore.strength import Curve, installed_curve, seen

NETWORKS = ("tiny", "fast", "medium")
#: Channels and sides of the convolutions, and units between what they find and the level.
CHANNELS, SIDES, UNITS = (16, 24, 32, 48), (4, 3, 3, 3), 32
#: Parts of a step, of sides in turn, and AdamW's largest rate.
BATCH, CROPS, RATE = 32, (128, 192), 3e-3
#: How often a sample comes without what its stream tells.
UNTOLD = 0.25
#: Weight of the error in level, in dB a quantizer, first and last; errors beyond count linearly.
GUIDED, FREE, BEYOND = 0.2, 0.01, 4.0
THREADS = 2
#: What the file says of itself.
ORIGIN = {
    "licence": "Apache-2.0",
    "training_data": "training clips and photographs as in the cards of the weights (weights/*.md), and drawings; "
    "bench/look_samples.py",
}


class Net(nn.Module):
    """What `carfix.restore.look.Estimator` computes, with normalisations."""

    def __init__(self) -> None:
        super().__init__()
        inputs = (3, *CHANNELS)
        self.convolutions = nn.ModuleList(
            nn.Conv2d(inputs[n], CHANNELS[n], SIDES[n], look._STRIDES[n]) for n in range(len(CHANNELS))
        )
        self.norms = nn.ModuleList(nn.BatchNorm2d(channels, momentum=0.05) for channels in CHANNELS)
        self.attention = nn.Conv2d(CHANNELS[-1], 1, 1)
        self.hidden = nn.Linear(2 * CHANNELS[-1] + 2, UNITS)
        self.output = nn.Linear(UNITS, 1)
        nn.init.zeros_(self.attention.weight)

    def forward(self, codes: Tensor, told: Tensor) -> Tensor:
        """Levels `[N]` of codes `[N, 1, H, W]`; `told` is NaN where a stream tells nothing."""
        corner = codes[:, :, :-1, :-1]
        across, down = codes[:, :, :-1, 1:] - corner, codes[:, :, 1:, :-1] - corner
        found = torch.cat([across / look._FINE, down / look._FINE, (across + down) / look._COARSE], 1)
        found = found.clamp(-look._CUT, look._CUT)
        for convolution, norm in zip(self.convolutions, self.norms, strict=True):
            found = functional.leaky_relu(norm(convolution(found)), look._SLOPE)
        weights = self.attention(found).clamp(-look._ATTENTION, look._ATTENTION).exp()
        weights = weights / weights.sum((2, 3), keepdim=True)
        mean = (found * weights).sum((2, 3))
        variance = ((found**2 * weights).sum((2, 3)) - mean**2).clamp(min=0)
        known = ~told.isnan()
        tells = torch.where(known, told / look._TOLD_UNIT - 1, torch.zeros_like(told))
        deviation = (variance + look._LEAST_VARIANCE).sqrt()
        features = torch.cat([mean, deviation, tells[:, None], known.float()[:, None]], 1)
        units = functional.leaky_relu(self.hidden(features), look._SLOPE)
        levels: Tensor = look._MIDDLE + look._UNIT * self.output(units)[:, 0]
        return levels

    def tensors(self) -> dict[str, NDArray[np.float32]]:
        """For the file: normalisations folded into the convolutions."""
        found: dict[str, Tensor] = {}
        for n, (convolution, norm) in enumerate(zip(self.convolutions, self.norms, strict=True)):
            assert isinstance(convolution, nn.Conv2d)
            assert isinstance(norm, nn.BatchNorm2d)
            assert convolution.bias is not None
            assert norm.running_mean is not None
            assert norm.running_var is not None
            scale = norm.weight / (norm.running_var + norm.eps).sqrt()
            found[f"kernel{n}"] = convolution.weight * scale[:, None, None, None]
            found[f"bias{n}"] = (convolution.bias - norm.running_mean) * scale + norm.bias
        assert self.attention.bias is not None
        found["attention"] = torch.cat([self.attention.weight.flatten(), self.attention.bias])
        found["hidden"] = torch.cat([self.hidden.weight.T, self.hidden.bias[None]])
        found["output"] = torch.cat([self.output.weight.flatten(), self.output.bias])
        return {name: np.ascontiguousarray(tensor.detach().numpy()) for name, tensor in found.items()}


@dataclasses.dataclass(frozen=True)
class Samples:
    """What `bench/look_samples.py` wrote."""

    decoded: NDArray[np.uint8]  # [N, SIDE, SIDE]
    told: Tensor
    level: Tensor
    error: Tensor
    gain: Tensor  # [N, networks], and `power`
    power: Tensor

    def gains(self, levels: Tensor, curves: list[Curve], chosen: NDArray[np.int64] | slice) -> Tensor:
        """PSNR over the decoded parts in dB, `[N, networks]`, of the `chosen` samples."""
        error, found = self.error[chosen], []
        for n, curve in enumerate(curves):
            share = at(curve, levels)
            left = error - 2 * share * self.gain[chosen, n] + share**2 * self.power[chosen, n]
            found.append(10 * torch.log10((error + ROUNDING) / (left.clamp(min=0) + ROUNDING)))
        return torch.stack(found, 1)


def at(curve: Curve, levels: Tensor) -> Tensor:
    """`Curve.at` with slopes."""
    knots, strengths = torch.tensor(curve.quantizers), torch.tensor(curve.strengths)
    place = (torch.searchsorted(knots, levels.detach()) - 1).clamp(0, len(knots) - 2)
    part = ((levels - knots[place]) / (knots[place + 1] - knots[place])).clamp(0, 1)
    return strengths[place] + part * (strengths[place + 1] - strengths[place])


def loaded(paths: list[Path]) -> Samples:
    """All samples of several files."""
    files = [np.load(path) for path in paths]
    arrays = {
        field.name: np.concatenate([file[field.name] for file in files])
        for field in dataclasses.fields(Samples)
    }
    return Samples(arrays.pop("decoded"), **{name: torch.from_numpy(array) for name, array in arrays.items()})


def crops(samples: Samples, chosen: NDArray[np.int64], side: int, rng: np.random.Generator) -> Tensor:
    """Parts of the chosen samples, turned over, and darker or brighter by a little."""
    found = []
    for index in chosen:
        whole = samples.decoded[index]
        top, left = rng.integers(0, np.array(whole.shape) - side + 1)
        part = whole[top : top + side, left : left + side]
        part = part[:: rng.choice([1, -1]), :: rng.choice([1, -1])]
        found.append(part.T if rng.random() < 0.5 else part)
    codes = torch.from_numpy(np.ascontiguousarray(np.stack(found)))[:, None].float()
    return codes + torch.empty(len(chosen), 1, 1, 1).uniform_(-8, 8)


def levels_of(net: Net, samples: Samples) -> Tensor:
    """Of all samples, whole."""
    net.eval()
    with torch.no_grad():
        parts = torch.from_numpy(samples.decoded)[:, None].float().split(64)
        return torch.cat([net(*pair) for pair in zip(parts, samples.told.split(64), strict=True)])


def report(net: Net, samples: Samples, curves: list[Curve]) -> None:
    """Gains as they were, by the estimate, and by what a restore makes of both, where streams tell and do not."""
    levels = levels_of(net, samples)
    believed = torch.tensor(
        [
            seen(None if np.isnan(told) else float(told), float(looks))
            for told, looks in zip(samples.told.numpy(), levels, strict=True)
        ]
    )
    every = slice(None)
    before = samples.gains(samples.told.nan_to_num(33.0), curves, every)
    rows = (("as told", before), ("as it looks", samples.gains(levels, curves, every)))
    coarser = samples.level > samples.told + 6
    kinds = {
        "told, right": ~samples.told.isnan() & ~coarser & ~samples.level.isnan(),
        "told too fine": coarser,
        "told, scaled before": ~samples.told.isnan() & samples.level.isnan(),
        "not told": samples.told.isnan(),
    }
    for kind, here in kinds.items():
        for name, gains in (*rows, ("as a restore", samples.gains(believed, curves, every))):
            means = ", ".join(f"{network} {gains[here, n].mean():+.3f}" for n, network in enumerate(NETWORKS))
            print(f"  {kind}, {int(here.sum())} parts, {name}: {means}", flush=True)


def main() -> None:
    """See above."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("samples", type=Path, nargs="+")
    parser.add_argument("--held", type=Path, help="samples to report on that nothing is fitted to")
    parser.add_argument("--steps", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--output", type=Path, default=Path("carfix/restore") / look.FILE_NAME)
    options = parser.parse_args()
    torch.set_num_threads(THREADS)
    torch.manual_seed(options.seed)
    rng = np.random.default_rng(options.seed)
    found = (installed_curve(read_description(installed()[name]).sha256) for name in NETWORKS)
    curves = [curve for curve in found if curve is not None]
    samples = loaded(options.samples)
    net = Net()
    optimizer = torch.optim.AdamW(net.parameters(), RATE, weight_decay=1e-3)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, options.steps, 1e-5)
    for step in range(options.steps):
        net.train()
        chosen = rng.choice(len(samples.decoded), BATCH)
        told = samples.told[chosen].clone()
        told[torch.from_numpy(rng.random(BATCH) < UNTOLD)] = torch.nan
        levels = net(crops(samples, chosen, CROPS[step % len(CROPS)], rng), told)
        gains, known = samples.gains(levels, curves, chosen), ~samples.level[chosen].isnan()
        off = functional.smooth_l1_loss(levels[known], samples.level[chosen][known], beta=BEYOND)
        guided = GUIDED * (1 - step / options.steps) + FREE
        optimizer.zero_grad()
        (guided * off - gains.mean()).backward()
        optimizer.step()
        schedule.step()
        if (step + 1) % 500 == 0:
            print(f"{step + 1}: {gains.mean():+.3f} dB, off by {off:.2f}", flush=True)
    net.eval()
    save_file(net.tensors(), options.output, {**ORIGIN, "steps": str(options.steps)})
    for name, some in (
        ("fitted", samples),
        *([("held out", loaded([options.held]))] if options.held else []),
    ):
        print(name)
        report(net, some, curves)


if __name__ == "__main__":
    main()
