"""What is known of the CPU without torch is what torch says of it."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from carfix import cpu

ASK = "import json; from carfix import cpu; print(json.dumps({}))"


def asked(expression: str, **environment: str) -> object:
    """What a new process says, without torch unless `expression` imports it."""
    plain = {name: value for name, value in os.environ.items() if name not in cpu._THREADS}
    run = subprocess.run(
        [sys.executable, "-c", ASK.format(expression)],
        env={**plain, **environment},
        capture_output=True,
        text=True,
        check=True,
    )
    return json.loads(run.stdout)


@pytest.mark.parametrize("environment", [{}, {"OMP_NUM_THREADS": "1"}, {"MKL_NUM_THREADS": "1"}], ids=str)
def test_threads_are_as_many_as_torch_takes(environment: dict[str, str]) -> None:
    without, loaded, with_torch = asked(  # type: ignore[misc]
        "[cpu.available_threads(), 'torch' in __import__('sys').modules, "
        "(__import__('torch'), cpu.available_threads())[1]]",
        **environment,
    )
    assert without == with_torch
    assert not loaded or sys.platform == "win32"
    assert 1 <= without <= len(cpu.cores())


@pytest.mark.parametrize(
    ("value", "expected"),
    [("3", 3), ("3,2", 3), (" 2 ", 2), ("0", None), ("-1", None), ("many", None), ("", None)],
)
def test_only_a_number_bounds_threads(
    value: str, expected: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("MKL_NUM_THREADS", raising=False)
    monkeypatch.setenv("OMP_NUM_THREADS", value)
    assert cpu._asked_for() == expected


def test_two_threads_of_a_core_are_one(tmp_path: Path) -> None:
    for number, siblings in enumerate(("0,2\n", "1,3\n", "0,2\n", "1,3\n")):
        topology = tmp_path / f"cpu{number}/topology"
        topology.mkdir(parents=True)
        (topology / "thread_siblings_list").write_text(siblings)
    assert cpu._physical([0, 1, 2, 3], tmp_path) == 2
    assert cpu._physical([0, 2], tmp_path) == 1
    assert cpu._physical([4, 5, 6], tmp_path) == 3  # nothing is told of them


def test_instructions_for_bf16_are_those_that_torch_finds() -> None:
    import torch

    assert cpu.has_amx() == torch.cpu._is_amx_tile_supported()
    assert cpu.multiplies_bf16() == (
        torch.cpu._is_amx_tile_supported() or torch.cpu._is_avx512_bf16_supported()
    )
