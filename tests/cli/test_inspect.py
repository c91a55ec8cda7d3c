import json
import os
import shutil
import sys
from pathlib import Path

import pytest
import typer
from quality.clips import moving_picture, write_clip, write_model
from typer.testing import CliRunner

from carfix.cli import inspect

app = typer.Typer()
app.callback()(lambda: None)
inspect.register(app)


@pytest.fixture
def arguments(tmp_path: Path) -> list[str]:
    clip = write_clip(tmp_path / "clip.mp4", moving_picture(8), options={"crf": "33", "threads": "1"})
    return [str(clip), "--model", str(write_model(tmp_path / "tiny.safetensors")), "--device", "cpu"]


def test_a_line_a_file(arguments: list[str]) -> None:
    result = CliRunner().invoke(app, ["inspect", *arguments], catch_exceptions=False)
    assert result.exit_code == 0
    assert "h264" in result.stdout and "96x64" in result.stdout


def test_a_narrow_terminal_keeps_the_names(arguments: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(Path(arguments[0]).parent)
    narrow = {"COLUMNS": "40"}
    result = CliRunner().invoke(
        app, ["inspect", "clip.mp4", *arguments[1:]], env=narrow, catch_exceptions=False
    )
    assert "\nclip.mp4 h264" in result.stdout


def test_json_of_the_files_that_can_be_read_and_exit_1_for_the_others(arguments: list[str]) -> None:
    result = CliRunner().invoke(app, ["inspect", "missing.mp4", *arguments, "--json"], catch_exceptions=False)
    assert result.exit_code == 1
    document = json.loads(result.stdout)
    assert document["model"] == "tiny"
    (found,) = document["files"]
    assert found["codec"] == "h264" and found["seconds"] > 0
    # No fit was made for these weights, and none is invented.
    assert found["predicted_gain"] is None
    assert "missing.mp4" in result.stderr


def test_nothing_is_said_of_networks_where_nothing_was_found(arguments: list[str]) -> None:
    result = CliRunner().invoke(app, ["inspect", "missing.mp4", *arguments[1:]], catch_exceptions=False)
    assert result.exit_code == 1 and "missing.mp4" in result.stderr
    assert not result.stdout and "gain and time" not in result.stderr


def test_a_table_in_a_file_is_not_wrapped(arguments: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("COLUMNS", raising=False)
    result = CliRunner().invoke(app, ["inspect", *arguments], catch_exceptions=False)
    assert len(arguments[0]) > 40 and any(
        line.startswith(arguments[0]) for line in result.stdout.splitlines()
    )


def test_names_are_shown_letter_by_letter(
    arguments: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("a[").mkdir()
    names = ["a[/b].mp4", "[red]x:smile:.mp4"]
    for name in names:
        shutil.copy(arguments[0], name)
    result = CliRunner().invoke(app, ["inspect", *names, *arguments[1:]], catch_exceptions=False)
    assert result.exit_code == 0 and all(name in result.stdout for name in names)


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere names are always text")
def test_a_name_that_is_no_text_can_be_shown(arguments: list[str], tmp_path: Path) -> None:
    name = os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9.mp4")
    shutil.copy(arguments[0], name)
    for rest in ([], ["--json"]):
        result = CliRunner().invoke(app, ["inspect", name, *arguments[1:], *rest], catch_exceptions=False)
        assert result.exit_code == 0 and ("caf?.mp4" in result.stdout) != bool(rest)
