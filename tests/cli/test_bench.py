import json
from pathlib import Path

import pytest
import typer
from quality.clips import moving_picture, write_clip, write_model
from typer.testing import CliRunner, Result

from carfix.cli import bench
from carfix.errors import CarfixError, UsageError
from carfix.quality.bench import ceilings

app = typer.Typer()
app.callback()(lambda: None)
bench.register(app)


@pytest.fixture
def weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(ceilings, "CPU_SIDE", 128)
    monkeypatch.setattr(ceilings, "COPIED", 1 << 20)
    return write_model(tmp_path / "tiny.safetensors")


def run(*arguments: object) -> Result:
    result = CliRunner().invoke(
        app,
        ["bench", "--device", "cpu", "--seconds", "0.02", *(str(argument) for argument in arguments)],
        catch_exceptions=False,
    )
    assert result.exit_code == 0, result.output
    return result


def test_json_of_a_clip_is_all_that_stdout_gets(tmp_path: Path, weights: Path) -> None:
    clip = write_clip(tmp_path / "clip.mp4", moving_picture(8), options={"crf": "35", "threads": "1"})
    result = run(clip, "-m", weights, "--tile", 64, "--json")
    document = json.loads(result.stdout)
    assert document["clip"]["path"] == str(clip) and document["clip"]["frames"] == 8
    assert document["settings"]["tile"] == 64
    assert [model["name"] for model in document["models"]] == ["tiny"]
    assert document["machine"]["cpu"] in result.stderr


def test_a_made_up_clip_and_a_table(weights: Path) -> None:
    result = run("-m", weights, "--size", "64x48")
    assert "64x48 h264" in result.stdout and "end to end" in result.stdout
    # No progress where there is no terminal: a log holds results.
    assert "measurements" not in result.output


def test_errors_and_their_exit_codes(tmp_path: Path, weights: Path) -> None:
    garbage = tmp_path / "garbage.mp4"
    garbage.write_bytes(b"no video")
    cases = [
        (UsageError, 2, "a clip has its own", (garbage, "--size", "720p")),
        (UsageError, 2, "a size is WIDTHxHEIGHT", ("--size", "large")),
        (UsageError, 2, "--size is WIDTHxHEIGHT or one of 360p", ("--size", "640x-2")),
        (UsageError, 2, "even", ("--size", "641x360")),
        (UsageError, 2, "--precision is one of", ("--precision", "fp8")),
        *(
            (UsageError, 2, "--seconds must be positive and finite", ("--seconds", seconds))
            for seconds in ("-1", "0", "nan", "inf")
        ),
        (CarfixError, 1, "cannot read", (garbage,)),
        (CarfixError, 1, "no model called", ("-m", "nosuch")),
    ]
    for kind, code, text, arguments in cases:
        with pytest.raises(kind, match=text) as error:
            run("-m", weights, *arguments)
        assert error.value.exit_code == code
