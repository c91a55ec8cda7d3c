"""A training whose numbers are no numbers any more ends, and keeps what it had."""

import math
from pathlib import Path

import pytest
import scenes
import torch

from carfix.errors import CarfixError
from carfix.net.checkpoint import load_checkpoint
from carfix.net.config import FastConfig
from carfix.training import student
from carfix.training.dataset import build_dataset
from carfix.training.encoding import Encoding
from carfix.training.recipe import Recipe
from carfix.training.settings import TrainSettings
from carfix.training.train import TrainResult, train
from carfix.training.validation import Gains, ValidationSet

SETTINGS = TrainSettings(
    config=FastConfig(scale=2, features=8, blocks=1),
    loss="psnr", steps=12, batch=2, patch=32, lr=1e-3, warmup=0, frames=2,
)  # fmt: skip


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("divergence")
    for seed, split in enumerate(("train", "val"), 1):
        source = scenes.write_scene(folder / f"{split}.mkv", 3, seed)
        recipe = Recipe(encodings=[Encoding(crf=45)], split=split)  # type: ignore[arg-type]
        build_dataset(sources=[source], output=folder / "data", recipe=recipe)
    return folder / "data"


def run(dataset: Path, folder: Path, settings: TrainSettings = SETTINGS, seconds: float = 600) -> TrainResult:
    return train(
        dataset=dataset, run=folder, name="probe", settings=settings, device="cpu", validate_every=4,
        checkpoint_seconds=seconds,
    )  # fmt: skip


def finite(folder: Path) -> bool:
    net = load_checkpoint(folder / "probe.safetensors").net
    return all(bool(tensor.isfinite().all()) for tensor in net.state_dict().values())


def test_a_validation_that_is_not_finite_keeps_the_best_weights(
    dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    results = [Gains(0.1, 0.001, 0.1), Gains(math.nan, math.nan, math.nan)]
    monkeypatch.setattr(ValidationSet, "measure", lambda *arguments: results.pop(0))
    with pytest.raises(CarfixError, match=r"diverged: at step 8 .*--lr below 0\.001; .* stay in .*probe"):
        run(dataset, tmp_path)
    assert load_checkpoint(tmp_path / "probe.safetensors").description.steps == 4


@pytest.mark.parametrize("seconds", [0.0, 600.0], ids=["at a checkpoint", "at a validation"])
def test_a_loss_that_is_not_finite_ends_the_training_which_can_be_looked_at(
    dataset: Path, tmp_path: Path, seconds: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    loss, calls = student.LOSSES["psnr"], []

    def broken(restored: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        calls.append(None)
        return loss(restored, target) * (math.nan if len(calls) == 6 else 1.0)

    monkeypatch.setitem(student.LOSSES, "psnr", broken)
    step = 6 if seconds == 0 else 8
    with pytest.raises(CarfixError, match=f"diverged: at step {step} of 12 the loss"):
        run(dataset, tmp_path, seconds=seconds)
    assert finite(tmp_path)
    monkeypatch.undo()
    result = run(dataset, tmp_path)  # from the last checkpoint, or anew
    assert result.finished
    assert finite(tmp_path)


def test_a_step_that_ruins_the_weights_is_no_checkpoint(
    dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(student, "learning_rate", lambda settings, step: math.inf if step == 5 else 1e-3)
    with pytest.raises(CarfixError, match="diverged: at step 6 of 12 a weight"):
        run(dataset, tmp_path, seconds=0)
    assert [path.name for path in (tmp_path / "checkpoints").iterdir()] == ["00000005"]
