"""What decides the outcome of a training, and how its parts are chosen: rate, precision, device."""

import dataclasses
import math
import os
from pathlib import Path
from typing import Any

import torch

from carfix.cpu import multiplies_bf16
from carfix.errors import CarfixError, MissingPartError, UsageError
from carfix.net.config import Config, config_from_dict
from carfix.net.losses import LOSSES

#: The cosine ends at this share of the peak: late steps still move, and the average takes their noise out.
FINAL_LR_SHARE = 0.01
#: Steps of warm-up unless others are asked for, and the part of a training that they may be at most: one that
#: is over before its rate has risen would learn next to nothing.
WARMUP, SHORT = 200, 10
#: What a training runs on.
DEVICES = ("cpu", "cuda", "mps")
#: Smallest side of a patch: SSIM's window and a few of its steps.
SMALLEST_PATCH = 16
#: numpy takes no negative seeds, torch none that need more than 64 bits.
LARGEST_SEED = 2**63 - 1


@dataclasses.dataclass(frozen=True, kw_only=True)
class TrainSettings:
    """What decides the weights that come out. Two runs with equal settings on one machine are equal."""

    config: Config
    loss: str = "both"
    steps: int = 20_000
    batch: int = 128  # the paper's; over all processes
    patch: int = 64  # pixels; the paper's
    lr: float = 1e-4
    schedule: str = "cosine"  # or "constant", the paper's
    warmup: int | None = None  # steps; None: `WARMUP`, of a short training a part of all of them
    ema: float = 0.999  # decay of the averaged weights; 0 ships the last weights
    clip: float = 0.5  # largest gradient norm; 0 is no limit
    frames: int = 24  # of each variant
    seed: int = 0
    precision: str = "fp32"  # or "bf16": mixed

    def record(self) -> dict[str, Any]:
        """As JSON-able fields, architecture included."""
        return {
            **dataclasses.asdict(self),
            "warmup": self.warmup_steps,
            "architecture": self.config.architecture,
        }

    @property
    def warmup_steps(self) -> int:
        """The first steps, in which the rate rises."""
        return min(WARMUP, self.steps // SHORT) if self.warmup is None else self.warmup

    @property
    def autocast(self) -> torch.dtype | None:
        """The type of mixed precision; None for fp32."""
        return torch.bfloat16 if self.precision == "bf16" else None


def learning_rate(settings: TrainSettings, step: int) -> float:
    """The rate of `step`: linear warm-up, then a cosine to `FINAL_LR_SHARE` or a constant."""
    warmup = settings.warmup_steps
    if step < warmup:
        return settings.lr * (step + 1) / warmup
    if settings.schedule == "constant":
        return settings.lr
    done = (step - warmup) / max(1, settings.steps - warmup)
    cosine = 0.5 * (1 + math.cos(math.pi * min(1.0, done)))
    return settings.lr * (FINAL_LR_SHARE + (1 - FINAL_LR_SHARE) * cosine)


def auto_precision(device: torch.device) -> str:
    """`bf16` where it is quicker and safe: CUDA with bf16, CPUs that multiply it; else `fp32`."""
    if device.type == "cuda" and torch.cuda.is_bf16_supported():
        return "bf16"
    # On a CPU that has to emulate it, bf16 was measured 150 times slower than fp32.
    if device.type == "cpu" and multiplies_bf16():
        return "bf16"
    return "fp32"


def pick_device(name: str) -> torch.device:
    """The device called `name`; `auto` prefers CUDA, then MPS. Raises `UsageError`, `MissingPartError`."""
    if name == "auto":
        if torch.cuda.is_available():
            name = "cuda"
        else:
            name = "mps" if torch.backends.mps.is_available() else "cpu"
    # torch knows more, which it says on two pages or cannot train on.
    if name.partition(":")[0] not in DEVICES:
        raise UsageError(f"--device is auto, cpu, cuda, cuda:N or mps, not {name!r}")
    try:
        device = torch.device(name)
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        raise MissingPartError(f"no device {name!r} here ({error}); use --device cpu") from error
    return device


def check(settings: TrainSettings) -> None:
    """Raise `UsageError` for settings that cannot be right."""
    world = int(os.environ.get("WORLD_SIZE", "1"))
    try:
        # What no checkpoint may say must not be trained either.
        config_from_dict(settings.config.architecture, dataclasses.asdict(settings.config))
    except CarfixError as error:
        raise UsageError(str(error)) from None
    if settings.loss not in LOSSES:
        raise UsageError(f"--loss is one of {', '.join(LOSSES)}, not {settings.loss!r}")
    if settings.schedule not in ("cosine", "constant"):
        raise UsageError(f"--schedule is cosine or constant, not {settings.schedule!r}")
    if settings.precision not in ("fp32", "bf16"):
        raise UsageError(f"--precision is auto, fp32 or bf16, not {settings.precision!r}")
    # Comparisons that NaN fails, too.
    if not 0 < settings.lr < math.inf:
        raise UsageError(f"--lr is a number above 0, not {settings.lr}")
    if not 0 <= settings.ema < 1:
        raise UsageError(f"--ema is 0 or a number below 1, not {settings.ema}")
    if not settings.clip >= 0:
        raise UsageError(f"--clip is 0 or a number above, not {settings.clip}")
    if not 0 <= settings.seed <= LARGEST_SEED:
        raise UsageError(f"--seed is 0 to {LARGEST_SEED}, not {settings.seed}")
    if settings.patch % settings.config.scale or settings.patch < SMALLEST_PATCH:
        raise UsageError(
            f"--patch must be at least {SMALLEST_PATCH} and a multiple of {settings.config.scale}"
        )
    if settings.batch % world:
        raise UsageError(f"--batch {settings.batch} cannot be shared by {world} processes")


def check_run(weights: Path, minutes: float | None, *, init: Path | None, teacher: Path | None) -> None:
    """Raise `UsageError` for `weights` in the place of those that the training begins with, and for no time at all."""
    for option, path in (("--init", init), ("--teacher", teacher)):
        if path is not None and path.exists() and weights.exists() and weights.samefile(path):
            # Replaced by the first validation, they would be others than those that the run began with.
            raise UsageError(
                f"{option} {path} is what this training would write; give another --output or --name"
            )
    if minutes is not None and not 0 < minutes < math.inf:
        raise UsageError(f"--minutes is a number above 0, not {minutes}")


def check_name(name: str) -> None:
    """Raise `UsageError` for a name of weights that is none of a file."""
    if name in ("", ".", "..") or any(character in name for character in "/\\\0"):
        raise UsageError(f"--name is a file's name without a folder, not {name!r}; --output names the folder")
