"""What a timing depends on besides what was timed: the machine's CPU and the versions of what computes."""

import ctypes
import functools
import platform
import sys
from pathlib import Path
from typing import Any

import torch

import carfix
from carfix.restore.engine.crew import available_threads

#: What Linux calls the permission to use tiles: each process asks for it, since tiles make threads' states larger.
_ARCH_PRCTL, _REQUEST, _TILE_DATA = 158, 0x1023, 18


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


@functools.cache
def has_tiles() -> bool:
    """Whether this machine computes with tiles (AMX) in bf16, and its system lets this process."""
    if sys.platform != "linux" or platform.machine() != "x86_64":
        return False
    if not (torch.cpu._is_amx_tile_supported() and torch.cpu._is_avx512_bf16_supported()):
        return False
    refused: int = ctypes.CDLL(None).syscall(_ARCH_PRCTL, _REQUEST, _TILE_DATA)
    return refused == 0
