"""Which engine runs a model on a device, and why.

torch is loaded where a GPU is asked for, or may be here: it takes longer to load than a short clip to restore, and a
CPU's own engines do without.
"""

import ctypes
import importlib.util
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from carfix.errors import MissingPartError, UsageError
from carfix.net.checkpoint import Model
from carfix.restore.engine import Engine
from carfix.restore.engine.choose import Choice, candidates, choose, loading, open_kind

if TYPE_CHECKING:
    import torch

PRECISIONS = ("auto", "fp32", "bf16", "fp16")
VULKAN, CPU = "vulkan", "cpu"
#: What no GPU that torch can use on Linux is without: NVIDIA's driver, or the device of AMD's.
_NVIDIA_DRIVER, _AMD_DEVICE = "libcuda.so.1", Path("/dev/kfd")


def accelerator_available() -> bool:
    """Whether `--device auto` finds a GPU."""
    if not _gpu_is_possible():
        return False
    import torch

    return torch.cuda.is_available() or torch.backends.mps.is_available()


def _gpu_is_possible() -> bool:
    """False where torch need not be asked."""
    if sys.platform != "linux" or _AMD_DEVICE.exists():
        return True
    try:
        ctypes.CDLL(_NVIDIA_DRIVER)
    except OSError:
        return False
    return True


def _on_cpu_device(device: str) -> bool:
    return device == CPU or (device == "auto" and not accelerator_available())


def select_engine(
    model: Model,
    *,
    device: str = "auto",
    precision: str = "auto",
    tile: int | None = None,
    batch: int | None = None,
    kind: str | None = None,
) -> Engine:
    """See `carfix.restore.engine.open_engine`."""
    _check_precision(precision)
    for option, value in (("--tile", tile), ("--batch", batch)):
        if value is not None and value < 1:
            raise UsageError(f"{option} must be positive, not {value}")
    if device == VULKAN:
        return _open_vulkan(model, precision, tile, batch)
    if not _on_cpu_device(device) and (place := _place(device)).type != CPU:
        from carfix.restore.engine.cuda_open import open_accelerator

        return open_accelerator(model, device=place, precision=precision, tile=tile, batch=batch)
    choice = Choice(kind) if kind else _on_cpu(model, precision)
    engine = open_kind(choice.kind, model, tile=tile, batch=batch)
    engine.description += choice.reason
    return engine


def check_device(device: str, precision: str) -> None:
    """Raises what `select_engine` would of these two for any network, without opening anything."""
    _check_precision(precision)
    if device == VULKAN:
        _check_vulkan(precision)
    elif _on_cpu_device(device) or _place(device).type == CPU:
        _check_cpu(precision)


def _check_precision(precision: str) -> None:
    if precision not in PRECISIONS:
        raise UsageError(f"--precision is one of {', '.join(PRECISIONS)}, not {precision!r}")


def kind_of_engine(model: Model, *, device: str, precision: str, kind: str | None = None) -> str:
    """What is taken for these options, on a CPU: the library and its precision; measured if `kind` is None.

    Raises as `select_engine` does.
    """
    if device == VULKAN or not (_on_cpu_device(device) or _place(device).type == CPU):
        return ""
    return kind or _on_cpu(model, precision).kind


def _on_cpu(model: Model, precision: str) -> Choice:
    _check_cpu(precision)
    return choose(model, precision)


def _check_cpu(precision: str) -> None:
    if precision == "fp16":
        raise UsageError("--precision fp16 needs a GPU; use fp32, or bf16 on a CPU with AMX")
    candidates(precision)


def _check_vulkan(precision: str) -> None:
    if precision == "bf16":
        raise UsageError("--device vulkan computes in fp32 or fp16, not bf16")
    if importlib.util.find_spec("ncnn") is None:
        raise MissingPartError("--device vulkan needs ncnn; install it with `pip install ncnn`")


def _open_vulkan(model: Model, precision: str, tile: int | None, batch: int | None) -> Engine:
    _check_vulkan(precision)
    with loading("ncnn"):
        from carfix.restore.engine.ncnn_engine import VulkanEngine

    # fp16 in storage and arithmetic loses more than a code in some networks: only if it is asked for.
    chosen = "fp32" if precision == "auto" else precision
    return VulkanEngine(model, precision=chosen, tile=tile, batch=batch)


def _place(device: str) -> "torch.device":
    import torch

    if device == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda")
        return torch.device("mps" if torch.backends.mps.is_available() else CPU)
    try:
        place = torch.device(device)
    except RuntimeError:
        raise UsageError(f"--device is auto, cpu, cuda, cuda:N, mps or vulkan, not {device!r}") from None
    if place.type not in (CPU, "cuda", "mps"):
        raise UsageError(f"--device is auto, cpu, cuda, cuda:N, mps or vulkan, not {device!r}")
    if place.type == "cuda" and not torch.cuda.is_available():
        raise MissingPartError(
            "no CUDA device can be used here; install a CUDA build of torch and NVIDIA's driver, or use --device cpu"
        )
    if place.type == "cuda" and (place.index or 0) >= torch.cuda.device_count():
        raise MissingPartError(
            f"there is no {device}; this machine has {torch.cuda.device_count()} CUDA devices"
        )
    if place.type == "mps" and not torch.backends.mps.is_available():
        raise MissingPartError("Apple's MPS cannot be used here; use --device cpu")
    return place
