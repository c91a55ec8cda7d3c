"""Memory stays flat over any length."""

import subprocess
import sys
from pathlib import Path

import faults
import media
import pytest
from backends import needs_bf16
from networks import save_awake

from carfix.net.config import CarCnnConfig


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
def test_resident_memory_after_3000_frames(tmp_path: Path) -> None:
    pictures = [media.picture(i, 160, 128) for i in range(50)]
    source = media.write_clip(
        tmp_path / "in.mkv",
        frames=3000,
        width=160,
        height=128,
        pictures=lambda i: pictures[i % 50],
        sounds=[media.Sound(seconds=120.0)],
    )
    samples = tmp_path / "samples"
    process = faults.start(faults.resident, source, tmp_path / "out.mkv", samples, (300, 3000))
    process.join()
    assert process.exitcode == 0
    early, late = map(int, samples.read_text().split())
    assert late <= early * 1.05


#: Bytes that a machine with 4 GB can give: what a 4K restore on a CPU may take at its peak.
ROOM = 4 << 30


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the unit of ru_maxrss is another elsewhere")
def test_a_4k_restore_on_the_cpu_stays_within_4_gb(tmp_path: Path) -> None:
    width, height = 3840, 2160
    source = media.write_clip(
        tmp_path / "in.mp4",
        frames=3,
        width=width,
        height=height,
        pictures=lambda i: media.picture(i, width, height),
        options={"preset": "ultrafast", "threads": "1"},
    )
    peak = _peak(
        "carfix.restore_video(source=source, output=output, model='fast', device='cpu')",
        source=source,
        output=tmp_path / "out.mp4",
    )
    assert 3 * width * height < peak < ROOM


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the unit of ru_maxrss is another elsewhere")
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_the_full_network_computes_a_window_a_thread_within_4_gb(tmp_path: Path, precision: str) -> None:
    if precision == "bf16":
        needs_bf16()
    weights = save_awake(tmp_path / "full.safetensors", CarCnnConfig())
    peak = _peak(
        "engine = open_engine(carfix.load_model(str(source)), device='cpu', precision=precision)\n"
        "engine.restore(np.zeros((available_threads(), 480, 640), np.uint8), 8)",
        source=weights,
        precision=precision,
    )
    assert peak < ROOM


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the unit of ru_maxrss is another elsewhere")
def test_what_is_planned_for_a_gpu_of_4_gb_takes_no_more(tmp_path: Path) -> None:
    """The GPU's engine and plan on the CPU, for a 1080p frame: depth does not matter, maps of 64 channels do."""
    weights = save_awake(tmp_path / "shallow.safetensors", CarCnnConfig(blocks=1))
    peak = _peak(
        "from carfix.restore.engine.autotune import Plan, Task, geometries\n"
        "from carfix.restore.engine.cuda_engine import CudaEngine\n"
        "from carfix.restore.engine.cuda_program import EAGER, Builder\n"
        "from carfix.restore.engine.cuda_streams import InOrder\n"
        "import torch\n"
        "cpu, model = torch.device('cpu'), carfix.load_model(str(source))\n"
        "task = Task(height=1080, width=1920, frames=4, config=model.config, margin=34, itemsize=4,"
        " memory=4 << 30)\n"
        "tile, count = geometries(task)[0]\n"
        "assert 4 * task.memory_needed(tile, count) > task.memory, 'the plan leaves most of it unused'\n"
        "builder = Builder(model.net, device=cpu, precision='fp32', queues=InOrder(cpu))\n"
        "engine = CudaEngine(model, builder=builder, planner=lambda *_: Plan(tile, count, EAGER), batch=4, tile=None,"
        " description='tested')\n"
        "assert engine.restore(np.zeros((1, 1080, 1920), np.uint8), 8).shape == (1, 1080, 1920)",
        source=weights,
    )
    assert peak < ROOM


def _peak(code: str, **names: object) -> int:
    """The largest resident memory, in bytes, of a process that runs `code` with these strings."""
    lines = [f"{name} = {str(value)!r}" for name, value in names.items()]
    start = """
import resource
import numpy as np
import carfix
from carfix.restore.engine import open_engine
from carfix.cpu import available_threads
"""
    end = "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)"
    program = "\n".join([start, *lines, code, end])
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    return int(run.stdout) * 1024
