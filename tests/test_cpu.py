"""What is known of the CPU without torch is what torch says of it."""

import json
import math
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


@pytest.mark.parametrize(
    ("own", "limits", "granted"),
    [
        ("0::/", {"cpu.max": "200000 100000"}, 2.0),  # in a container
        ("0::/", {"cpu.max": "max 100000"}, math.inf),
        ("0::/", {}, math.inf),  # the top of a machine without limits
        ("0::/batch.slice/car:fix.service", {"batch.slice/cpu.max": "150000 100000"}, 1.5),
        (
            "0::/a/b",
            {"a/cpu.max": "400000 100000", "a/b/cpu.max": "max 100000", "cpu.max": "300000 100000"},
            3.0,
        ),
        (
            "5:memory:/x\n4:cpu,cpuacct:/docker/0123\n0::/y",
            {"cpu,cpuacct/cpu.cfs_quota_us": "50000", "cpu,cpuacct/cpu.cfs_period_us": "100000"},
            0.5,
        ),
        (
            "4:cpu:/",
            {"cpu/cpu.cfs_quota_us": "-1", "cpu/cpu.cfs_period_us": "100000"},
            math.inf,
        ),
        ("1:cpuset:/", {"cpuset/cpu.max": "100000 100000"}, math.inf),
    ],
)
def test_a_container_is_given_the_time_of_some_processors(
    own: str, limits: dict[str, str], granted: float, tmp_path: Path
) -> None:
    groups = tmp_path / "cgroup"
    for name, limit in limits.items():
        (groups / name).parent.mkdir(parents=True, exist_ok=True)
        (groups / name).write_text(limit + "\n")
    (tmp_path / "own").write_text(own + "\n")
    assert cpu._granted(groups, tmp_path / "own") == granted
    assert cpu._granted(groups, tmp_path / "none") == math.inf


@pytest.mark.parametrize(("granted", "count"), [(0.5, 1), (1.5, 2), (2.0, 2), (math.inf, 8)])
def test_no_more_cores_than_there_is_time_for(
    granted: float, count: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cpu, "_processors", lambda: list(range(8)))
    monkeypatch.setattr(cpu, "_granted", lambda: granted)
    assert len(cpu.cores()) == count
    assert 1 <= cpu.available_threads() <= count


def test_instructions_for_bf16_are_those_that_torch_finds() -> None:
    import torch

    assert cpu.has_amx() == torch.cpu._is_amx_tile_supported()
    assert cpu.multiplies_bf16() == (
        torch.cpu._is_amx_tile_supported() or torch.cpu._is_avx512_bf16_supported()
    )
