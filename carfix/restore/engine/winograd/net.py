"""A network with its weights transformed, and the memory that windows are computed in."""

import threading

import numpy as np
from numpy.typing import NDArray

from carfix.net.checkpoint import Model
from carfix.net.config import KERNEL, CarCnnConfig, Config
from carfix.restore.engine import Wanted
from carfix.restore.engine.llvm.integers import narrowed_order
from carfix.restore.engine.llvm.linking import host_features
from carfix.restore.engine.llvm.net import GROUP, CompiledNet, Memory, zeros
from carfix.restore.engine.llvm.schedule import KEPT_ROWS
from carfix.restore.engine.llvm.vectors import rounded_up
from carfix.restore.engine.planes import Floats
from carfix.restore.engine.winograd.demand import TILE, WIDTHS, Demand, demand, everything
from carfix.restore.engine.winograd.products import Blocking
from carfix.restore.engine.winograd.program import Shape, compiled
from carfix.restore.engine.winograd.scales import LARGEST, integer_weights, ranges
from carfix.restore.engine.winograd.transforms import F4, F4_BALANCED

#: Channels that are made integers at once, at least.
SHORTS = 16
#: Tiles that are transformed and multiplied together: 12 to 72 were equally fast.
_BLOCK = 24
#: Of all tiles, so many are computed as quickly all: whole rows are read as they lie in memory.
_NEARLY_ALL = 0.9
#: Pixels from a wanted one beyond which cells are left out where products are integers, as if there were nothing. With
#: what integers make of that, one or two of 100 codes change, by one (`bench/moving_parts.py`): as many as integers do.
_REACH = 24


class WinogradNet(CompiledNet):
    """A network as machine code for this CPU; raises `RuntimeError` or `OSError` where none can be made or run."""

    def __init__(self, model: Model, *, integers: bool = False) -> None:
        """With `integers`, products are those of 16 bits; `ValueError` says that the CPU has no such instructions."""
        self.shape = shape_of(model.config, integers=integers)
        self._code = compiled(self.shape)
        self._weights = packed(model, self.shape)
        self._model = model
        self._exact: WinogradNet | None = None
        self._making = threading.Lock()
        super().__init__(model.config, enter=self._code.enter, leave=self._code.leave)

    def memory(self, height: int, width: int) -> "Workspace":
        """See `CompiledNet.memory`."""
        return Workspace(self.shape, height, width)

    def instead(self, memory: "Workspace") -> "WinogradNet | None":
        """In fp32, where an integer was cut down: see `carfix.restore.engine.winograd.scales`."""
        if not self.shape.integers or not memory.was_cut():
            return None
        with self._making:
            self._exact = self._exact or WinogradNet(self._model)
        return self._exact

    def demand(self, memory: "Workspace", wanted: Wanted | None) -> Demand:
        """Which tiles are computed for the pixels that are `wanted`."""
        scale = self.shape.scale
        if wanted is None or self.shape.transform.outputs != TILE or scale not in WIDTHS:
            return memory.everything
        reach = _REACH // scale if self.shape.integers else None
        some = demand(wanted, layers=len(self.shape.layers), scale=scale, reach=reach)
        return some if some.share < _NEARLY_ALL else memory.everything

    def compute(self, memory: "Workspace", wanted: Wanted | None = None) -> None:
        """See `CompiledNet.compute`."""
        of = self.demand(memory, wanted)
        self._code.network(
            memory.residual.ctypes.data,
            memory.plane.ctypes.data,
            self._weights.ctypes.data,
            memory.map.ctypes.data,
            memory.kept.ctypes.data,
            memory.scratch.ctypes.data,
            memory.rows,
            memory.columns,
            memory.down,
            memory.across,
            memory.plane.shape[1],
            memory.map.strides[0] // memory.map.itemsize,
            memory.residual.shape[1],
            GROUP,
            of.table.ctypes.data,
            of.columns.ctypes.data,
        )


class Workspace(Memory):
    """Arrays for windows of one size, for one thread: planes and map with their rings of zeros, kept rows, scratch."""

    def __init__(self, shape: Shape, height: int, width: int) -> None:
        """Raises `MemoryError`."""
        scale, step = shape.scale, shape.transform.outputs
        self.rows, self.columns = height // scale, width // scale
        self.down, self.across = -(-self.rows // step), -(-self.columns // step)
        # A tile reaches a cell beyond what it gives on either side: into the ring.
        rows, columns = (count * step + KERNEL - 1 for count in (self.down, self.across))
        self.plane = zeros(rows * scale, columns * scale)
        self.unit = self.plane[scale : scale + height, scale : scale + width]
        self.map = zeros(rows, columns, shape.units)
        row_of_tiles = step * columns * shape.units
        # The first group of CAR-CNN has a layer more, and the last one; a group's own last one keeps nothing.
        self.kept = zeros((GROUP + 1) * KEPT_ROWS, row_of_tiles)
        self.residual = zeros(self.down * step * scale, self.across * step * scale)
        self.scratch = zeros(shape.scratch)
        self.everything = everything(len(shape.layers), self.down, self.across)
        self._extremes = self.scratch[: 2 * shape.blocking.lanes].view(np.int16)

    def was_cut(self) -> bool:
        """Whether an integer was at an end of its range since this was last asked."""
        found = self._extremes.min() == -LARGEST - 1 or self._extremes.max() == LARGEST
        self._extremes[:] = 0
        return bool(found)


def shape_of(config: Config, *, integers: bool = False) -> Shape:
    """What machine code such a network needs on this CPU. Raises `ValueError` where it has no such instructions."""
    names = host_features()
    if integers and not multiplies_integers(names):
        raise ValueError("this CPU has no instructions for products of 16-bit integers in vectors")
    unit = SHORTS if integers else 1
    blocking = blocking_for(rounded_up(config.features, unit), names, vectors=2 if integers else 1)
    return Shape(
        features=rounded_up(config.features, max(unit, blocking.lanes)),
        blocks=config.blocks,
        scale=config.scale,
        slope=config.negative_slope,
        inner=isinstance(config, CarCnnConfig),
        transform=F4_BALANCED if integers else F4,
        blocking=blocking,
        integers=integers,
    )


def multiplies_integers(names: frozenset[str]) -> bool:
    """Whether a CPU with what is named has instructions for `IntegerProducts`, in vectors of eight sums, and for fp16.

    (Without those, LLVM would call functions for fp16 that this process does not have.)
    """
    return {"avx2", "f16c"} <= names


def blocking_for(features: int, names: frozenset[str], *, vectors: int = 1) -> Blocking:
    """How a CPU with what is named computes so many channels: in the widest vectors that they fill, so many at once."""
    if "avx512f" in names:
        widest, registers = 16, 32
    elif "avx" in names:
        widest, registers = 8, 16
    else:
        widest, registers = 4, 32 if "neon" in names else 16
    if vectors > 1 and "avx512bw" not in names:
        widest = min(widest, 8)
    lanes = next((n for n in (16, 8, 4) if n <= widest and features % (vectors * n) == 0), widest)
    fused = "avxvnni" in names or {"avx512vnni", "avx512vl"} <= names
    return Blocking(lanes=lanes, registers=registers, block=_BLOCK, fused=fused)


def packed(model: Model, shape: Shape) -> Floats:
    """Weights, biases, factors and scales of all layers, each where the machine code looks for it."""
    memory = zeros(shape.layers[-1].stop)
    largest = ranges(model, shape.transform) if shape.integers else []
    for number, (layer, place) in enumerate(zip(model.convolutions, shape.layers, strict=True)):
        weights = layer.weight
        outputs = weights.shape[0]
        if number == 0:
            # Behind PixelUnshuffle, [K, dy dx, ty, tx], to a convolution of the plane, [ty dy, tx dx, K].
            cell = weights.reshape(outputs, shape.scale, shape.scale, KERNEL, KERNEL)
            matrices = cell.transpose(3, 1, 4, 2, 0).reshape(place.matrices, 1, outputs)
        else:
            matrices = shape.transform.weights(weights)
        # Zeros for channels that fill a vector up.
        filled = np.zeros((place.matrices, place.inputs, place.outputs), np.float32)
        filled[:, : matrices.shape[1], :outputs] = matrices
        if number > 0 and shape.integers:
            pad = place.inputs - weights.shape[1]
            of_inputs = np.pad(largest[number - 1], ((0, 0), (0, pad)), constant_values=1.0)
            integers, scales, factors = integer_weights(filled, of_inputs)
            pairs = np.ascontiguousarray(in_pairs(integers, shape.blocking.lanes)).view(np.float32)
            memory[place.start : place.start + pairs.size] = pairs.ravel()
            memory[place.factors : place.factors + factors.size] = factors
            memory[place.scales : place.scales + scales.size] = scales.ravel()
        else:
            memory[place.start : place.start + filled.size] = filled.ravel()
        memory[place.biases : place.biases + outputs] = layer.bias
    return memory


def in_pairs(integers: NDArray[np.int16], lanes: int) -> NDArray[np.int16]:
    """Weights `[products, inputs, outputs]` as the machine code reads them, `[products, inputs / 2, outputs, 2]`."""
    products, inputs, outputs = integers.shape
    order = np.array(narrowed_order(lanes))
    ordered = integers.reshape(products, -1, len(order), outputs)[:, :, order]
    return ordered.reshape(products, inputs // 2, 2, outputs).transpose(0, 1, 3, 2)
