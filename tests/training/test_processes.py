"""Processes of one training, as torchrun starts them."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from carfix.training.processes import rank_and_world

TOGETHER = """
import os
import torch
from torch import nn
from carfix.training.processes import any_process, join_processes, leave_processes

def threads():
    return sorted(open(f"/proc/self/task/{task}/comm").read() for task in os.listdir("/proc/self/task"))

before = threads()
rank = int(os.environ["RANK"])
join_processes(torch.device("cpu"), 2)
net = nn.Conv2d(1, 1, 3)
optimizer = torch.optim.Adam(net.parameters())
stepper = nn.parallel.DistributedDataParallel(net)
stepper(torch.ones(1, 1, 5, 5)).sum().backward()
optimizer.step()
assert any_process(rank == 1, torch.device("cpu"))
assert not any_process(False, torch.device("cpu"))
assert threads() != before
del stepper
leave_processes(2)
assert threads() == before, f"{threads()}, but {before} before"
"""


@pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="threads are counted where Linux lists them")
def test_nothing_of_the_group_is_left_running(tmp_path: Path) -> None:
    """A thread of it that lets go of a tensor after Python's end would abort the process."""
    script = tmp_path / "together.py"
    script.write_text(TOGETHER)
    done = subprocess.run(
        [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", script],
        capture_output=True, text=True, timeout=180, env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[:8000]


def test_a_process_alone_is_the_first_of_one(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("RANK", "WORLD_SIZE"):
        monkeypatch.delenv(name, raising=False)
    assert rank_and_world() == (0, 1)
    monkeypatch.setenv("RANK", "3")
    monkeypatch.setenv("WORLD_SIZE", "4")
    assert rank_and_world() == (3, 4)
