"""The GPU benchmark goes through everything that it will measure, in tiny sizes, where there is no GPU."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

SCRIPT = Path(__file__).resolve().parents[2] / "bench" / "gpu_speed.py"


def run(*options: str) -> subprocess.CompletedProcess[str]:
    # One thread: threads that wait for each other take minutes where other tests run beside them.
    return subprocess.run(
        [sys.executable, str(SCRIPT), *options],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )


def test_every_part_of_the_benchmark_runs() -> None:
    result = run("--device", "cpu", "--dry-run", "--json", "--seconds", "1000")
    assert result.returncode == 0, result.stderr
    found = json.loads(result.stdout)
    assert found["left_out"] == []
    rows = {(row["precision"], row["variant"]) for row in found["rows"]}
    assert {("fp32", "plain PyTorch"), ("fp32", "eager"), ("fp32", "chosen"), ("bf16", "chosen")} <= rows
    for row in found["rows"]:
        assert 0 < row["share_of_arithmetic"] <= row["share_of_roofline"] * 1.0001
    assert found["pictures"]["fp32"]["largest_difference"] == 0
    assert found["pictures"]["bf16"]["largest_difference"] <= 1
    whole = found["end_to_end"]
    assert whole["slowest"] in ("decode", "network", "encode")
    assert whole[whole["slowest"]] == min(whole[stage] for stage in ("decode", "network", "encode"))


def test_what_there_is_no_time_for_is_named() -> None:
    result = run("--device", "cpu", "--dry-run", "--seconds", "0")
    assert result.returncode == 0, result.stderr
    assert "left out: pictures: no time" in result.stdout


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has CUDA")
def test_without_a_gpu_it_says_so() -> None:
    result = run("--json")
    assert result.returncode == 3 and "no CUDA device" in result.stderr and result.stdout == ""
