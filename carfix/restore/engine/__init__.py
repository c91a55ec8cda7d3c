"""Engines: planes in, planes out. One small protocol, so that the pipeline need not know what computes."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:  # what is wrong with a command or its files is said before torch is loaded
    from carfix.net.checkpoint import Model

#: Luma codes: uint8 for 8-bit video, uint16 (low bits used) for 9 to 16 bit.
Planes = NDArray[np.uint8] | NDArray[np.uint16]
#: What share of the network's correction each plane takes, `[N]`; see `carfix.restore.strength`.
Strengths = NDArray[np.float32]
#: 1 where a pixel of a plane is wanted, else 0, `[H, W]`.
Wanted = NDArray[np.uint8]
#: What is wanted of each plane of a batch; None is all of it.
WantedParts = Sequence[Wanted | None]


class Engine(Protocol):
    """Restores luma planes with one model on one device."""

    #: For the log, e.g. "ncnn on cpu, 2 threads, fp32, windows 256x256".
    description: str
    model: "Model"
    #: Number of frames that the engine likes to get at once.
    batch: int

    def restore(self, planes: Planes, bit_depth: int, strengths: Strengths | None = None) -> Planes:
        """`[N, H, W]` codes of `bit_depth` bits to restored codes of the same shape and type.

        Where `strengths` are given, each plane is moved so far from its codes towards the network's; None is 1.
        Out of memory is handled inside (smaller windows, the same frames again); raises `CarfixError` below the
        smallest window.
        """
        ...

    def close(self) -> None:
        """Release the device's memory; the engine is not used again."""
        ...


def uses_accelerator(device: str) -> bool:
    """Whether `device` means a GPU here: what decides which network `auto` is."""
    if device != "auto":
        return device != "cpu"
    from carfix.restore.engine.select import accelerator_available  # imports torch

    return accelerator_available()


def open_engine(
    model: "Model",
    *,
    device: str = "auto",
    precision: str = "auto",
    tile: int | None = None,
    batch: int | None = None,
    kind: str | None = None,
    ensemble: int = 1,
) -> Engine:
    """The best engine for `model` on `device` (`auto`, `cpu`, `cuda[:N]`, `mps`, `vulkan`).

    `precision` is `auto`, `fp32`, `bf16` or `fp16`; `tile` the side of a window in pixels (None: the engine's
    choice); `kind` an engine that `kind_of_engine` has named; `ensemble` in how many orientations, 1, 2 or 4, the
    network sees each picture. Raises `UsageError` for values that cannot be right, `MissingPartError` for a device that
    is not there.
    """
    # torch is imported only when something is computed.
    from carfix.restore.engine.ensemble import check_ensemble, in_orientations
    from carfix.restore.engine.select import select_engine

    check_ensemble(ensemble)
    engine = select_engine(model, device=device, precision=precision, tile=tile, batch=batch, kind=kind)
    return in_orientations(engine, ensemble)


def check_device(device: str, precision: str) -> None:
    """Raises what `open_engine` would of these two for any network: `UsageError`, `MissingPartError`."""
    from carfix.restore.engine.select import check_device

    check_device(device, precision)


def kind_of_engine(
    model: "Model", *, device: str = "auto", precision: str = "auto", kind: str | None = None
) -> str:
    """What `open_engine` takes for these options, by measurement if not given; empty where there is no choice.

    Engines round differently: results of one are not continued with another. Raises as `open_engine` does.
    """
    from carfix.restore.engine.select import kind_of_engine

    return kind_of_engine(model, device=device, precision=precision, kind=kind)
