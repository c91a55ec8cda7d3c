"""Trains networks one after another by the clock, as a rented GPU wants it: all is over when the time is up.

    python bench/by_clock.py DATA RUNS --minutes 7 \\
      car-cnn-mse:psnr:0.55:6e-4:weights/car-cnn-mse.safetensors \\
      car-cnn:both:0.45:4e-4:RUNS/car-cnn-mse/car-cnn-mse.safetensors+weights/car-cnn.safetensors

Each network is NAME:LOSS:SHARE:RATE:WEIGHTS, its share being of the time that is left when all is loaded, and the
weights what it begins with; of two with a + between them, the mean. `carfix train` has a number of steps, which one
must guess, loads the data and compiles the network each time, and goes on exactly where it was stopped; here the rate
falls by the clock, data and compiled network are shared, and a killed run leaves the best weights so far. All networks
are of one architecture. RUNS/NAME gets the best average of each by the validation, and its curve.
"""

import argparse
import dataclasses
import sys
import time
from pathlib import Path

import torch
from torch import Tensor, nn

from carfix.net.arch import RestorationNet, build
from carfix.net.checkpoint import Description, load_checkpoint
from carfix.training.divergence import check_gains
from carfix.training.keeper import Keeper, training_summary
from carfix.training.log import Log
from carfix.training.patches import PatchSampler, load_pairs
from carfix.training.settings import TrainSettings, auto_precision, learning_rate, pick_device
from carfix.training.state import Progress
from carfix.training.student import Student
from carfix.training.validation import ValidationSet

#: The clock as `TrainSettings` counts it: the rate of a step is that of the time at which it begins.
TICKS = 1_000_000
#: Steps in which a network's rate rises, whatever time they take: Adam knows too little before. Ticks for that.
RISING, WARMUP = 100, TICKS // 50
#: Steps before the clock of the networks begins: compiling, and cuDNN's choice of what is quickest.
TRIED = 3


@dataclasses.dataclass(frozen=True)
class Wanted:
    """A network to train."""

    name: str
    loss: str
    share: float
    rate: float
    weights: tuple[Path, ...]

    @classmethod
    def of(cls, text: str) -> "Wanted":
        name, loss, share, rate, weights = text.split(":", 4)
        return cls(name, loss, float(share), float(rate), tuple(Path(each) for each in weights.split("+")))


def begin(net: RestorationNet, wanted: Wanted) -> Description:
    """Fill `net` with what the network begins with, and describe that."""
    models = [load_checkpoint(path) for path in wanted.weights]
    states = [model.net.state_dict() for model in models]
    net.load_state_dict({name: torch.stack([s[name] for s in states]).mean(dim=0) for name in states[0]})
    return models[0].description


def train(
    wanted: Wanted,
    settings: TrainSettings,
    net: RestorationNet,
    forward: nn.Module,
    sampler: PatchSampler,
    validation: ValidationSet,
    options: argparse.Namespace,
    seconds: float,
) -> None:
    """One network in `seconds`; `forward` computes what `net` does."""
    before = begin(net, wanted)
    place = next(net.parameters()).device
    student = Student(net, settings, place)
    run: Path = options.runs / wanted.name
    run.mkdir(parents=True, exist_ok=True)
    state = Progress(settings=settings.record())
    keeper = Keeper(
        run=run, name=wanted.name, settings=settings, state=state, student=student, earlier_steps=before.steps,
        training_data=training_summary(options.dataset, sampler.clips), licence=before.licence,
    )  # fmt: skip
    log = Log(run, 0)
    losses: list[Tensor] = []
    began = told = time.monotonic()
    ticks = 0
    for decoded, pristine in sampler.batches(0, TICKS):
        tick = ticks if state.step >= RISING else min(ticks, WARMUP * state.step // RISING)
        losses.append(student.step(tick, decoded, pristine, forward))
        state.step += 1
        if state.step % 8 == 0 and place.type == "cuda":
            torch.cuda.synchronize(place)  # or the clock is that of the queue
        now = time.monotonic()
        ticks = min(TICKS, round((now - began) / seconds * TICKS))
        if ticks < TICKS and now - told < options.validate:
            continue
        gains = validation.measure(student.average, place, settings.autocast)
        check_gains(gains, settings, state, keeper.weights)
        loss = float(torch.stack(losses).mean())
        log.write(state.step, now - began, learning_rate(settings, tick), loss, gains)
        line = f"step {state.step}, {now - began:.0f} s, loss {loss:.4f}, {gains.psnr:+.3f} dB, {gains.ssim:+.4f}"
        print(f"{wanted.name}: {line}", file=sys.stderr, flush=True)
        keeper.offer(gains)
        losses.clear()
        told = time.monotonic()
        if ticks == TICKS:
            return


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("dataset", type=Path)
    parser.add_argument("runs", type=Path)
    parser.add_argument("networks", type=Wanted.of, nargs="+", metavar="NAME:LOSS:SHARE:RATE:WEIGHTS")
    parser.add_argument("--minutes", type=float, required=True, help="from now on, loading included")
    parser.add_argument("--batch", type=int, default=48)
    parser.add_argument("--patch", type=int, default=128)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--validate", type=float, default=20.0, help="seconds between validations")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--compile", action=argparse.BooleanOptionalAction, default=True)
    options = parser.parse_args()
    end = time.monotonic() + 60 * options.minutes
    place = pick_device(options.device)
    torch.backends.cudnn.benchmark = True
    config = load_checkpoint(options.networks[0].weights[0]).config
    pairs, held_out = (load_pairs(options.dataset, split, frames=24) for split in ("train", "val"))
    validation = ValidationSet(held_out, 60)
    # Memory as a `Student` lays it out: what is compiled for it stays right for the ones to come.
    net: RestorationNet = build(config).to(place).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    forward: nn.Module = torch.compile(net) if options.compile else net  # type: ignore[assignment]
    first = options.networks[0]
    for number, wanted in enumerate(options.networks):
        settings = TrainSettings(
            config=config, loss=wanted.loss, steps=TICKS, batch=options.batch, patch=options.patch, lr=wanted.rate,
            warmup=WARMUP, seed=options.seed + number, precision=auto_precision(place),
        )  # fmt: skip
        sampler = PatchSampler(
            pairs,
            patch=options.patch,
            batch=options.batch,
            grid=config.scale,
            seed=settings.seed,
            rank=0,
        )
        if wanted is first:
            begin(net, wanted)
            trial = Student(net, settings, place)
            for decoded, pristine in sampler.batches(0, TRIED):
                trial.step(0, decoded, pristine, forward)
            print(
                f"{len(pairs)} encodings; {end - time.monotonic():.0f} s are left",
                file=sys.stderr,
                flush=True,
            )
        # Of what the networks before have left: a last validation may have taken longer than was theirs.
        total = sum(each.share for each in options.networks[number:])
        seconds = (end - time.monotonic()) * wanted.share / total
        if seconds <= 0:
            sys.exit(f"the time is up before {wanted.name}")
        train(wanted, settings, net, forward, sampler, validation, options, seconds)


if __name__ == "__main__":
    main()
