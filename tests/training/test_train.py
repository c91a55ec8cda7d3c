"""Training: what it learns from, what its losses and schedules do, and what is refused."""

import csv
import dataclasses
import math
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import scenes
import torch
from networks import save_awake
from trainings import AT_ONCE, TINY, run, settings

from carfix.errors import CarfixError, MissingPartError, UsageError
from carfix.net.checkpoint import load_checkpoint
from carfix.net.config import CarCnnConfig, FastConfig
from carfix.training import cache, patches
from carfix.training.dataset import build_dataset
from carfix.training.encoding import Encoding
from carfix.training.patches import PatchSampler, chosen_frames, load_pairs
from carfix.training.recipe import Recipe
from carfix.training.settings import learning_rate
from carfix.training.train import train
from carfix.video.manifest import read_manifest


def test_patches_are_aligned_pairs_on_the_grid(dataset: Path) -> None:
    pairs = load_pairs(dataset, "train", frames=4)
    assert {(pair.clip, pair.variant) for pair in pairs} == {("train", "crf35"), ("train", "crf45")}
    sampler = PatchSampler(pairs, patch=32, batch=16, grid=4, seed=3, rank=0)
    decoded, pristine = sampler.draw(5)
    assert decoded.shape == pristine.shape == (16, 1, 32, 32)
    frames = {
        flip: [f[:, :: -1 if flip else 1] for pair in pairs for f in pair.pristine] for flip in (False, True)
    }
    for patch, truth in zip(decoded[:, 0], pristine[:, 0], strict=True):
        found = [
            (flip, x)
            for flip, options in frames.items()
            for frame in options
            for y in range(0, 33, 4)
            for x in range(0, 65, 4)
            if np.array_equal(frame[y : y + 32, x : x + 32], truth)
        ]
        assert found, "the pristine patch lies on the grid of a pristine frame"
        assert 0 < np.abs(patch.astype(int) - truth).mean() < 20, "the decoded patch is of the same place"
    again, _ = sampler.draw(5)
    assert np.array_equal(decoded, again)
    assert not np.array_equal(decoded, sampler.draw(6)[0])
    other_rank = PatchSampler(pairs, patch=32, batch=16, grid=4, seed=3, rank=1)
    assert not np.array_equal(decoded, other_rank.draw(5)[0])


def test_clips_too_small_for_a_patch_are_named_and_not_claimed(tmp_path: Path) -> None:
    """What weights say of their training is what a reader has."""
    for name, split, seed in (("large", "train", 1), ("small", "train", 2), ("other", "val", 3)):
        side = 32 if name == "small" else 64
        source = scenes.write_scene(tmp_path / f"{name}.mkv", 4, seed, height=side, width=side)
        recipe = Recipe(encodings=[Encoding(crf=40)], split=split)  # type: ignore[arg-type]
        build_dataset(sources=[source], output=tmp_path / "data", recipe=recipe)
    told: list[str] = []
    run(tmp_path / "data", tmp_path / "run", settings(1, patch=48), say=told.append)
    assert len(told) == 1 and told[0].startswith("1 of the training clips, small among them, are smaller")
    description = load_checkpoint(tmp_path / "run" / "probe.safetensors").description
    assert description.training_data == "1 clips and 0 photographs in 1 encodings"
    assert description.licence == "", "nobody gave one"


def test_many_encodings_are_read_by_processes_and_are_the_same(
    dataset: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def loaded() -> list[tuple[str, str, bytes, bytes]]:
        pairs = load_pairs(dataset, "train", frames=3, progress=lambda *told: progress.append(told))
        return [(p.clip, p.variant, p.decoded.tobytes(), p.pristine.tobytes()) for p in pairs]

    progress: list[tuple[int, int, str]] = []
    before = loaded()
    for folder in (dataset / cache.FOLDER).glob("*-3"):
        shutil.rmtree(folder)
    progress.clear()
    monkeypatch.setattr(patches, "MANY", 2)
    monkeypatch.setattr(cache, "kept", None)  # here; the processes have their own
    with pytest.raises(TypeError):
        loaded()
    assert progress == [(1, 2, "train"), (2, 2, "train")]
    assert len(list((dataset / cache.FOLDER).glob("*-3/*.npy"))) == 3
    monkeypatch.undo()
    assert loaded() == before


def test_frames_are_spread_over_the_clip() -> None:
    assert chosen_frames(5, 9) == [0, 1, 2, 3, 4]
    assert chosen_frames(100, 4) == [0, 33, 66, 99]


def test_no_validation_frame_is_trained_on(dataset: Path) -> None:
    manifest = read_manifest(dataset)
    assert not {c.source_sha256 for c in manifest.select("train")} & {
        c.source_sha256 for c in manifest.select("val")
    }
    trained = {frame.tobytes() for pair in load_pairs(dataset, "train", frames=99) for frame in pair.pristine}
    assert trained
    assert not any(
        frame.tobytes() in trained
        for pair in load_pairs(dataset, "val", frames=99)
        for frame in pair.pristine
    )


def test_training_restores_better_than_nothing(dataset: Path, tmp_path: Path) -> None:
    result = run(dataset, tmp_path / "run", settings(150, lr=4e-3, ema=0.9))
    assert result.finished
    assert result.best is not None
    assert result.best > 0.05
    model = load_checkpoint(result.weights)
    assert model.description.gains["psnr"] == pytest.approx(result.best)
    assert model.description.config == TINY
    with (tmp_path / "run" / "log.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [int(row["step"]) for row in rows] == list(range(6, 151, 6))
    assert float(rows[-1]["gain_psnr"]) > float(rows[0]["gain_psnr"])


@pytest.mark.parametrize("loss", ["mse", "ssim", "both"])
def test_every_loss_trains(dataset: Path, tmp_path: Path, loss: str) -> None:
    result = run(dataset, tmp_path, settings(6, loss=loss, config=CarCnnConfig(features=4, blocks=1)))
    assert load_checkpoint(result.weights).description.loss == loss


def test_a_warm_start_starts_from_its_weights(dataset: Path, tmp_path: Path) -> None:
    first = run(dataset, tmp_path / "first", settings(6, ema=0))
    second = run(dataset, tmp_path / "second", settings(6, lr=1e-12, ema=0), init=first.weights)
    before, after = load_checkpoint(first.weights), load_checkpoint(second.weights)
    for name, tensor in before.net.state_dict().items():
        assert torch.allclose(tensor, after.net.state_dict()[name], atol=1e-6)
    assert after.description.steps > before.description.steps
    with pytest.raises(UsageError, match="architecture"):
        run(dataset, tmp_path / "third", settings(config=CarCnnConfig()), init=first.weights)


def test_a_warm_start_may_have_fewer_blocks(dataset: Path, tmp_path: Path) -> None:
    first = run(dataset, tmp_path / "first", settings(6, ema=0))
    deeper = settings(6, lr=1e-12, ema=0, config=dataclasses.replace(TINY, blocks=3))
    second = run(dataset, tmp_path / "second", deeper, init=first.weights)
    before, after = load_checkpoint(first.weights).net, load_checkpoint(second.weights).net
    assert after.config == deeper.config
    x = torch.rand(1, 1, 32, 32) * 2 - 1
    assert (after(x) - before(x)).abs().mean() < 0.2 * (before(x) - x).abs().mean()


@pytest.mark.parametrize(("kind", "seeds"), [("validation", (1, 1, 2)), ("test", (1, 2, 1))])
def test_numbers_of_a_training_clips_frames_are_refused(
    kind: str, seeds: tuple[int, ...], tmp_path: Path
) -> None:
    copy = tmp_path / "data"
    for split, seed in zip(("train", "val", "test"), seeds, strict=True):
        source = scenes.write_scene(tmp_path / f"of_{split}.mkv", 8, seed=seed)
        build_dataset(sources=[source], output=copy, recipe=Recipe(encodings=[Encoding(crf=45)], split=split))  # type: ignore[arg-type]
    with pytest.raises(CarfixError, match=rf"{kind} clip of_\w+ shows a frame of the training clip of_train"):
        run(copy, tmp_path / "run", settings(6))
    assert run(copy, tmp_path / "run", settings(6), allow_leaks=True).finished


def test_a_teacher_steers_and_belongs_to_the_run(dataset: Path, tmp_path: Path) -> None:
    teacher = save_awake(tmp_path / "teacher.safetensors", TINY)
    alone = run(dataset, tmp_path / "alone", settings(6, ema=0))
    taught = run(dataset, tmp_path / "taught", settings(6, ema=0), teacher=teacher, teacher_share=1.0)
    x = torch.rand(1, 1, 32, 32) * 2 - 1
    nets = [load_checkpoint(path).net for path in (alone.weights, taught.weights, teacher)]
    alone_off, taught_off = ((net(x) - nets[2](x)).abs().mean() for net in nets[:2])
    assert taught_off < alone_off
    run(dataset, tmp_path / "half", settings(12), teacher=teacher, minutes=AT_ONCE)
    with pytest.raises(CarfixError, match="other settings"):
        run(dataset, tmp_path / "half", settings(12))


def test_a_teacher_needs_patches_of_whole_cells(dataset: Path, tmp_path: Path) -> None:
    chosen = settings(1, config=CarCnnConfig(features=4, blocks=1), patch=33)
    with pytest.raises(UsageError, match="--patch 33 is no multiple of 4"):
        run(dataset, tmp_path / "run", chosen, teacher=save_awake(tmp_path / "teacher.safetensors"))


def test_the_learning_rate_warms_up_and_falls() -> None:
    chosen = settings(100, lr=1.0, warmup=10)
    rates = [learning_rate(chosen, step) for step in range(100)]
    assert rates[0] == pytest.approx(0.1)
    assert max(rates) == rates[9] == pytest.approx(1.0)
    assert rates[10:] == sorted(rates[10:], reverse=True)
    assert rates[-1] == pytest.approx(0.01, abs=0.01)
    constant = dataclasses.replace(chosen, schedule="constant")
    assert {learning_rate(constant, step) for step in range(10, 100)} == {1.0}


def test_a_short_training_warms_up_briefly() -> None:
    """A trial run that ends within the usual warm-up would never reach its rate."""
    short = settings(150, lr=1.0, warmup=None)
    assert max(learning_rate(short, step) for step in range(150)) == pytest.approx(1.0)
    assert short.record()["warmup"] == 15
    assert settings(60_000, warmup=None).record()["warmup"] == 200
    assert settings(1, warmup=None).warmup_steps == 0
    assert settings(150, warmup=200).record()["warmup"] == 200, "what was asked for"


@pytest.mark.parametrize(
    "changes",
    [
        *({"loss": "l1"}, {"schedule": "steps"}, {"patch": 33}, {"patch": 8}, {"precision": "fp8"}),
        *(
            {"lr": math.nan},
            {"lr": -1.0},
            {"lr": 0.0},
            {"lr": math.inf},
            {"ema": math.nan},
            {"clip": math.nan},
        ),
        *({"seed": -1}, {"seed": 2**64}, {"config": FastConfig(features=100_000)}),
    ],
    ids=str,
)
def test_settings_that_cannot_be_right(dataset: Path, tmp_path: Path, changes: dict[str, object]) -> None:
    with pytest.raises(UsageError):
        run(dataset, tmp_path / "run", settings(**changes))  # type: ignore[arg-type]
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["../x", "a/b", "a\\b", "/x", "..", ""])
def test_a_name_of_weights_stays_in_the_run(dataset: Path, tmp_path: Path, name: str) -> None:
    with pytest.raises(UsageError, match="--name is a file's name"):
        train(dataset=dataset, run=tmp_path / "run", name=name, settings=settings(), device="cpu")
    assert list(tmp_path.iterdir()) == []


def test_what_is_missing_is_said_before_anything_is_decoded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A dataset of the one split alone, or TensorBoard: decoding takes minutes."""
    source = scenes.write_scene(tmp_path / "train.mkv", 4, 1)
    data = tmp_path / "data"
    build_dataset(sources=[source], output=data, recipe=Recipe(encodings=[Encoding(crf=40)], split="train"))
    with pytest.raises(CarfixError, match="has no val clips"):
        run(data, tmp_path / "run", settings(1))
    assert not (tmp_path / "run").exists()
    other = scenes.write_scene(tmp_path / "val.mkv", 4, 2)
    build_dataset(sources=[other], output=data, recipe=Recipe(encodings=[Encoding(crf=40)], split="val"))
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    with pytest.raises(MissingPartError, match=r"TensorBoard is missing \(.+\); `pip install"):
        run(data, tmp_path / "run", settings(1), tensorboard=True)
    assert not (data / ".cache").exists()


@pytest.mark.parametrize("part", ["init", "teacher"])
def test_weights_to_begin_with_are_not_written_over(dataset: Path, tmp_path: Path, part: str) -> None:
    """They would be gone with the first validation, and with them what lets the run go on."""
    (tmp_path / "run").mkdir()
    given = save_awake(tmp_path / "run" / "probe.safetensors", TINY)
    before = given.read_bytes()
    with pytest.raises(UsageError, match=f"--{part} .* is what this training would write"):
        run(dataset, tmp_path / "run", settings(), **{part: given})
    assert given.read_bytes() == before


@pytest.mark.parametrize("device", ["vulkan", "meta", "gpu", "", "cuda0"])
def test_a_device_that_trains_nothing_is_a_mistake(dataset: Path, tmp_path: Path, device: str) -> None:
    with pytest.raises(UsageError, match="--device is auto, cpu, cuda, cuda:N or mps, not"):
        train(dataset=dataset, run=tmp_path / "run", name="probe", settings=settings(), device=device)


@pytest.mark.parametrize("minutes", [0.0, -1.0, math.nan])
def test_no_time_is_a_mistake(dataset: Path, tmp_path: Path, minutes: float) -> None:
    with pytest.raises(UsageError, match="--minutes is a number above 0"):
        run(dataset, tmp_path, settings(), minutes=minutes)


def test_two_processes_train_one_network(dataset: Path, tmp_path: Path) -> None:
    """`torchrun` with gloo on the CPU: the same code as on several GPUs."""
    command = [
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--standalone",
        "--nproc-per-node",
        "2",
        "-m",
        "carfix",
    ]
    command += ["train", str(dataset), "--arch", "fast", "--scale", "2", "--features", "8", "--blocks", "1"]
    command += ["--steps", "6", "--batch", "4", "--patch", "32", "--frames", "4", "--validate-every", "6"]
    command += ["--output", str(tmp_path), "--name", "probe", "--device", "cpu", "--precision", "fp32"]
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=180, env={**os.environ, "OMP_NUM_THREADS": "1"}
    )
    assert done.returncode == 0, done.stderr[:8000]
    assert done.stderr.count("finished at step 6 of 6") == 1
    assert load_checkpoint(tmp_path / "probe.safetensors").description.steps == 6


class Darker:
    """A term that wants everything dark."""

    name = "darkness"

    def __init__(self, weight: float) -> None:
        self.weight = weight

    def record(self) -> dict[str, float]:
        return {"darker": self.weight}

    def __call__(self, restored: torch.Tensor, pristine: torch.Tensor) -> torch.Tensor:
        assert restored.shape == pristine.shape == (4, 1, 32, 32)
        return self.weight * (restored + 1).mean()


def test_a_term_is_part_of_the_loss_and_of_what_a_run_is(dataset: Path, tmp_path: Path) -> None:
    chosen = settings(steps=12, lr=5e-3)
    plain = run(dataset, tmp_path / "plain", chosen)
    first = run(dataset, tmp_path / "dark", chosen, term=Darker(50.0), minutes=AT_ONCE)
    assert not first.finished
    result = run(dataset, tmp_path / "dark", chosen, term=Darker(50.0))
    assert result.finished
    with torch.no_grad():
        x = torch.zeros(1, 1, 32, 32)
        bright, dark = (
            float(load_checkpoint(tmp_path / name / "probe.safetensors").net(x).mean())
            for name in ("plain", "dark")
        )
    assert dark < bright - 0.01
    # It makes the picture worse, and is kept all the same: no validation measures what a term is about.
    assert plain.best is not None
    assert result.best is not None
    assert result.best < plain.best
    description = load_checkpoint(tmp_path / "dark/probe.safetensors").description
    assert (description.steps, description.loss) == (12, "psnr+darkness")
    with pytest.raises(CarfixError, match="other settings"):
        run(dataset, tmp_path / "dark", chosen, term=Darker(1.0))
