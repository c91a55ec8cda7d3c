"""Layers in AMX instructions: direct 3x3 convolutions of rows of cells, without any copy of their input.

Maps are `[rows, columns, channels]` bf16 with a ring of zeros. Sixteen neighbouring cells are the rows of a tile,
which is read from the map as it lies, for each of the nine taps at another address: a row of a tile is 32 channels of
a cell, or several cells where they have fewer. Addresses count units of four bytes, a pair of channels.
"""

import abc
import dataclasses
from collections.abc import Callable

from llvmlite import ir

from carfix.net.config import KERNEL
from carfix.restore.engine.amx.tiles import (
    FLOATS,
    PAIRS,
    ROW_BYTES,
    ROWS,
    TILE,
    Tiles,
    load_wide,
    narrow,
)
from carfix.restore.engine.llvm.vectors import (
    FLOAT,
    INDEX,
    POINTER,
    Code,
    Value,
    Vectors,
    at,
    loop,
    number,
    rounded_up,
)

#: Tiles of sums at once; the other four hold factors.
_SUMS = 4
UNIT_BYTES = 4


@dataclasses.dataclass(frozen=True)
class Step:
    """A product of a convolution: the part of three rows of cells that one tile holds."""

    row: int  # above 0, here 1, below 2
    column: int  # of the first of its cells
    start: int  # unit within that cell


@dataclasses.dataclass(frozen=True)
class Layout:
    """How a convolution of cells of so many channels is cut into products."""

    units: int  # of a cell: pairs of channels
    outputs: int

    @property
    def groups(self) -> int:
        """Of sixteen outputs."""
        return rounded_up(self.outputs, FLOATS) // FLOATS

    @property
    def grid(self) -> tuple[int, int]:
        """Tiles of sums at once: of cells, and of outputs."""
        outputs = 2 if self.groups % 2 == 0 else 1
        return _SUMS // outputs, outputs

    @property
    def cells(self) -> int:
        """That a tile's row holds: several, where they are small."""
        return max(1, PAIRS // self.units)

    @property
    def steps(self) -> list[Step]:
        """In the order of their weights."""
        parts = range(0, self.units, PAIRS) if self.cells == 1 else (0,)
        return [
            Step(row, column, start)
            for row in range(KERNEL)
            for column in range(0, KERNEL, self.cells)
            for start in parts
        ]


class Convolution(abc.ABC):
    """A row of a 3x3 convolution, written as a function that `carfix.restore.engine.llvm.schedule` calls.

    Its arguments: the row's first cell in the result; the rows of the source above, here and below, each from the
    ring's cell on; the first cell of what is added; weights, biases; units from row to row of the result (tail); cells
    across. What that schedule passes besides, for other convolutions, is not used.
    """

    def __init__(self, module: ir.Module, name: str, *, layout: Layout) -> None:
        self.layout = layout
        self.tiles, self.vectors = Tiles(module), Vectors(module, FLOATS)
        self.function = ir.Function(module, ir.FunctionType(ir.VoidType(), [POINTER] * 8 + [INDEX] * 5), name)
        self.function.linkage = "internal"
        self.target, *rest = self.function.args[:7]
        *self.rows, self.added, self.weights, self.biases = rest
        self.target_row, _, self.width = self.function.args[10:]
        self.code: Code = ir.IRBuilder(self.function.append_basic_block())
        block = layout.grid[0] * ROWS
        self.across = self.code.sdiv(self.code.add(self.width, number(block - 1)), number(block))
        self.sums = _scratch(self.code)

    def write(self) -> None:
        """Write the function."""
        self._row()
        self._finish()
        self.code.ret_void()

    def _row(self) -> None:
        code, layout = self.code, self.layout
        tall, wide = layout.grid
        steps, cells = len(layout.steps), tall * ROWS
        # The weights of a pair of groups stay in the first-level cache while all cells pass.
        with loop(code, 0, layout.groups, wide) as group:
            weights = at(code, self.weights, (group, steps * TILE))
            biases = at(code, self.biases, (group, TILE))

            def products(first: Value, between: Callable[[int], None] = lambda step: None) -> None:
                places = [at(code, row, (first, layout.units)) for row in self.rows]
                multiply(code, self.tiles, layout, places, weights, biases, between)
                for tile in range(_SUMS):
                    self.tiles.store(code, tile, at(code, self.sums, tile * TILE), ROW_BYTES)

            products(number(0))
            # Tiles are multiplied beside everything else: sums of a block are finished between products of the next.
            with loop(code, 1, self.across) as block:
                first = code.mul(block, number(cells))
                finished = self._places(code.sub(first, number(cells)), group)

                def some(step: int) -> None:
                    for cell in range(cells * step // steps, cells * (step + 1) // steps):
                        self._finish_cell(finished, cell // ROWS, cell % ROWS)

                products(first, some)
            last = self._places(code.mul(code.sub(self.across, number(1)), number(cells)), group)
            with loop(code, 0, ROWS) as row:
                for part in range(tall):
                    self._finish_cell(last, part, row)

    def _finish_cell(self, places: list[Value], part: int, row: Value) -> None:
        code, wide = self.code, self.layout.grid[1]
        values = [
            self.vectors.load(code, at(code, self.sums, (part * wide + n) * TILE, (row, FLOATS)))
            for n in range(wide)
        ]
        self._cell_out(places, code.add(number(row), number(part * ROWS)), values)

    @abc.abstractmethod
    def _places(self, first: Value, group: Value) -> list[Value]:
        """Where outputs from group `group` on of a block belong, and what they need, by its first cell."""

    @abc.abstractmethod
    def _cell_out(self, places: list[Value], cell: Value, values: list[Value]) -> None:
        """A cell's outputs, to where they belong."""

    def _finish(self) -> None:  # noqa: B027 - most have nothing left to do
        """What is done once all cells are out."""


def _scratch(code: Code) -> Value:
    memory = code.alloca(ir.ArrayType(FLOAT, _SUMS * TILE))
    memory.align = ROW_BYTES
    return memory


def multiply(
    code: Code,
    tiles: Tiles,
    layout: Layout,
    rows: list[Value],
    weights: Value,
    biases: Value,
    between: Callable[[int], None],
) -> None:
    """Sums of a block into tiles 0 to 3: cells by outputs. `rows` begin at the left neighbour of its first cell.

    `between` adds code behind each of the steps.
    """
    tall, wide = layout.grid
    stride = layout.units * UNIT_BYTES
    for tile in range(_SUMS):
        tiles.load(code, tile, at(code, biases, tile % wide * TILE), ROW_BYTES)
    for number_, step in enumerate(layout.steps):
        place = at(code, rows[step.row], step.column * layout.units + step.start)
        for n in range(wide):
            tiles.load(code, 7 - n, at(code, weights, (number_ * wide + n) * TILE), ROW_BYTES)
        for part in range(tall):
            factor = 4 + part % 2
            tiles.load(code, factor, at(code, place, part * ROWS * layout.units), stride)
            for n in range(wide):
                tiles.multiply_add(code, part * wide + n, factor, 7 - n)
        between(number_)


class Body(Convolution):
    """With LeakyReLU behind it, and what is given to be added, if `residual`."""

    def __init__(self, module: ir.Module, name: str, *, layout: Layout, slope: float, residual: bool) -> None:
        super().__init__(module, name, layout=layout)
        self._slope, self._residual = slope, residual

    def _places(self, first: Value, group: Value) -> list[Value]:
        place = ((first, self.layout.groups * FLOATS // 2), (group, FLOATS // 2))
        return [at(self.code, pointer, *place) for pointer in (self.target, self.added)]

    def _cell_out(self, places: list[Value], cell: Value, values: list[Value]) -> None:
        code, vectors = self.code, self.vectors
        target, added = (at(code, each, (cell, self.layout.groups * FLOATS // 2)) for each in places)
        for n, value in enumerate(values):
            result = vectors.leaky_relu(code, value, self._slope)
            if self._residual:
                result = code.fadd(result, load_wide(code, vectors, at(code, added, n * FLOATS // 2)))
            code.store(narrow(code, result), at(code, target, n * FLOATS // 2), align=2)

    def _finish(self) -> None:
        clear(self.code, self.vectors, self.target, self.width, self.across, self.layout)


def clear(code: Code, vectors: Vectors, row: Value, width: Value, across: Value, layout: Layout) -> None:
    """Zeros beyond the picture, in a row's blocks: the next convolution's padding."""
    units = layout.groups * FLOATS // 2
    short = vectors.of(FLOATS // 2)
    stop = code.mul(across, number(layout.grid[0] * ROWS * units))
    with loop(code, code.mul(width, number(units)), stop, short.lanes) as place:
        short.store(code, short.constant(0.0), at(code, row, place))


class Head:
    """The first convolution, from the cells that PixelUnshuffle makes, all rows of it.

    The function's arguments: the first cell of the map; the cells with their ring; weights, biases; rows and columns
    of cells; units from row to row of the cells and of the map.
    """

    def __init__(self, module: ir.Module, name: str, *, layout: Layout, slope: float) -> None:
        self.row = Body(module, f"{name}_row", layout=layout, slope=slope, residual=False)
        self.function = ir.Function(module, ir.FunctionType(ir.VoidType(), [POINTER] * 4 + [INDEX] * 4), name)
        self.function.linkage = "internal"

    def write(self) -> None:
        """Write the function."""
        self.row.write()
        code: Code = ir.IRBuilder(self.function.append_basic_block())
        target, cells, weights, biases, height, width, cells_row, target_row = self.function.args
        with loop(code, 0, height) as y:
            rows = [at(code, cells, (code.add(y, number(n)), cells_row)) for n in range(KERNEL)]
            into = at(code, target, (y, target_row))
            code.call(
                self.row.function,
                [into, *rows, into, weights, biases, into, width, cells_row, target_row, number(1), width],
            )
        code.ret_void()


class Tail(Convolution):
    """With PixelShuffle behind it: cells of `scale` x `scale` pixels of a plane of fp32."""

    def __init__(self, module: ir.Module, name: str, *, layout: Layout, scale: int) -> None:
        super().__init__(module, name, layout=layout)
        self.scale = scale

    def _places(self, first: Value, group: Value) -> list[Value]:
        """Of each line of a cell's pixels that these groups hold."""
        code, scale = self.code, self.scale
        top = code.mul(group, number(FLOATS // scale))
        return [
            at(code, self.target, (code.add(top, number(y)), self.target_row), (first, scale))
            for y in range(self.layout.grid[1] * self._lines)
        ]

    def _cell_out(self, places: list[Value], cell: Value, values: list[Value]) -> None:
        code, scale = self.code, self.scale
        line = self.vectors.of(scale)
        for y, place in enumerate(places):
            value, start = values[y // self._lines], y % self._lines * scale
            columns = ir.Constant(ir.VectorType(ir.IntType(32), scale), list(range(start, start + scale)))
            line.store(code, code.shuffle_vector(value, value, columns), at(code, place, (cell, scale)))

    @property
    def _lines(self) -> int:
        """Of a cell's pixels, in a group of outputs."""
        return min(self.scale, FLOATS // self.scale)
