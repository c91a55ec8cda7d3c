"""Which GPU a process of several is given."""

import os
from pathlib import Path
from typing import Any

import faults
import pytest
from batches import batch, clips, statuses

import carfix.restore.gpus as gpus
from carfix.restore.gpus import VISIBLE, keep_to_one


class Seeing(faults.Slow):
    """Writes down which GPUs its process sees."""

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self._folder = folder

    def restore(self, planes: Any, bit_depth: int, strengths: Any = None) -> Any:  # noqa: ANN401
        (self._folder / str(os.getpid())).write_text(os.environ[VISIBLE])
        return super().restore(planes, bit_depth, strengths)


@pytest.mark.parametrize(
    ("given", "turn", "seen"),
    [
        ("3,GPU-8932f937", 0, "3"),
        ("3, GPU-8932f937", 1, "GPU-8932f937"),
        ("3,GPU-8932f937", 2, "3"),
        ("3,5,-1,7", 2, "3"),
        ("3", 1, "3"),
        ("", 1, ""),
        ("-1", 1, "-1"),
    ],
)
def test_each_takes_the_next_of_those_that_may_be_seen(
    given: str, turn: int, seen: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(VISIBLE, given)
    keep_to_one(turn, "auto")
    assert os.environ[VISIBLE] == seen


@pytest.mark.parametrize(("count", "seen"), [(0, None), (1, None), (4, "1")])
def test_all_of_the_machine_are_there_where_nothing_else_is_said(
    count: int, seen: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(VISIBLE, "restored when the test is over")
    monkeypatch.delenv(VISIBLE)
    monkeypatch.setattr(gpus, "_count", lambda: count)
    keep_to_one(5, "cuda")
    assert os.environ.get(VISIBLE) == seen


def test_a_gpu_that_is_named_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VISIBLE, "0,1")
    for device in ("cuda:1", "cpu", "vulkan"):
        keep_to_one(0, device)
        assert os.environ[VISIBLE] == "0,1"


def test_counting_needs_no_driver() -> None:
    assert gpus._count() >= 0


def test_files_at_a_time_divide_the_gpus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VISIBLE, "4,6")
    outcomes = batch(clips(tmp_path, 3), model=Seeing(tmp_path), jobs=2)
    assert statuses(outcomes) == ["done"] * 3
    seen = [file.read_text() for file in tmp_path.iterdir() if file.name.isdigit()]
    assert len(seen) == 3 and set(seen) == {"4", "6"}


def test_one_file_at_a_time_sees_them_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VISIBLE, "4,6")
    assert statuses(batch(clips(tmp_path, 1), model=Seeing(tmp_path))) == ["done"]
    [seen] = [file.read_text() for file in tmp_path.iterdir() if file.name.isdigit()]
    assert seen == "4,6"
