"""What this machine's CPU is and can, as far as the system tells without torch, which takes a second to load."""

import contextlib
import ctypes
import functools
import math
import mmap
import os
import platform
import subprocess
import sys
from pathlib import Path

#: What Linux calls the permission to use tiles: each process asks for it, since tiles make threads' states larger.
_ARCH_PRCTL, _REQUEST, _TILE_DATA = 158, 0x1023, 18
#: Where Linux keeps what it knows of each processor.
_PROCESSORS = Path("/sys/devices/system/cpu")
#: Where Linux keeps the limits of groups of processes, and to which of them this process belongs.
_GROUPS, _OWN_GROUPS = Path("/sys/fs/cgroup"), Path("/proc/self/cgroup")
#: Files of a group that tell how many microseconds of all processors it gets in a period, and the period, which one
#: file of the second version holds together.
_QUOTAS = (("cpu.max",), ("cpu.cfs_quota_us", "cpu.cfs_period_us"))
#: How a user bounds the threads of numerical libraries; the first that is set counts, as for torch.
_THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS")


def cores() -> list[int]:
    """The processors that this process may use: containers and `taskset` give fewer than the machine has.

    Where a container is given their time (`docker run --cpus 2`, a limit of Kubernetes), it is as many as that is of.
    """
    processors = _processors()
    return processors[: math.ceil(min(_granted(), len(processors)))]


def _processors() -> list[int]:
    if hasattr(os, "sched_getaffinity"):
        return sorted(os.sched_getaffinity(0))
    return list(range(os.cpu_count() or 1))


def _granted(groups: Path = _GROUPS, own: Path = _OWN_GROUPS) -> float:
    """How many processors' time the groups of this process get: more threads than that would be halted in turn."""
    try:
        lines = own.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return math.inf
    granted = math.inf
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers and "cpu" not in controllers.split(","):
            continue
        # In a container the group's own folder may be out of sight, and its limits lie at the top.
        folder = groups / controllers / path.strip("/")
        above = (each for each in (folder, *folder.parents) if each.is_relative_to(groups))
        granted = min(granted, *map(_quota, above))
    return granted


def _quota(group: Path) -> float:
    for names in _QUOTAS:
        with contextlib.suppress(OSError, ValueError):
            told = " ".join((group / name).read_text(encoding="ascii") for name in names)
            quota, period = map(int, told.split())  # "max" is none
            if quota > 0 and period > 0:
                return quota / period
    return math.inf


def available_threads() -> int:
    """Threads that compute at once: as many as torch would use, and no more than this process has cores.

    torch takes a thread a physical core, and heeds `OMP_NUM_THREADS` and, once it is loaded, `torch.set_num_threads`.
    """
    if "torch" in sys.modules or sys.platform == "win32":
        import torch

        most = torch.get_num_threads()
    else:
        most = _asked_for() or _physical(_processors())
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


@functools.cache
def runs_made_code() -> bool:
    """Whether the system lets this process run machine code that it has made itself.

    systemd's `MemoryDenyWriteExecute=`, SELinux and the like refuse memory for it, to LLVM and oneDNN alike.
    """
    if sys.platform != "linux":
        return True
    prot = mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC
    try:
        mmap.mmap(-1, mmap.PAGESIZE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS, prot=prot).close()
    except PermissionError:
        return False
    return True
