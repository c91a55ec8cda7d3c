import json
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


def test_a_table_in_a_file_is_not_wrapped(arguments: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("COLUMNS", raising=False)
    result = CliRunner().invoke(app, ["inspect", *arguments], catch_exceptions=False)
    assert len(arguments[0]) > 40 and any(
        line.startswith(arguments[0]) for line in result.stdout.splitlines()
    )
