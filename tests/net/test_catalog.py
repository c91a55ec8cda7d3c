from pathlib import Path

import pytest
from networks import save_awake

from carfix.net import catalog
from carfix.net.checkpoint import CheckpointError


@pytest.fixture
def shelf(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder in place of the installed weights."""
    monkeypatch.setattr(catalog, "_FOLDERS", (tmp_path,))
    return tmp_path


def put(shelf: Path, *names: str) -> None:
    for name in names:
        save_awake(shelf / f"{name}.safetensors")


@pytest.mark.parametrize(
    ("accelerator", "cores", "tiles", "expected"),
    [
        (False, 2, False, "fast"),
        (False, 7, False, "fast"),
        (False, 8, False, "medium"),
        (False, 2, True, "medium"),
        (True, 2, False, "car-cnn-mse"),
    ],
)
def test_auto_takes_what_the_machine_is_enough_for(
    shelf: Path, monkeypatch: pytest.MonkeyPatch, accelerator: bool, cores: int, tiles: bool, expected: str
) -> None:
    put(shelf, "car-cnn", "car-cnn-mse", "fast", "medium", "tiny")
    monkeypatch.setattr("carfix.cpu.cores", lambda: list(range(cores)))
    monkeypatch.setattr("carfix.cpu.has_amx", lambda: tiles)
    assert catalog.resolve("auto", accelerator=accelerator).stem == expected


def test_auto_takes_what_there_is(shelf: Path) -> None:
    with pytest.raises(CheckpointError, match="installed are none"):
        catalog.resolve("auto")
    put(shelf, "tiny")
    assert catalog.resolve("auto").stem == catalog.resolve("auto", accelerator=True).stem == "tiny"
    put(shelf, "car-cnn-mse")
    assert catalog.resolve("auto").stem == "tiny"
    assert catalog.resolve("auto", accelerator=True).stem == "car-cnn-mse"
