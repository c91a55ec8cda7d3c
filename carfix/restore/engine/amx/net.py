"""A network with its weights in pairs, and the memory that windows are computed in."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from carfix.net.checkpoint import Convolution, Model
from carfix.net.config import KERNEL, CarCnnConfig, Config
from carfix.restore.engine import Wanted
from carfix.restore.engine.amx.kernels import Layout
from carfix.restore.engine.amx.program import Shape, compiled
from carfix.restore.engine.amx.tiles import FLOATS, PAIRS, ROWS, TILE
from carfix.restore.engine.llvm.net import GROUP, CompiledNet, Memory, zeros
from carfix.restore.engine.llvm.schedule import KEPT_ROWS
from carfix.restore.engine.llvm.vectors import rounded_up
from carfix.restore.engine.planes import Floats

#: Cells of the widest block: rows of maps are whole blocks.
_WIDEST = 4 * ROWS
#: Units beyond a map's end that the last tile reads, times weights of zero.
_BEYOND = TILE


class AmxNet(CompiledNet):
    """A network as machine code for this CPU; raises `RuntimeError` or `OSError` where none can be made or run."""

    def __init__(self, model: Model) -> None:
        """Raises `ValueError`, too, for cells that tiles cannot be cut into."""
        self.shape = shape_of(model.config)
        self._code = compiled(self.shape)
        self._weights = packed(model.convolutions, self.shape)
        super().__init__(model.config, enter=self._code.common.enter, leave=self._code.common.leave)

    def memory(self, height: int, width: int) -> "Workspace":
        """See `CompiledNet.memory`."""
        return Workspace(self.shape, height, width)

    def compute(self, memory: "Workspace", wanted: Wanted | None = None) -> None:
        """See `CompiledNet.compute`."""
        self._code.cells(
            memory.inside.ctypes.data,
            memory.unit.ctypes.data,
            memory.rows,
            memory.columns,
            memory.cells.shape[1],
            memory.unit.shape[1],
        )
        self._code.begin(memory.tiles_before.ctypes.data)
        self._code.common.network(
            memory.residual.ctypes.data,
            memory.cells.ctypes.data,
            self._weights.ctypes.data,
            memory.map.ctypes.data,
            memory.kept.ctypes.data,
            memory.kept.ctypes.data,  # scratch, of which tiles need none
            memory.rows,
            memory.columns,
            memory.rows,
            memory.columns,
            memory.cells.shape[1],
            memory.map.shape[1],
            memory.residual.shape[1],
            GROUP,
        )
        self._code.end(memory.tiles_before.ctypes.data)


class Workspace(Memory):
    """Arrays for windows of one size, for one thread: cells and map with their rings of zeros, kept rows."""

    def __init__(self, shape: Shape, height: int, width: int) -> None:
        """Raises `MemoryError`."""
        scale = shape.scale
        self.rows, self.columns = height // scale, width // scale
        blocks = rounded_up(self.columns, _WIDEST)
        head, body, _ = shape.layouts
        self.unit = zeros(height, width)
        self.cells = _with_end(self.rows + 2, (blocks + 2) * head.units)
        self.inside = self.cells[1:, head.units :]
        self.map = _with_end(self.rows + 2, (blocks + 2) * body.units)
        # The first group of CAR-CNN has a layer more, and the last one; a group's own last one keeps nothing.
        self.kept = _with_end((GROUP + 1) * KEPT_ROWS, (blocks + 2) * body.units)
        self.tiles_before = zeros(TILE // ROWS)
        self.residual = zeros(self.rows * scale, blocks * scale)


def _with_end(rows: int, units: int) -> Floats:
    """Zeros of four bytes, two bf16; what lies behind them may be read."""
    return zeros(rows * units + _BEYOND)[: rows * units].reshape(rows, units)


def shape_of(config: Config) -> Shape:
    """What machine code such a network needs. Raises `ValueError` for cells that tiles cannot be cut into."""
    if FLOATS % config.scale:
        raise ValueError(f"cells of {config.scale}x{config.scale} pixels")
    return Shape(
        features=rounded_up(config.features, FLOATS),
        blocks=config.blocks,
        scale=config.scale,
        slope=config.negative_slope,
        inner=isinstance(config, CarCnnConfig),
    )


def packed(layers: Sequence[Convolution], shape: Shape) -> Floats:
    """Weights and biases of all layers, each where the machine code looks for it."""
    memory = zeros(shape.layers[-1].stop)
    head, body, tail = shape.layouts
    layouts = [head, *[body] * (len(layers) - 2), tail]
    for layer, layout, place in zip(layers, layouts, shape.layers, strict=True):
        weights = layer.weight
        if layout is head:
            weights = np.concatenate([weights, weights], axis=1)  # a pixel is the sum of two numbers
        biases = np.zeros(layout.groups * FLOATS, np.float32)
        biases[: len(weights)] = layer.bias
        tiles = weight_tiles(weights, layout)
        memory[place.start : place.biases].view(np.uint16)[:] = tiles.ravel()
        rows = np.repeat(biases.reshape(layout.groups, 1, FLOATS), ROWS, axis=1)
        memory[place.biases : place.stop] = rows.ravel()
    return memory


def weight_tiles(weights: NDArray[np.float32], layout: Layout) -> NDArray[np.uint16]:
    """`[outputs, inputs, 3, 3]` as tiles of bf16, in the order in which they are multiplied with.

    A tile is `[pair, output, 2]`: the k-th number of a row of cells meets the one of the pair k // 2.
    """
    outputs, inputs = weights.shape[:2]
    filled = np.zeros((layout.groups * FLOATS, 2 * layout.units, KERNEL, KERNEL), np.float32)
    filled[:outputs, :inputs] = weights
    wide = layout.grid[1]
    found = np.zeros((layout.groups // wide, len(layout.steps), wide, PAIRS, FLOATS, 2), np.float32)
    for index, step in enumerate(layout.steps):
        taps = np.zeros((layout.groups * FLOATS, 2 * PAIRS), np.float32)
        for n in range(layout.cells):
            if step.column + n >= KERNEL:
                continue
            part = filled[:, 2 * step.start : 2 * (step.start + PAIRS), step.row, step.column + n]
            taps[:, n * 2 * layout.units : n * 2 * layout.units + part.shape[1]] = part
        of_groups = taps.reshape(layout.groups // wide, wide, FLOATS, PAIRS, 2)
        found[:, index] = of_groups.transpose(0, 1, 3, 2, 4)
    return rounded(found)


def rounded(x: NDArray[np.float32]) -> NDArray[np.uint16]:
    """fp32 as the bits of bf16, to the nearest, halves to even."""
    bits = x.view(np.uint32)
    return ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype(np.uint16)
