"""Opening the engine of an accelerator: a precision that keeps the picture, and a plan for each frame size."""

import contextlib
import os
from pathlib import Path
from typing import Any

import torch

import carfix
from carfix.net.checkpoint import Model
from carfix.restore.engine.cuda_check import SAFER, safe_precision
from carfix.restore.engine.cuda_engine import CudaEngine
from carfix.restore.engine.cuda_program import Builder
from carfix.restore.engine.cuda_streams import queues_of
from carfix.restore.engine.cuda_tune import Tuner
from carfix.restore.engine.torch_engine import ACCELERATOR_BATCH
from carfix.restore.engine.tune_cache import TuneCache, cache_folder

#: The variable that names the folder of torch's compiler; what the user says there goes.
COMPILER_CACHE = "TORCHINDUCTOR_CACHE_DIR"


def open_accelerator(
    model: Model,
    *,
    device: torch.device,
    precision: str = "auto",
    tile: int | None = None,
    batch: int | None = None,
    cache: TuneCache | None = None,
    variants: tuple[str, ...] | None = None,
) -> CudaEngine:
    """The engine for `model` on a GPU; options as of `open_engine`, checked already.

    On CUDA the first frames of a size are preceded by timing: seconds, or a minute or two where the compiler takes
    part. Its outcome is kept in `cache` (None: the user's cache folder). `variants` restricts what is tried, for
    benchmarks. Raises `UsageError` if `tile` is too small for the network.
    """
    cache = cache if cache is not None else TuneCache(cache_folder())
    if device.type == "cuda":
        device = torch.device("cuda", torch.cuda.current_device() if device.index is None else device.index)
        _keep_compiled(cache_folder())
    queues = queues_of(device)
    wanted = "fp16" if precision == "auto" else precision
    identity = {**_machine(device), "carfix": carfix.__version__, "weights": _weights_of(model)}

    def builder(precision: str) -> Builder:
        return Builder(model.net, device=device, precision=precision, queues=queues)

    def read(value: Any) -> str:  # noqa: ANN401 - JSON
        if value not in SAFER[wanted]:
            raise ValueError(f"{value!r} is no precision to take for {wanted}")
        return str(value)

    chosen = cache.get_or_find({**identity, "wanted": wanted}, read, lambda: safe_precision(wanted, builder))
    of_chosen = builder(chosen)
    frames = batch or ACCELERATOR_BATCH
    tuner = Tuner(
        of_chosen,
        frames=frames,
        tile=tile,
        fixed=tile is not None or batch is not None,
        identity={**identity, "precision": chosen},
        cache=cache,
        variants=variants,
    )
    name = f" ({torch.cuda.get_device_name(device)})" if device.type == "cuda" else ""
    why = "" if chosen == wanted else f" because {wanted} changed a trial picture by more than one code"
    return CudaEngine(
        model,
        builder=of_chosen,
        planner=tuner,
        batch=frames,
        tile=tile,
        description=f"torch on {device}{name}, {chosen}{why}",
    )


def _machine(device: torch.device) -> dict[str, Any]:
    """What results and speeds depend on beside carfix itself."""
    found: dict[str, Any] = {"device": device.type, "torch": torch.__version__}
    if device.type == "cuda":
        properties = torch.cuda.get_device_properties(device)
        driver = getattr(torch._C, "_cuda_getDriverVersion", None)  # builds for AMD have none
        found |= {
            "gpu": properties.name,
            "memory": properties.total_memory,
            "cuda": torch.version.cuda,
            "cudnn": torch.backends.cudnn.version(),  # type: ignore[no-untyped-call] # torch's stubs
            "driver": driver() if driver is not None else None,
        }
    return found


def _keep_compiled(folder: Path | None) -> None:
    """Let torch's compiler keep its kernels where they outlive a reboot: others might round differently."""
    with contextlib.suppress(OSError):
        if folder is not None and COMPILER_CACHE not in os.environ:
            kernels = folder / "compiled"
            kernels.mkdir(parents=True, exist_ok=True)
            if os.access(kernels, os.W_OK):
                os.environ[COMPILER_CACHE] = str(kernels)


def _weights_of(model: Model) -> str:
    return model.sha256
