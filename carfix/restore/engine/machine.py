"""What a timing depends on besides what was timed: the machine's CPU and the versions of what computes."""

import contextlib
import importlib.metadata
import os
from typing import Any

import carfix
from carfix import cpu

#: Instructions by which machines of one name may differ: what a virtual machine passes on is its owner's choice.
_TELLING = frozenset(("fma", "avx2", "avx512f", "avx512_bf16", "amx_bf16"))


def facts() -> dict[str, Any]:
    """For the key of a `TuneCache`."""
    return {
        "cpu": [cpu.name(), *sorted(cpu.flags() & _TELLING), os.environ.get("ATEN_CPU_CAPABILITY", "")],
        "threads": cpu.available_threads(),
        "versions": [carfix.__version__, version_of("torch")],
    }


def version_of(package: str) -> str:
    """Empty where nobody wrote it down beside the package: what was built by hand, or frozen into a program."""
    with contextlib.suppress(importlib.metadata.PackageNotFoundError):
        return importlib.metadata.version(package)
    return ""
