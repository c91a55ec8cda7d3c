"""What networks in machine code have in common: codes in, the network in between, codes out."""

import abc
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from carfix.net.config import CarCnnConfig, Config
from carfix.restore.engine import Planes, Wanted
from carfix.restore.engine.llvm.vectors import LINE
from carfix.restore.engine.planes import Floats, peak

#: Layers of a group, an even number: a block's. More keep more rows than stay in caches (`bench/winograd_parts.py`).
GROUP = 2
#: Functions of `carfix.restore.engine.llvm.codes`, by the bits of a code's integer.
CodeFunctions = Mapping[int, Callable[..., None]]


class Memory(abc.ABC):
    """What a thread computes windows of one size in."""

    unit: Floats  # the window in [-1, 1], `[H, W]`, a view maybe
    residual: Floats  # what the network adds to it; may be larger


class CompiledNet(abc.ABC):
    """A network as machine code, which any number of threads may call, each with memory of its own."""

    def __init__(self, config: Config, *, enter: CodeFunctions, leave: CodeFunctions) -> None:
        self._has_tanh = isinstance(config, CarCnnConfig)
        self._global_residual = config.global_residual
        self._enter, self._leave = enter, leave

    @abc.abstractmethod
    def memory(self, height: int, width: int) -> Any:  # noqa: ANN401 - a `Memory` of its own
        """What a thread needs for windows of this size. Raises `MemoryError`."""

    @abc.abstractmethod
    def compute(self, memory: Any, wanted: Wanted | None = None) -> None:  # noqa: ANN401 - its own
        """From `memory.unit` to `memory.residual`, without tanh; what is not `wanted` may come out as anything."""

    def instead(self, memory: Any) -> "CompiledNet | None":  # noqa: ANN401 - its own
        """What computes the window anew, where `compute` found numbers that it has no room for."""
        return None

    def restore(
        self,
        codes: Planes,
        bit_depth: int,
        share: float,
        kept: tuple[slice, slice],
        memory: Any,  # noqa: ANN401 - its own
        wanted: Wanted | None = None,
    ) -> Planes:
        """The `kept` part of a window `[H, W]` of codes, restored by `share`, in `memory` for such windows.

        Where only some pixels are `wanted`, the others may come out as anything.
        """
        assert codes.strides[1] == codes.itemsize
        bits = 8 * codes.itemsize
        height, width = codes.shape
        unit: Floats = memory.unit
        residual: Floats = memory.residual
        self._enter[bits](
            unit.ctypes.data,
            codes.ctypes.data,
            height,
            width,
            unit.strides[0] // unit.itemsize,
            codes.strides[0] // codes.itemsize,
            2.0 / peak(bit_depth),
        )
        self.compute(memory, wanted)
        if (exact := self.instead(memory)) is not None:
            return exact.restore(codes, bit_depth, share, kept, exact.memory(height, width), wanted)
        residual = residual[:height, :width]
        if self._has_tanh:
            np.tanh(residual, out=residual)
        if not self._global_residual:
            residual -= unit  # what is left to be added, of a network that predicts the picture
        unit, residual = unit[kept], residual[kept]
        result: Planes = np.empty(unit.shape, codes.dtype)
        self._leave[bits](
            result.ctypes.data,
            unit.ctypes.data,
            residual.ctypes.data,
            *result.shape,
            result.shape[1],
            unit.strides[0] // unit.itemsize,
            residual.strides[0] // residual.itemsize,
            share,
            peak(bit_depth) / 2.0,
        )
        return result


def zeros(*shape: int) -> Floats:
    """An array that begins with a cache line. Raises `MemoryError`."""
    size = int(np.prod(shape))
    memory = np.zeros(size + LINE, np.float32)
    start = -memory.ctypes.data // memory.itemsize % LINE
    return memory[start : start + size].reshape(shape)
