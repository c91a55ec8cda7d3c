"""What processes of one training exchange, between real processes."""

import os
import subprocess
import sys
from pathlib import Path

TOGETHER = """
import os, sys
import torch
from torch import nn
from carfix.training.processes import average_gradients, join_processes, share_weights

THREADS = "/proc/self/task"  # where Linux lists them
before = len(os.listdir(THREADS)) if os.path.isdir(THREADS) else 0
rank = int(os.environ["RANK"])
join_processes(torch.device("cpu"), 2)
torch.manual_seed(rank)
net = nn.Conv2d(2, 3, 3).to(memory_format=torch.channels_last)
share_weights(net)
torch.manual_seed(0)
assert torch.equal(net.weight, nn.Conv2d(2, 3, 3).weight), "not the weights of the first process"

batches = [torch.full((1, 2, 5, 5), float(value)) for value in (1, 5)]
def gradients(x):
    net.zero_grad()
    net(x).square().sum().backward()
    return [parameter.grad.clone() for parameter in net.parameters()]

mean = [(a + b) / 2 for a, b in zip(gradients(batches[0]), gradients(batches[1]))]
gradients(batches[rank])
average_gradients(net)
for parameter, expected in zip(net.parameters(), mean):
    torch.testing.assert_close(parameter.grad, expected)
torch.distributed.destroy_process_group()
after = len(os.listdir(THREADS)) if os.path.isdir(THREADS) else 0
assert after <= before, f"{after} threads, {before} before: one that outlives Python can abort the process"
"""


def test_gradients_are_averaged_and_nothing_is_left_running(tmp_path: Path) -> None:
    script = tmp_path / "together.py"
    script.write_text(TOGETHER)
    done = subprocess.run(
        [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", script],
        capture_output=True, text=True, timeout=180, env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[:8000]
