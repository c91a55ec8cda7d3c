"""What a timing depends on besides what was timed: the machine's CPU and the versions of what computes."""

import platform
from pathlib import Path
from typing import Any

import torch

import carfix
from carfix.restore.engine.crew import available_threads


def facts() -> dict[str, Any]:
    """For the key of a `TuneCache`."""
    return {
        "cpu": [_cpu_name(), torch.backends.cpu.get_cpu_capability()],
        "threads": available_threads(),
        "versions": [carfix.__version__, torch.__version__],
    }


def _cpu_name() -> str:
    """What tells this CPU from others, as far as the system says."""
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return platform.processor() or platform.machine()
    names = [line.partition(":")[2].strip() for line in text.splitlines() if line.startswith("model name")]
    return names[0] if names else platform.machine()
