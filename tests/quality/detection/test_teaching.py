"""The detector's loss: nothing for pristine patches, and smaller as a detector sees more of what it should."""

from pathlib import Path

import pytest
import scenes
import torch
import typer
from quality.detection.detectors import write_detector, write_graph
from typer.testing import CliRunner

from carfix.cli import train as train_command
from carfix.errors import CarfixError, UsageError
from carfix.net.checkpoint import load_checkpoint
from carfix.quality.detection.teaching import DetectorLoss
from carfix.training.dataset import Recipe, build_dataset
from carfix.training.encoding import Encoding

pytest.importorskip("onnx", reason="needs carfix[export]")


def scene(count: int = 2, side: int = 48) -> torch.Tensor:
    """Bright squares on black, in [-1, 1]."""
    patches = torch.full((count, 1, side, side), -0.8)
    patches[:, :, 8:24, 16:32] = 0.9
    return patches


@pytest.mark.parametrize("family", ["yolox", "ultralytics"])
def test_it_is_nothing_for_equals_and_falls_along_its_gradient(family: str, tmp_path: Path) -> None:
    path = write_detector(tmp_path / "d.onnx", family, width=96, height=96)  # type: ignore[arg-type]
    loss = DetectorLoss(path, weight=1.0, patch=48)
    pristine = scene()
    assert float(loss(pristine, pristine)) < 1e-5
    restored = (pristine * 0.5).requires_grad_()
    losses = []
    for _ in range(8):
        found = loss(restored, pristine)
        losses.append(float(found.detach()))
        (gradient,) = torch.autograd.grad(found, restored)
        restored = (restored - gradient / (gradient.norm() + 1e-9)).detach().requires_grad_()
    assert losses[-1] < 0.7 * losses[0]
    doubled = DetectorLoss(path, weight=2.0, patch=48)
    half = pristine * 0.5
    assert float(doubled(half, pristine)) == pytest.approx(2 * float(loss(half, pristine)))
    assert loss.record() != doubled.record()


def test_what_has_other_numbers_behind_its_boxes_does_not_teach(tmp_path: Path) -> None:
    pose = write_detector(tmp_path / "p.onnx", "ultralytics", width=96, height=96, metadata={"task": "pose"})
    with pytest.raises(CarfixError, match="Ultralytics' task 'pose'"):
        DetectorLoss(pose, weight=1.0, patch=48)
    points = write_detector(tmp_path / "q.onnx", "ultralytics", width=96, height=96, gain=9.0)
    with pytest.raises(CarfixError, match=r"should be scores runs from 0 to 4\.02"):
        DetectorLoss(points, weight=1.0, patch=48)


def test_it_sees_what_evaluate_shows(tmp_path: Path) -> None:
    """Gray of the limited range, in the family's own numbers: the scores are those of the square's brightness."""
    for family in ("yolox", "ultralytics"):
        path = write_detector(tmp_path / f"{family}.onnx", family, width=96, height=96)  # type: ignore[arg-type]
        _, scores = DetectorLoss(path, weight=1.0, patch=96)._seen(scene(1, 96))
        code = ((0.9 + 1) * 127.5 - 16) * 255 / 219
        assert float(scores.max()) == pytest.approx(min(code, 255) / 255, abs=1e-3)


def test_what_cannot_teach_is_one_clear_error(tmp_path: Path) -> None:
    path = write_detector(tmp_path / "d.onnx", width=416, height=416)
    with pytest.raises(
        UsageError, match=r"--patch 64 is too small for a detector of 416x416 .* give 104 or more"
    ):
        DetectorLoss(path, weight=1.0, patch=64)
    from onnx import helper

    nodes = [helper.make_node("Relu", ["images"], ["output"])]
    other = write_graph(tmp_path / "other.onnx", nodes, [1, 3, 64, 64], [1, 3, 64, 64])  # type: ignore[arg-type]
    with pytest.raises(CarfixError, match="no detector that carfix knows"):
        DetectorLoss(other, weight=1.0, patch=64)
    free = write_graph(tmp_path / "free.onnx", nodes, [1, 3, "height", "width"], [1, 3, 64, 64])  # type: ignore[arg-type]
    with pytest.raises(CarfixError, match="no detector of a fixed size"):
        DetectorLoss(free, weight=1.0, patch=64)


def test_carfix_train_with_a_detector(tmp_path: Path) -> None:
    encodings = [Encoding(crf=35)]
    for split, seed in (("train", 1), ("val", 2)):
        source = scenes.write_scene(tmp_path / f"{split}.mkv", 6, seed)
        recipe = Recipe(encodings=encodings, split=split)  # type: ignore[arg-type]
        build_dataset(sources=[source], output=tmp_path / "data", recipe=recipe)
    detector = write_detector(tmp_path / "d.onnx", width=96, height=96)
    command = [
        "train",
        str(tmp_path / "data"),
        "--arch",
        "fast",
        "--scale",
        "2",
        "--features",
        "8",
        "--blocks",
        "1",
    ]
    command += ["--loss", "psnr", "--patch", "32", "--batch", "2", "--steps", "3", "--frames", "4", "-o"]
    command += [str(tmp_path / "run"), "--name", "taught", "--device", "cpu", "--detector", str(detector)]
    app = typer.Typer()
    app.callback()(lambda: None)
    train_command.register(app)
    result = CliRunner().invoke(app, command)
    assert result.exit_code == 0, result.output
    assert "last validation gain" in result.output
    assert load_checkpoint(tmp_path / "run/taught.safetensors").description.steps == 3
    # Another weight is another training.
    result = CliRunner().invoke(app, [*command, "--detector-weight", "3"])
    assert "other settings" in str(result.exception)
