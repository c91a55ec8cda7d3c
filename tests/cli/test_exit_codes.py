"""Exit codes mean the same with every command: 1 for what is not there, 2 for what can never be right."""

import itertools
import os
from pathlib import Path
from typing import Any

import pytest
from quality.clips import moving_picture, write_clip, write_dataset
from typer.testing import CliRunner

from carfix.cli import app as program
from carfix.errors import CarfixError

NETWORK, VIDEO, OPTION = "no model called 'nope'", "nope.mp4", "nope"


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("inputs")
    return {
        "clip": write_clip(folder / "clip.mp4", moving_picture(4), options={"crf": "40", "threads": "1"}),
        "dataset": write_dataset(folder / "dataset", clips=1, frames=3, crfs=(35,)),
        "out": folder / "out.mp4",
        "none": folder / "nope.mp4",
        "folder": folder / "restored",
    }


def ended(line: str, inputs: dict[str, Path]) -> tuple[int, str]:
    """Exit code and message of a command, in which the `inputs` stand in braces."""
    program._load_commands()
    arguments = [word.format_map(inputs) for word in line.split()]
    result = CliRunner().invoke(program.app, arguments)
    error: Any = result.exception
    if isinstance(error, CarfixError):
        return error.exit_code, str(error)
    return result.exit_code, result.output


#: Every command that takes a network.
WITH_NETWORK = (
    "restore {clip} {out} --model nope",
    "restore {clip} {out} --dry-run --model nope",
    "restore {clip} {none} {folder} --model nope",
    "compare {clip} {clip} --model nope",
    "compare --no-reference {clip} --model nope",
    "inspect {clip} --model nope",
    "bench {clip} --model nope",
    "evaluate {dataset} --no-spp --model nope",
    "export nope {out}",
    "models nope",
)


@pytest.mark.parametrize("line", WITH_NETWORK)
def test_a_network_that_is_not_there(line: str, inputs: dict[str, Path]) -> None:
    code, text = ended(line, inputs)
    assert (code, NETWORK in text) == (1, True), text


@pytest.mark.parametrize(
    "line",
    [
        "restore {none} {out}",
        "compare {none} {clip}",
        "compare {clip} {none}",
        "inspect {none}",
        "bench {none}",
        "detect {none} {out} --detector {none}",
        "evaluate {none}",
        "train {none}",
        "dataset {none} {out}",
    ],
)
def test_a_file_that_is_not_there(line: str, inputs: dict[str, Path]) -> None:
    code, text = ended(line, inputs)
    assert (code, VIDEO in text) == (1, True), text


def test_a_variant_that_the_dataset_does_not_have(inputs: dict[str, Path]) -> None:
    code, text = ended("evaluate {dataset} --no-spp --model none --variant nope", inputs)
    assert code == 1
    assert text.endswith("dataset has no variant 'nope'; it has crf35-none")


@pytest.mark.parametrize(
    ("line", "option"),
    [
        *itertools.product(
            (
                "restore {clip} {out}",
                "compare {clip} {clip} --model tiny",
                "inspect {clip}",
                "bench {clip}",
                "evaluate {dataset} --no-spp",
                "detect {clip} {out} --detector {none}",
            ),
            ("--device nope", "--precision nope"),
        ),
        ("restore {clip} {out}", "--strength nope"),
        ("restore {clip} {out}", "--stream nope"),
        ("restore {clip} {out}", "-c:v nope"),
        ("compare {clip} {clip}", "--metric nope"),
        ("evaluate {dataset}", "--split nope"),
        ("train {dataset}", "--arch nope"),
    ],
)
def test_an_option_that_cannot_be_right(line: str, option: str, inputs: dict[str, Path]) -> None:
    code, text = ended(f"{line} {option}", inputs)
    assert (code, OPTION in text) == (2, True), text


@pytest.mark.parametrize(
    "line",
    [
        "compare {clip} {clip}",
        "compare --no-reference {clip} --model tiny",
        "inspect {clip} --model tiny",
        "detect {clip} --detector {clip}",
        "evaluate {dataset} --no-spp --no-cache --model none",
    ],
)
def test_a_file_that_may_not_be_read_is_no_wrong_command(
    line: str, inputs: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who parses does not ask: of an archive the other files are looked at nevertheless (tests may run as root)."""
    may = os.access
    monkeypatch.setattr(os, "access", lambda path, mode, **rest: mode != os.R_OK and may(path, mode, **rest))
    code, text = ended(line, inputs)
    assert code != 2 and "not readable" not in text
