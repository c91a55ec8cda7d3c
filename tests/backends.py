"""The real engines over a model, each as small tests want it, and noise to restore."""

from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch

from carfix.cpu import has_tiles
from carfix.errors import MissingPartError
from carfix.net.checkpoint import Model
from carfix.net.config import CarCnnConfig, FastConfig
from carfix.restore.engine import Planes, open_engine, planes
from carfix.restore.engine.autotune import Plan
from carfix.restore.engine.choose import WINOGRAD_FP32, WINOGRAD_INT16, can_bf16, open_kind
from carfix.restore.engine.cuda_engine import CudaEngine
from carfix.restore.engine.cuda_program import EAGER, Builder
from carfix.restore.engine.cuda_streams import DOWNLOAD, InOrder, Mark, Queues
from carfix.restore.engine.fused import is_fusable
from carfix.restore.engine.fused_engine import FusedEngine
from carfix.restore.engine.ncnn_engine import NcnnEngine
from carfix.restore.engine.planes import WindowedEngine
from carfix.restore.engine.torch_engine import TorchEngine

if TYPE_CHECKING:  # llvmlite has no wheels for some machines
    from carfix.restore.engine.llvm.net import CompiledNet

CPU = torch.device("cpu")
CAR_CNN = CarCnnConfig(features=8, blocks=2)
FAST = FastConfig(scale=4, features=8, blocks=1)

#: Machine code in tiles runs on no other CPU, whose instructions it consists of; that it can be made, and what its
#: tiles add up to, is tested everywhere.
on_amx = pytest.mark.skipif(not has_tiles(), reason="needs a CPU with AMX, and Linux")


def picture(height: int, width: int, bits: int = 8, count: int = 1) -> Planes:
    """Noise, `[N, H, W]`."""
    rng = np.random.default_rng(height * width + count)
    codes = rng.integers(0, 2**bits, (count, height, width))
    return codes.astype(np.uint8 if bits == 8 else np.uint16)


def restored(net: "CompiledNet", codes: np.ndarray, bits: int = 16) -> np.ndarray:
    """A window of codes `[H, W]` whole, in memory of its own."""
    return net.restore(codes, bits, 1.0, (slice(None), slice(None)), net.memory(*codes.shape))


def exact(model: Model, codes: np.ndarray, bits: int = 16) -> np.ndarray:
    """The network on a window `[H, W]` in float64, in codes, not rounded."""
    x = torch.from_numpy(codes.astype(np.float64))[None, None] * (2 / planes.peak(bits)) - 1
    y: np.ndarray = model.net.double()(x)[0, 0].numpy()
    model.net.float()
    return (y + 1) * (planes.peak(bits) / 2)


def torch_engine(model: Model, tile: int | None) -> WindowedEngine:
    return TorchEngine(model, device=CPU, precision="fp32", tile=tile, batch=None)


def ncnn_engine(model: Model, tile: int | None) -> WindowedEngine:
    return NcnnEngine(model, tile=tile, threads=1)


def fused_engine(
    model: Model, tile: int | None, *, threads: int = 3, batch: int | None = None
) -> FusedEngine:
    if not is_fusable():
        pytest.skip("this torch has no oneDNN")
    return FusedEngine(model, precision="fp32", tile=tile, batch=batch, threads=threads)


def winograd_engine(model: Model, tile: int | None) -> WindowedEngine:
    pytest.importorskip("llvmlite", reason="llvmlite has no wheels for this machine")
    engine = open_kind(WINOGRAD_FP32, model, tile=tile)
    assert isinstance(engine, WindowedEngine)
    return engine


def needs_integers() -> None:
    """Products of 16-bit integers are instructions of x86, in vectors of eight sums or more."""
    pytest.importorskip("llvmlite", reason="llvmlite has no wheels for this machine")
    from carfix.restore.engine.llvm.linking import host_features
    from carfix.restore.engine.winograd.net import multiplies_integers

    if not multiplies_integers(host_features()):
        pytest.skip("needs a CPU with AVX2 and F16C")


def integer_engine(model: Model, tile: int | None) -> WindowedEngine:
    """Its codes are not fp32's, but near."""
    needs_integers()
    engine = open_kind(WINOGRAD_INT16, model, tile=tile)
    assert isinstance(engine, WindowedEngine)
    return engine


def needs_bf16() -> None:
    if not can_bf16():
        pytest.skip("this CPU does not compute in bf16")


def vulkan_engine(model: Model, tile: int | None) -> WindowedEngine:
    try:
        engine = open_engine(model, device="vulkan", precision="fp32", tile=tile)
    except MissingPartError as error:
        pytest.skip(str(error))
    assert isinstance(engine, WindowedEngine)
    return engine


def cuda_engine(
    model: Model,
    tile: int | None = None,
    *,
    windows: int = 3,
    precision: str = "fp32",
    queues: Queues | None = None,
    builder: type[Builder] = Builder,
    variant: str = EAGER,
) -> CudaEngine:
    """The GPU's, on a CPU: no streams, no graphs. `tile` None: whole frames."""
    return CudaEngine(
        model,
        builder=builder(model.net, device=CPU, precision=precision, queues=queues or InOrder(CPU)),
        planner=lambda height, width: Plan(tile or 4096, windows, variant),
        batch=2,
        tile=None,
        description="tested",
    )


def expected_of(model: Model, codes: Planes, bits: int = 8, tile: int = 4096) -> Planes:
    return torch_engine(model, tile).restore(codes, bits)


class Late(InOrder):
    """Copies arrive only when they are waited for: until then, host memory holds rubbish."""

    def __init__(self) -> None:
        super().__init__(CPU)
        self.buffers: list[torch.Tensor] = []
        self.on_the_way: set[int] = set()
        self.waits = 0

    def host_buffer(self, shape: tuple[int, ...], dtype: torch.dtype) -> torch.Tensor:
        self.buffers.append(super().host_buffer(shape, dtype))
        return self.buffers[-1]

    def mark(self, queue: str) -> Mark:
        if queue != DOWNLOAD:
            return super().mark(queue)
        filled = {n: b.clone() for n, b in enumerate(self.buffers) if n not in self.on_the_way}
        for n in filled:
            self.buffers[n].fill_(77)
        self.on_the_way |= filled.keys()
        return Arriving(self, filled)


class Arriving:
    def __init__(self, queues: Late, filled: dict[int, torch.Tensor]) -> None:
        self._queues, self._filled = queues, filled

    def synchronize(self) -> None:
        self._queues.waits += 1
        for n, contents in self._filled.items():
            self._queues.buffers[n].copy_(contents)
            self._queues.on_the_way.discard(n)
