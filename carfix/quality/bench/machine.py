"""What was measured on: a speed without its machine says nothing."""

import contextlib
import dataclasses
import importlib.metadata
import os
import platform

import av
import torch

from carfix import __version__
from carfix.cpu import cores, name
from carfix.restore.engine import uses_accelerator

#: Packages whose version changes the numbers.
PACKAGES = ("torch", "av", "llvmlite", "ncnn", "onnxruntime", "numpy")

#: Cores that others may keep busy before the numbers are worth a warning.
IDLE_LOAD = 0.5


@dataclasses.dataclass(frozen=True, kw_only=True)
class Machine:
    """CPU, GPU and versions."""

    cpu: str
    cores: int  # that this process may use
    gpu: str | None  # that `--device` takes
    system: str
    versions: dict[str, str]  # of the packages that are installed
    load: float | None  # cores that were busy, over the minute before; None where the system does not tell


def describe_machine(device: str) -> Machine:
    """This machine, as `device` (`auto`, `cpu`, `cuda:1`, ...) uses it."""
    versions = {"carfix": __version__, "python": platform.python_version()}
    for package in PACKAGES:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            versions[package] = importlib.metadata.version(package)
    versions["libavcodec"] = ".".join(str(part) for part in av.library_versions["libavcodec"])
    if torch.version.cuda:
        versions["cuda"] = torch.version.cuda
    return Machine(
        cpu=name(),
        cores=len(cores()),
        gpu=_gpu(torch_device(device)),
        system=f"{platform.system()} {platform.machine()}",
        versions=versions,
        load=os.getloadavg()[0] if hasattr(os, "getloadavg") else None,
    )


def torch_device(device: str) -> str | None:
    """What torch calls `device`; None if torch cannot compute there (`vulkan`)."""
    if not uses_accelerator(device):
        return "cpu"
    if device == "auto":
        return "cuda" if torch.cuda.is_available() else "mps"
    return device if device.split(":")[0] in ("cuda", "mps") else None


def _gpu(device: str | None) -> str | None:
    if device is not None and device.startswith("cuda"):
        return torch.cuda.get_device_name(device)
    return "Apple GPU (MPS)" if device == "mps" else None
