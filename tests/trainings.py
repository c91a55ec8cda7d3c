"""Trainings as tests want them: a tiny network and a dozen steps."""

import dataclasses
from pathlib import Path

import torch

from carfix.net.checkpoint import load_checkpoint
from carfix.net.config import FastConfig
from carfix.training.settings import TrainSettings
from carfix.training.train import TrainResult, train

TINY = FastConfig(scale=2, features=8, blocks=1)
#: Minutes that are over after the first step.
AT_ONCE = 1e-9


def settings(steps: int = 12, **changes: object) -> TrainSettings:
    base = TrainSettings(
        config=TINY, loss="psnr", steps=steps, batch=4, patch=32, lr=1e-3, warmup=4, frames=4
    )
    return dataclasses.replace(base, **changes)  # type: ignore[arg-type]


def run(dataset: Path, folder: Path, chosen: TrainSettings, **options: object) -> TrainResult:
    return train(
        dataset=dataset, run=folder, name="probe", settings=chosen, device="cpu", validate_every=6, **options,  # type: ignore[arg-type]
    )  # fmt: skip


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return load_checkpoint(folder / "probe.safetensors").net.state_dict()
