import os
import sys
from pathlib import Path

import pytest
import typer
from quality.clips import write_model
from typer.testing import CliRunner

from carfix.cli import export
from carfix.errors import CarfixError, MissingPartError, UsageError

app = typer.Typer()
app.callback()(lambda: None)
export.register(app)


def run(*arguments: object) -> str:
    result = CliRunner().invoke(
        app, ["export", *(str(argument) for argument in arguments)], catch_exceptions=False
    )
    assert result.exit_code == 0, result.output
    assert result.stdout == ""  # stdout belongs to data
    return result.stderr


def test_a_weights_file_becomes_onnx(tmp_path: Path) -> None:
    onnx = pytest.importorskip("onnx", reason="the extra export is not installed")
    weights = write_model(tmp_path / "tiny.safetensors")
    output = tmp_path / "tiny.onnx"
    # FastConfig(scale=2, blocks=1): four rings of cells of two pixels.
    assert "tiny, luma in [0, 1], height and width multiples of 2, tiles overlap by 8" in run(weights, output)
    assert onnx.load(str(output)).graph.name == "tiny"
    with pytest.raises(CarfixError, match="exists already"):
        run(weights, output)
    run("-y", weights, output)


def test_an_unknown_network_is_an_error_that_names_the_known(tmp_path: Path) -> None:
    with pytest.raises(CarfixError, match="no model called 'nosuch'; installed are"):
        run("nosuch", tmp_path / "x.onnx")
    assert not list(tmp_path.iterdir())


def test_what_is_no_file_is_not_replaced_by_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`carfix export -y fast /dev/null`, by root, made a file of the device."""
    weights = write_model(tmp_path / "tiny.safetensors")
    monkeypatch.chdir(tmp_path)
    for name, why in (("-", "not to stdout"), ("file:x.onnx", "leave file: out")):
        with pytest.raises(UsageError, match=why):
            run("-y", weights, name)
    if sys.platform != "win32":
        pipe = tmp_path / "pipe.onnx"
        os.mkfifo(pipe)
        with pytest.raises(CarfixError, match="is a device or a pipe"):
            run("-y", weights, pipe)
        assert pipe.is_fifo()
        pipe.unlink()
    assert list(tmp_path.iterdir()) == [weights]


def test_the_cure_for_a_missing_extra_is_quoted_as_every_shell_takes_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "onnx", None)  # type: ignore[arg-type]
    with pytest.raises(MissingPartError, match=r'pip install "carfix\[export\]"'):
        run(write_model(tmp_path / "tiny.safetensors"), tmp_path / "tiny.onnx")
