"""What this machine's CPU is and can, as far as the system tells without torch, which takes a second to load."""

import contextlib
import ctypes
import functools
import os
import platform
import subprocess
import sys
from pathlib import Path

#: What Linux calls the permission to use tiles: each process asks for it, since tiles make threads' states larger.
_ARCH_PRCTL, _REQUEST, _TILE_DATA = 158, 0x1023, 18
#: Where Linux keeps what it knows of each processor.
_PROCESSORS = Path("/sys/devices/system/cpu")
#: How a user bounds the threads of numerical libraries; the first that is set counts, as for torch.
_THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS")


def cores() -> list[int]:
    """The processors that this process may use: containers and `taskset` give fewer than the machine has."""
    if hasattr(os, "sched_getaffinity"):
        return sorted(os.sched_getaffinity(0))
    return list(range(os.cpu_count() or 1))


def available_threads() -> int:
    """Threads that compute at once: as many as torch would use, and no more than this process has cores.

    torch takes a thread a physical core, and heeds `OMP_NUM_THREADS` and, once it is loaded, `torch.set_num_threads`.
    """
    if "torch" in sys.modules or sys.platform == "win32":
        import torch

        most = torch.get_num_threads()
    else:
        most = _asked_for() or _physical(cores())
    return max(1, min(most, len(cores())))


def _asked_for() -> int | None:
    for name in _THREADS:
        first = os.environ.get(name, "").partition(",")[0].strip()
        if first.isdigit() and int(first) > 0:
            return int(first)
    return None


def _physical(processors: list[int], folder: Path = _PROCESSORS) -> int:
    """How many cores these processors are threads of; where the system does not tell, each is one."""
    groups = set()
    for number in processors:
        try:
            siblings = (folder / f"cpu{number}/topology/thread_siblings_list").read_text(encoding="ascii")
        except OSError:
            siblings = str(number)
        groups.add(siblings.strip())
    return len(groups)


@functools.cache
def name() -> str:
    """What tells this CPU from others, as far as the system says."""
    if sys.platform == "darwin":
        with contextlib.suppress(OSError, subprocess.SubprocessError):
            command = ["sysctl", "-n", "machdep.cpu.brand_string"]
            return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    return next(iter(_told("model name")), "") or platform.processor() or platform.machine()


@functools.cache
def flags() -> frozenset[str]:
    """The instructions that Linux names on x86; empty elsewhere."""
    return frozenset(next(iter(_told("flags")), "").split())


def _told(field: str) -> list[str]:
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return []
    lines = (line.partition(":") for line in text.splitlines())
    return [value.strip() for key, _, value in lines if key.strip() == field]


def has_amx() -> bool:
    """Whether the CPU has tiles for bf16, be the system in their way or not."""
    if sys.platform == "win32":
        import torch

        return bool(torch.cpu._is_amx_tile_supported())
    return {"amx_tile", "amx_bf16"} <= flags()


def multiplies_bf16() -> bool:
    """Whether it has instructions that make bf16 quicker than fp32; without them it is emulated."""
    if sys.platform == "win32":
        import torch

        return bool(torch.cpu._is_avx512_bf16_supported()) or has_amx()
    return "avx512_bf16" in flags() or has_amx()


@functools.cache
def has_tiles() -> bool:
    """Whether this machine computes with tiles (AMX) in bf16, and its system lets this process."""
    if sys.platform != "linux" or platform.machine() != "x86_64":
        return False
    if not (has_amx() and "avx512_bf16" in flags()):
        return False
    refused: int = ctypes.CDLL(None).syscall(_ARCH_PRCTL, _REQUEST, _TILE_DATA)
    return refused == 0
