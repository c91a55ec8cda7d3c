"""The layers of a window in LLVM's code: direct convolution at the head, Winograd convolutions in body and tail.

Maps are `[rows, columns, channels]` fp32 with a ring of zeros, the zero padding of the convolutions, and so many rows
and columns that whole tiles cover the picture; what tiles compute beyond it is made zero again.
"""

import abc
import dataclasses

from llvmlite import ir

from carfix.net.config import KERNEL
from carfix.restore.engine.llvm.vectors import (
    INDEX,
    LINE,
    POINTER,
    Code,
    Value,
    Vectors,
    at,
    carried,
    loop,
    number,
)
from carfix.restore.engine.winograd.transforms import Transform

#: Steps of the innermost loop of a matrix product that are written out.
_UNROLLED = 8
#: Tiles from one that is transformed to the one whose pixels are fetched into the cache: maps are larger than caches.
_AHEAD = 2
#: fp32 between the matrices of a block of tiles, so that they do not all begin at the same place of a cache's sets.
_APART = 16


@dataclasses.dataclass(frozen=True)
class Blocking:
    """How a convolution uses registers and caches."""

    lanes: int  # fp32 in a vector
    registers: int  # vectors
    block: int  # tiles that are transformed and multiplied together: they stay in the L2 cache

    def shape(self, channels: int) -> tuple[int, int]:
        """Tiles and vectors of output channels whose sums are in registers at once.

        Each step of a product loads these vectors of weights and broadcasts a number a tile, for tiles times vectors
        multiplications: registers for the weights and a number are left. Whole blocks are so many tiles.
        """
        vectors = next(n for n in (2, 1) if channels // self.lanes % n == 0)
        most = (self.registers - 1 - vectors) // vectors
        return next(n for n in range(most, 0, -1) if self.block % n == 0), vectors


def slot(channels: int, block: int) -> int:
    """fp32 from one matrix of a block of tiles to the next."""
    return block * channels + _APART


def scratch_size(transform: Transform, channels: int, blocking: Blocking) -> int:
    """fp32 that a convolution works in, of at most so many channels: matrices, and a tile between two transforms."""
    return (transform.products + 1) * slot(channels, blocking.block) + transform.products * blocking.lanes


@dataclasses.dataclass(frozen=True)
class Method:
    """How convolutions are computed."""

    vectors: Vectors
    transform: Transform
    blocking: Blocking


class Convolution(abc.ABC):
    """A 3x3 convolution by a transform, of one row of tiles, written as a function.

    Its arguments: the row's first pixel in the result; the row of the source above the tiles, their own first one and
    that below, each from the ring's pixel on; the first pixel of what is added; the transformed weights, the biases,
    scratch; tiles across; fp32 from row to row of the source and of the result; rows and columns of the picture that
    the tiles hold.
    """

    def __init__(self, module: ir.Module, name: str, method: Method, *, inputs: int, outputs: int) -> None:
        self.vectors, self.transform, self.blocking = method.vectors, method.transform, method.blocking
        self.channels, self.outputs = inputs, outputs
        self.slot = slot(max(inputs, outputs), self.blocking.block)
        self.function = ir.Function(module, ir.FunctionType(ir.VoidType(), [POINTER] * 8 + [INDEX] * 5), name)
        self.function.linkage = "internal"
        self.target, self.above, self.here, self.below, self.added, *rest = self.function.args
        self.weights, self.biases, self.scratch, self.across, *rest = rest
        self.source_row, self.target_row, self.height, self.width = rest
        self.code = ir.IRBuilder(self.function.append_basic_block())
        self._held = at(self.code, self.scratch, (self.transform.products + 1) * self.slot)

    def write(self) -> None:
        """Write the function."""
        code, block = self.code, self.blocking.block
        with loop(code, 0, self.across, block) as first:
            left = code.sub(self.across, first)
            count = code.select(code.icmp_signed("<", left, number(block)), left, number(block))
            with loop(code, 0, count) as tile:
                self._tile_in(tile, code.add(first, tile))
            with loop(code, 0, self.transform.products) as product:
                self._multiply(product, count)
            with loop(code, 0, count) as tile:
                self._tile_out(tile, code.add(first, tile))
        self._finish()
        code.ret_void()

    def _tile_in(self, tile: Value, column: Value) -> None:
        """B^T d B of all channels; the matrix of product p lies in slot p + 1."""
        code, vectors, size = self.code, self.vectors, self.transform.size
        place = (column, self.transform.outputs * self.channels)
        rows = [at(code, self.above, place)]
        rows += [at(code, self.here, place, (self.source_row, y)) for y in range(self.transform.outputs)]
        rows += [at(code, self.below, place)]
        into = at(code, self.scratch, self.slot, (tile, self.channels))
        with loop(code, 0, self.channels, vectors.lanes) as channel:
            target = at(code, into, channel)
            for row in rows:
                self._fetch_ahead(
                    row, channel, self.channels, halo=size - self.transform.outputs, to_write=False
                )
            for x in range(size):
                d = [vectors.load(code, at(code, row, channel, x * self.channels)) for row in rows]
                for y, value in enumerate(self.transform.inputs(code, vectors, d)):
                    self._hold(y * size + x, value)
            for y in range(size):
                d = [self._held_at(y * size + x) for x in range(size)]
                for x, value in enumerate(self.transform.inputs(code, vectors, d)):
                    vectors.store(code, value, at(code, target, (y * size + x) * self.slot))

    def _multiply(self, product: Value, count: Value) -> None:
        """The block's tiles times one matrix of weights, from slot product + 1 into slot product."""
        code, vectors = self.code, self.vectors
        tiles, wide = self.blocking.shape(self.outputs)
        factors = at(code, self.scratch, self.slot, (product, self.slot))
        sums = at(code, self.scratch, (product, self.slot))
        weights = at(code, self.weights, (product, self.channels * self.outputs))
        rounds = code.udiv(code.add(count, number(tiles - 1)), number(tiles))
        with (
            loop(code, 0, self.outputs, wide * vectors.lanes) as output,
            loop(code, 0, rounds) as turn,
        ):
            totals = self._sums(
                at(code, factors, (turn, tiles * self.channels)), at(code, weights, output), tiles, wide
            )
            into = at(code, sums, output, (turn, tiles * self.outputs))
            for n, total in enumerate(totals):
                vectors.store(
                    code, total, at(code, into, n // wide * self.outputs + n % wide * vectors.lanes)
                )

    def _sums(self, factors: Value, weights: Value, tiles: int, wide: int) -> list[Value]:
        """Sums over the input channels, held in registers, by tile and vector of output channels."""
        code, vectors = self.code, self.vectors
        steps = next(n for n in range(min(_UNROLLED, self.channels), 0, -1) if self.channels % n == 0)

        def add(channel: Value, totals: list[Value]) -> list[Value]:
            totals = list(totals)
            for step in range(steps):
                w = [
                    vectors.load(code, at(code, weights, (channel, self.outputs), step * self.outputs + n))
                    for n in range(0, wide * vectors.lanes, vectors.lanes)
                ]
                for tile in range(tiles):
                    factor = vectors.broadcast(code, at(code, factors, channel, tile * self.channels + step))
                    for n in range(wide):
                        place = tile * wide + n
                        totals[place] = vectors.multiply_add(code, factor, w[n], totals[place])
            return totals

        return carried(code, self.channels, steps, [vectors.constant(0.0)] * (tiles * wide), add)

    def _results(self, place: Value, biases: Value) -> list[list[Value]]:
        """A^T m A plus bias: a vector of channels for each of the tile's m x m pixels; `place` within slot 0."""
        code, vectors, size = self.code, self.vectors, self.transform.size
        for x in range(size):
            products = [vectors.load(code, at(code, place, (y * size + x) * self.slot)) for y in range(size)]
            for y, value in enumerate(self.transform.results(code, vectors, products)):
                self._hold(y * size + x, value)
        bias = vectors.load(code, biases)
        rows = []
        for y in range(self.transform.outputs):
            held = [self._held_at(y * size + x) for x in range(size)]
            rows.append([code.fadd(value, bias) for value in self.transform.results(code, vectors, held)])
        return rows

    @abc.abstractmethod
    def _tile_out(self, tile: Value, column: Value) -> None:
        """The tile's results, to where they belong; `tile` within the block, `column` within the row."""

    def _finish(self) -> None:  # noqa: B027 - most have nothing left to do
        """What is done once all tiles are out."""

    def _fetch_ahead(self, row: Value, channel: Value, channels: int, *, halo: int, to_write: bool) -> None:
        """Have a later tile's pixels in `row` fetched into the cache, a part with each vector of channels."""
        step = self.transform.outputs
        part = at(self.code, row, (channel, step), (_AHEAD * step + halo) * channels)
        for line in range(0, step * self.vectors.lanes, LINE):
            self.vectors.prefetch(self.code, at(self.code, part, line), to_write=to_write)

    def _hold(self, index: int, value: Value) -> None:
        self.vectors.store(self.code, value, at(self.code, self._held, index * self.vectors.lanes))

    def _held_at(self, index: int) -> Value:
        return self.vectors.load(self.code, at(self.code, self._held, index * self.vectors.lanes))


class Body(Convolution):
    """With LeakyReLU behind it, and what is given to be added, if `residual`."""

    def __init__(
        self, module: ir.Module, name: str, method: Method, *, features: int, slope: float, residual: bool
    ) -> None:
        super().__init__(module, name, method, inputs=features, outputs=features)
        self._slope, self._residual = slope, residual

    def _tile_out(self, tile: Value, column: Value) -> None:
        code, vectors = self.code, self.vectors
        products = at(code, self.scratch, (tile, self.outputs))
        place = (column, self.transform.outputs * self.outputs)
        corner, added = at(code, self.target, place), at(code, self.added, place)
        with loop(code, 0, self.outputs, vectors.lanes) as channel:
            for y in range(self.transform.outputs):
                line = at(code, corner, (self.target_row, y))
                self._fetch_ahead(line, channel, self.outputs, halo=0, to_write=True)
            lines = self._results(at(code, products, channel), at(code, self.biases, channel))
            for y, line in enumerate(lines):
                for x, value in enumerate(line):
                    pixel = ((self.target_row, y), channel, x * self.outputs)
                    result = vectors.leaky_relu(code, value, self._slope)
                    if self._residual:
                        result = code.fadd(result, vectors.load(code, at(code, added, *pixel)))
                    vectors.store(code, result, at(code, corner, *pixel))

    def _finish(self) -> None:
        """Zeros beyond the picture: the next convolution's padding."""
        step = self.transform.outputs
        columns = self.code.mul(self.across, number(step))
        self._clear(0, step, self.width, columns)
        self._clear(self.height, step, 0, self.width)

    def _clear(self, top: Value, bottom: Value, left: Value, right: Value) -> None:
        code, vectors = self.code, self.vectors
        start, stop = (code.mul(number(edge), number(self.outputs)) for edge in (left, right))
        with loop(code, top, bottom) as y, loop(code, start, stop, vectors.lanes) as x:
            vectors.store(code, vectors.constant(0.0), at(code, self.target, (y, self.target_row), x))


class Tail(Convolution):
    """With PixelShuffle behind it: cells of `scale` x `scale` pixels of a plane."""

    def __init__(
        self, module: ir.Module, name: str, method: Method, *, inputs: int, outputs: int, scale: int
    ) -> None:
        super().__init__(module, name, method, inputs=inputs, outputs=outputs)
        self.scale = scale

    def _tile_out(self, tile: Value, column: Value) -> None:
        code, vectors, scale = self.code, self.vectors, self.scale
        products = at(code, self.scratch, (tile, self.outputs))
        corner = at(code, self.target, (column, self.transform.outputs * scale))
        for channel in range(0, self.outputs, vectors.lanes):
            lines = self._results(at(code, products, channel), at(code, self.biases, channel))
            places = list(enumerate(range(channel, min(channel + vectors.lanes, scale**2))))
            for y, line in enumerate(lines):
                for x, value in enumerate(line):
                    for lane, part in places:
                        pixel = at(
                            code,
                            corner,
                            (self.target_row, y * scale + part // scale),
                            x * scale + part % scale,
                        )
                        code.store(vectors.lane(code, value, lane), pixel)


class Head:
    """The first convolution, behind PixelUnshuffle: on the plane itself, 3 * scale x 3 * scale with that stride.

    The function's arguments: the first pixel of the map; the plane with a ring of a cell; weights `[3 * scale,
    3 * scale, outputs]`, biases; rows and columns of cells; fp32 from row to row of the plane and of the map.
    """

    def __init__(
        self, module: ir.Module, name: str, method: Method, *, scale: int, outputs: int, slope: float
    ) -> None:
        self.vectors, self.blocking = method.vectors, method.blocking
        self._scale, self._outputs, self._slope = scale, outputs, slope
        self.function = ir.Function(module, ir.FunctionType(ir.VoidType(), [POINTER] * 4 + [INDEX] * 4), name)
        self.function.linkage = "internal"

    def write(self) -> None:
        """Write the function."""
        code: Code = ir.IRBuilder(self.function.append_basic_block())
        height, width = self.function.args[4:6]
        cells, wide = self.blocking.shape(self._outputs)
        whole = code.sub(width, code.urem(width, number(cells)))
        with loop(code, 0, height) as y:
            with loop(code, 0, whole, cells) as x:
                self._cells(code, y, x, cells, wide)
            with loop(code, whole, width) as x:
                self._cells(code, y, x, 1, wide)
        code.ret_void()

    def _cells(self, code: Code, y: Value, x: Value, cells: int, wide: int) -> None:
        target, plane, weights, biases, _, _, plane_row, target_row = self.function.args
        vectors, scale, outputs = self.vectors, self._scale, self._outputs
        side = KERNEL * scale
        source = at(code, plane, (code.mul(y, number(scale)), plane_row), (x, scale))
        into = at(code, target, (y, target_row), (x, outputs))
        lanes = range(0, wide * vectors.lanes, vectors.lanes)
        with loop(code, 0, outputs, wide * vectors.lanes) as output:
            start = [vectors.load(code, at(code, biases, output, n)) for n in lanes] * cells

            def row(y: Value, totals: list[Value], output: Value = output) -> list[Value]:
                line = at(code, source, (y, plane_row))
                taps = at(code, weights, output, (y, side * outputs))

                def column(x: Value, totals: list[Value]) -> list[Value]:
                    w = [vectors.load(code, at(code, taps, (x, outputs), n)) for n in lanes]
                    return [
                        vectors.multiply_add(
                            code,
                            vectors.broadcast(code, at(code, line, x, place // wide * scale)),
                            w[place % wide],
                            total,
                        )
                        for place, total in enumerate(totals)
                    ]

                return carried(code, side, 1, totals, column)

            totals = carried(code, side, 1, start, row)
            for place, total in enumerate(totals):
                offset = place // wide * outputs + place % wide * vectors.lanes
                vectors.store(
                    code, vectors.leaky_relu(code, total, self._slope), at(code, into, output, offset)
                )
