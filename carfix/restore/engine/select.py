"""Which engine runs a model on a device, and why."""

import importlib.util

import torch

from carfix.errors import MissingPartError, UsageError
from carfix.net.checkpoint import Model
from carfix.restore.engine import Engine
from carfix.restore.engine.choose import Choice, choose, open_kind
from carfix.restore.engine.torch_engine import DTYPES

PRECISIONS = ("auto", *DTYPES)
VULKAN = "vulkan"


def accelerator_available() -> bool:
    """Whether `--device auto` finds a GPU."""
    return torch.cuda.is_available() or torch.backends.mps.is_available()


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
    if precision not in PRECISIONS:
        raise UsageError(f"--precision is one of {', '.join(PRECISIONS)}, not {precision!r}")
    for option, value in (("--tile", tile), ("--batch", batch)):
        if value is not None and value < 1:
            raise UsageError(f"{option} must be positive, not {value}")
    if device == VULKAN:
        return _open_vulkan(model, precision, tile, batch)
    place = _place(device)
    if place.type != "cpu":
        from carfix.restore.engine.cuda_open import open_accelerator

        return open_accelerator(model, device=place, precision=precision, tile=tile, batch=batch)
    choice = Choice(kind) if kind else _on_cpu(model, precision)
    engine = open_kind(choice.kind, model, tile=tile, batch=batch)
    engine.description += choice.reason
    return engine


def kind_of_engine(model: Model, *, device: str, precision: str, kind: str | None = None) -> str:
    """What is taken for these options, on a CPU: the library and its precision; measured if `kind` is None.

    Raises as `select_engine` does.
    """
    if device == VULKAN or _place(device).type != "cpu":
        return ""
    return kind or _on_cpu(model, precision).kind


def _on_cpu(model: Model, precision: str) -> Choice:
    if precision == "fp16":
        raise UsageError("--precision fp16 needs a GPU; use fp32, or bf16 on a CPU with AMX")
    return choose(model, precision)


def _open_vulkan(model: Model, precision: str, tile: int | None, batch: int | None) -> Engine:
    if precision == "bf16":
        raise UsageError("--device vulkan computes in fp32 or fp16, not bf16")
    if importlib.util.find_spec("ncnn") is None:
        raise MissingPartError("--device vulkan needs ncnn; install it with `pip install ncnn`")
    from carfix.restore.engine.ncnn_engine import VulkanEngine

    # fp16 in storage and arithmetic loses more than a code in some networks: only if it is asked for.
    chosen = "fp32" if precision == "auto" else precision
    return VulkanEngine(model, precision=chosen, tile=tile, batch=batch)


def _place(device: str) -> torch.device:
    if device == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda")
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    try:
        place = torch.device(device)
    except RuntimeError:
        raise UsageError(f"--device is auto, cpu, cuda, cuda:N, mps or vulkan, not {device!r}") from None
    if place.type not in ("cpu", "cuda", "mps"):
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
