import json
import subprocess
import sys
from pathlib import Path

import pytest
import typer
from quality.clips import write_model
from typer.testing import CliRunner

from carfix.cli import models
from carfix.errors import CarfixError
from carfix.net.catalog import installed

app = typer.Typer()
app.callback()(lambda: None)
models.register(app)


def test_a_weights_file_is_described_from_its_own_words(tmp_path: Path) -> None:
    path = write_model(tmp_path / "x.safetensors", "tiny")
    result = CliRunner().invoke(app, ["models", "--json", str(path)], catch_exceptions=False)
    assert result.exit_code == 0
    (model,) = json.loads(result.stdout)["models"]
    # FastConfig(scale=2, features=4, blocks=1): 3x3 convolutions 4->4, 4->4, 4->4, 4->4 on 2x2 cells.
    assert model["parameters"] == 4 * (4 * 4 * 9 + 4)
    assert model["multiply_adds_per_pixel"] == 4 * 4 * 4 * 9 / 4
    assert model["receptive_field_radius"] == 4 * 2 + 1
    assert model["gains"] == {"psnr": 0.25, "ssim": 0.01}
    assert (model["name"], model["architecture"], model["licence"]) == ("tiny", "fast", "CC0-1.0")
    assert len(model["sha256"]) == 64


def test_a_gain_that_is_no_number_is_null(tmp_path: Path) -> None:
    path = write_model(tmp_path / "x.safetensors", "[red]tiny", gains={"psnr": float("nan"), "ssim": 0.01})
    output = CliRunner().invoke(app, ["models", "--json", str(path)], catch_exceptions=False).stdout
    (model,) = json.loads(output, parse_constant=pytest.fail)["models"]
    assert model["gains"] == {"psnr": None, "ssim": 0.01}
    table = CliRunner().invoke(app, ["models", str(path)], catch_exceptions=False).stdout
    assert "[red]tiny" in table and "nan" not in table


def test_the_table_shows_gain_and_cost(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    path = write_model(tmp_path / "x.safetensors", "tiny")
    result = CliRunner().invoke(app, ["models", str(path)], catch_exceptions=False)
    assert "tiny" in result.stdout and "+0.25" in result.stdout and "CC0-1.0" in result.stdout


def test_weights_without_a_licence_show_that(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    path = write_model(tmp_path / "x.safetensors", "tiny", licence="")
    result = CliRunner().invoke(app, ["models", str(path)], catch_exceptions=False)
    assert result.stdout.splitlines()[1].split()[-2] == "-"


def test_shipped_names_are_whole_in_80_columns(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    lines = CliRunner().invoke(app, ["models"], catch_exceptions=False).stdout.splitlines()
    assert {line.split()[0] for line in lines} == {"name", *installed()}
    for line in lines[1:]:
        assert "Apache-2.0" in line and len(line.split()[-1]) == 8


def test_a_foreign_file_is_an_error(tmp_path: Path) -> None:
    foreign = tmp_path / "foreign.safetensors"
    foreign.write_bytes(b"no weights")
    with pytest.raises(CarfixError, match=r"foreign\.safetensors is not a readable weights file"):
        CliRunner().invoke(app, ["models", str(foreign)], catch_exceptions=False)


def test_the_list_does_not_wait_for_torch() -> None:
    run = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "carfix", "models"],
        capture_output=True,
        text=True,
        check=True,
    )
    loaded = {line.rpartition("|")[2].strip() for line in run.stderr.splitlines()}
    assert "carfix.net.checkpoint" in loaded
    assert "torch" not in loaded


def test_a_command_ends_without_looking_for_garbage() -> None:
    program = (
        "import atexit, gc, sys; atexit.register(lambda: print(gc.get_freeze_count())); "
        "sys.argv[1:] = ['--version']; from carfix.cli import main; main()"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60
    )
    assert int(done.stdout.splitlines()[-1]) > 10_000
