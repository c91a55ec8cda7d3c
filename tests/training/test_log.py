"""The curve of a training outlives kills, and damage to it is said."""

from pathlib import Path

import pytest

from carfix.errors import CarfixError
from carfix.training.log import FIELDS, Log
from carfix.training.validation import Gains

HEADER = ",".join(FIELDS)
GOOD = "500,10,0.001,0.5,0.1000,0.00100,0.1000"


def written(folder: Path, *lines: str) -> Path:
    path = folder / "log.csv"
    path.write_text("\n".join((HEADER, *lines)) + "\n")
    return path


def test_rows_past_the_checkpoint_and_a_row_that_was_cut_off_are_dropped(tmp_path: Path) -> None:
    for ending in ("1000,20,0.001,0.5,0.1,0.001,0.1", "1000,2", "1", "10\x00\x00"):
        path = written(tmp_path, GOOD, ending)
        Log(tmp_path, 500).write(1000, 7.0, 1e-3, 0.5, Gains(0.2, 0.002, 0.2))
        rows = path.read_text().splitlines()
        assert rows[:2] == [HEADER, GOOD]
        assert [row.split(",")[:2] for row in rows[2:]] == [["1000", "17"]]


@pytest.mark.parametrize("damage", [b"step\nhello\n" + GOOD.encode(), b"\xff\xfe" * 20, b"x\n,,,,,,\n1\n"])
def test_a_damaged_log_is_named_and_left_alone(tmp_path: Path, damage: bytes) -> None:
    path = tmp_path / "log.csv"
    path.write_bytes(damage)
    with pytest.raises(CarfixError, match=r"log\.csv .*move it away"):
        Log(tmp_path, 500)
    assert path.read_bytes() == damage


def test_a_log_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "log.csv").mkdir()
    with pytest.raises(CarfixError, match=r"log\.csv"):
        Log(tmp_path, 0)
