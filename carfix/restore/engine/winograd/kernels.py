"""The layers of a window in LLVM's code: direct convolution at the head, Winograd convolutions in body and tail.

Maps are `[rows, columns, channels]` with a ring of zeros, the zero padding of the convolutions, and so many rows
and columns that whole tiles cover the picture; what tiles compute beyond it is made zero again.
"""

import abc
import dataclasses
import itertools

from llvmlite import ir

from carfix.net.config import KERNEL
from carfix.restore.engine.llvm.vectors import (
    INDEX,
    LANE,
    LINE,
    POINTER,
    Code,
    Value,
    Vectors,
    at,
    carried,
    loop,
    number,
    rounded_up,
)
from carfix.restore.engine.winograd.maps import Maps
from carfix.restore.engine.winograd.products import Blocking, Products, behind_biases, slot
from carfix.restore.engine.winograd.transforms import Transform

#: Tiles from one that is transformed to the one whose pixels are fetched into the cache: maps are larger than caches.
_AHEAD = 2


@dataclasses.dataclass(frozen=True)
class Method:
    """How convolutions are computed."""

    vectors: Vectors
    transform: Transform
    blocking: Blocking
    products: type[Products]
    maps: Maps


def scratch_size(transform: Transform, channels: int, blocking: Blocking, products: type[Products]) -> int:
    """Units that a convolution works in, of at most so many channels: matrices, and tiles between two transforms."""
    held = transform.products * blocking.lanes * products.together
    return extremes_size(blocking) + (transform.products + 1) * slot(channels, blocking.block) + held


def extremes_size(blocking: Blocking) -> int:
    """Units at the beginning of scratch for what `Products.note` notes: vectors of the largest and the smallest."""
    return rounded_up(2 * blocking.lanes, LINE)


class Convolution(abc.ABC):
    """A 3x3 convolution by a transform, of tiles of one row, written as a function.

    Its arguments: the row's first pixel in the result; the row of the source above the tiles, their own first one and
    that below, each from the ring's pixel on; the first pixel of what is added; the transformed weights; the biases
    with the factors and scales that `products` has; scratch; tiles across; units from row to row of the source and of
    the result; rows and columns of the picture that the tiles hold; the columns of tiles to compute, in 32 bits each,
    and their number, and the same of tiles to make zero, which those beside them will read.
    """

    def __init__(self, module: ir.Module, name: str, method: Method, *, inputs: int, outputs: int) -> None:
        self.vectors, self.transform, self.blocking = method.vectors, method.transform, method.blocking
        self.channels, self.outputs = inputs, outputs
        self.maps = method.maps
        self.products = method.products(self.vectors, self.blocking, inputs=inputs, outputs=outputs)
        self.slot = self.products.slot
        arguments = [POINTER] * 8 + [INDEX] * 5 + [POINTER, INDEX] * 2
        self.function = ir.Function(module, ir.FunctionType(ir.VoidType(), arguments), name)
        self.function.linkage = "internal"
        self.target, self.above, self.here, self.below, self.added, *rest = self.function.args
        self.weights, self.biases, self.scratch, self.across, *rest = rest
        self.source_row, self.target_row, self.height, self.width, *rest = rest
        self.columns, self.count, self.cleared, self.clear = rest
        self.code = ir.IRBuilder(self.function.append_basic_block())
        self._extremes = self.scratch
        self.scratch = at(self.code, self.scratch, extremes_size(self.blocking))
        self._held = at(self.code, self.scratch, (self.transform.products + 1) * self.slot)
        self._factors, self._scales = (at(self.code, self.biases, units) for units in behind_biases(outputs))

    def write(self) -> None:
        """Write the function."""
        code, block = self.code, self.blocking.block
        with loop(code, 0, self.count, block) as first:
            left = code.sub(self.count, first)
            count = code.select(code.icmp_signed("<", left, number(block)), left, number(block))
            with loop(code, 0, count) as tile:
                self._tile_in(tile, integer_at(code, self.columns, code.add(first, tile)))
            with loop(code, 0, self.transform.products) as product:
                self.products.multiply(code, product, count, self.scratch, self.weights)
            with loop(code, 0, count) as tile:
                self._tile_out(tile, integer_at(code, self.columns, code.add(first, tile)))
        self._finish()
        code.ret_void()

    def _tile_in(self, tile: Value, column: Value) -> None:
        """B^T d B of all channels; the matrix of product p lies in slot p + 1."""
        code, vectors, size = self.code, self.vectors, self.transform.size
        lines = [at(code, self.here, (self.source_row, y)) for y in range(self.transform.outputs)]
        place = (column, self.transform.outputs * self.channels)
        rows = [self.maps.at(code, row, place) for row in (self.above, *lines, self.below)]
        together, packed = self.products.together, self.products.packed
        into = at(code, self.scratch, self.slot, (tile, self.products.units))
        with loop(code, 0, self.channels, together * vectors.lanes) as channel:
            for row in rows:
                halo = size - self.transform.outputs
                self._fetch_ahead(row, channel, self.channels, wide=together, halo=halo, to_write=False)
            for part, x in itertools.product(range(together), range(size)):
                pixel = (channel, x * self.channels + part * vectors.lanes)
                d = [self.maps.load(code, self.maps.at(code, row, *pixel)) for row in rows]
                for y, value in enumerate(self.transform.inputs(code, vectors, d)):
                    self._hold((y * size + x) * together + part, value)
            target = at(code, into, code.udiv(channel, number(packed)))
            kept: list[Value] = []
            for y in range(size):
                parts = []
                for part in range(together):
                    d = [self._held_at((y * size + x) * together + part) for x in range(size)]
                    parts.append(self.transform.inputs(code, vectors, d))
                for x, values in enumerate(zip(*parts, strict=True)):
                    product = y * size + x
                    scales = at(code, self._scales, channel, product * self.channels)
                    value = self.products.keep(code, values, at(code, target, product * self.slot), scales)
                    kept += [] if value is None else [value]
            self.products.note(code, kept, self._extremes)

    def _results(self, tile: Value, channel: Value) -> list[list[Value]]:
        """A^T m A plus bias of a tile of the block: a vector of channels for each of its m x m pixels."""
        code, vectors, size = self.code, self.vectors, self.transform.size
        place = at(code, self.scratch, channel, (tile, self.outputs))
        for x in range(size):
            found = [
                self.products.taken(code, at(code, place, product * self.slot))
                for product in range(x, self.transform.products, size)
            ]
            for y, value in enumerate(self.transform.results(code, vectors, found)):
                self._hold(y * size + x, value)
        bias, factor = (at(code, memory, channel) for memory in (self.biases, self._factors))
        rows = []
        for y in range(self.transform.outputs):
            held = [self._held_at(y * size + x) for x in range(size)]
            sums = self.transform.results(code, vectors, held)
            rows.append([self.products.finished(code, value, factor, bias) for value in sums])
        return rows

    @abc.abstractmethod
    def _tile_out(self, tile: Value, column: Value) -> None:
        """The tile's results, to where they belong; `tile` within the block, `column` within the row."""

    def _finish(self) -> None:  # noqa: B027 - most have nothing left to do
        """What is done once all tiles are out."""

    def _fetch_ahead(
        self, row: Value, channel: Value, channels: int, *, wide: int, halo: int, to_write: bool
    ) -> None:
        """Have a later tile's pixels in `row` fetched into the cache, a part with each `wide` vectors of channels."""
        step = self.transform.outputs
        part = self.maps.at(self.code, row, (channel, step), (_AHEAD * step + halo) * channels)
        for line in range(0, step * wide * self.vectors.lanes, self.maps.line):
            self.vectors.prefetch(self.code, self.maps.at(self.code, part, line), to_write=to_write)

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
        maps, lines = self.maps, range(self.transform.outputs)
        place = (column, self.transform.outputs * self.outputs)
        into, added = (
            [maps.at(code, at(code, corner, (self.target_row, y)), place) for y in lines]
            for corner in (self.target, self.added)
        )
        with loop(code, 0, self.outputs, vectors.lanes) as channel:
            for line in into:
                self._fetch_ahead(line, channel, self.outputs, wide=1, halo=0, to_write=True)
            for y, values in enumerate(self._results(tile, channel)):
                for x, value in enumerate(values):
                    pixel = (channel, x * self.outputs)
                    result = vectors.leaky_relu(code, value, self._slope)
                    if self._residual:
                        result = code.fadd(result, maps.load(code, maps.at(code, added[y], *pixel)))
                    maps.store(code, result, maps.at(code, into[y], *pixel))

    def _finish(self) -> None:
        """Zeros beyond the picture, the next convolution's padding, and where it reads what nobody computed."""
        step = self.transform.outputs
        clear_tiles(
            self.code, self.maps, self.target, self.target_row, self.outputs, step, self.cleared, self.clear
        )
        columns = self.code.mul(self.across, number(step))
        self._clear(0, step, self.width, columns)
        self._clear(self.height, step, 0, self.width)

    def _clear(self, top: Value, bottom: Value, left: Value, right: Value) -> None:
        clear(self.code, self.maps, self.target, self.target_row, self.outputs, (top, bottom), (left, right))


class Tail(Convolution):
    """With PixelShuffle behind it: cells of `scale` x `scale` pixels of a plane."""

    def __init__(
        self, module: ir.Module, name: str, method: Method, *, inputs: int, outputs: int, scale: int
    ) -> None:
        super().__init__(module, name, method, inputs=inputs, outputs=outputs)
        self.scale = scale

    def _tile_out(self, tile: Value, column: Value) -> None:
        code, vectors, scale = self.code, self.vectors, self.scale
        corner = at(code, self.target, (column, self.transform.outputs * scale))
        for channel in range(0, self.outputs, vectors.lanes):
            lines = self._results(tile, number(channel))
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

    The function's arguments, of a row of tiles: its first pixel in the map; its first line in the plane with a ring of
    a cell; weights `[3 * scale, 3 * scale, outputs]`, biases; rows of cells that are there, and columns of the picture;
    fp32 from row to row of the plane and of the map; runs of tiles to compute, the first and the one behind the last of
    each in 32 bits, and their number; columns of tiles to make zero, and their number.
    """

    def __init__(
        self, module: ir.Module, name: str, method: Method, *, scale: int, outputs: int, slope: float
    ) -> None:
        self.vectors, self.blocking, self.maps = method.vectors, method.blocking, method.maps
        self._step = method.transform.outputs
        self._scale, self._outputs, self._slope = scale, outputs, slope
        arguments = [POINTER] * 4 + [INDEX] * 4 + [POINTER, INDEX] * 2
        self.function = ir.Function(module, ir.FunctionType(ir.VoidType(), arguments), name)
        self.function.linkage = "internal"

    def write(self) -> None:
        """Write the function."""
        code: Code = ir.IRBuilder(self.function.append_basic_block())
        target, _, _, _, height, width, _, target_row, runs, count, cleared, clear = self.function.args
        cells, wide = self.blocking.shape(self._outputs)
        with loop(code, 0, count) as run, loop(code, 0, height) as y:
            start, stop = (
                code.mul(integer_at(code, runs, (run, 2), end), number(self._step)) for end in range(2)
            )
            stop = code.select(code.icmp_signed("<", stop, width), stop, width)
            for together in dict.fromkeys((cells, self._step, 1)):
                length = code.sub(stop, start)
                whole = code.sub(stop, code.srem(length, number(together)))
                with loop(code, start, whole, together) as x:
                    self._cells(code, y, x, together, wide)
                start = whole
        clear_tiles(code, self.maps, target, target_row, self._outputs, self._step, cleared, clear)
        code.ret_void()

    def _cells(self, code: Code, y: Value, x: Value, cells: int, wide: int) -> None:
        target, plane, weights, biases, _, _, plane_row, target_row, *_ = self.function.args
        vectors, scale, outputs = self.vectors, self._scale, self._outputs
        side = KERNEL * scale
        source = at(code, plane, (code.mul(y, number(scale)), plane_row), (x, scale))
        into = self.maps.at(code, at(code, target, (y, target_row)), (x, outputs))
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
                value = vectors.leaky_relu(code, total, self._slope)
                self.maps.store(code, value, self.maps.at(code, into, output, offset))


def integer_at(code: Code, integers: Value, *offsets: Value) -> Value:
    """The 32-bit integer so far from `integers`, as an index."""
    return code.sext(code.load(at(code, integers, *offsets, of=LANE), typ=LANE, align=4), INDEX)


def clear_tiles(
    code: Code, maps: Maps, target: Value, row: Value, channels: int, step: int, columns: Value, count: Value
) -> None:
    """Zeros in `count` tiles of a row of them, whose `columns` are given."""
    with loop(code, 0, count) as place:
        left = code.mul(integer_at(code, columns, place), number(step))
        clear(code, maps, target, row, channels, (0, step), (left, code.add(left, number(step))))


def clear(
    code: Code,
    maps: Maps,
    target: Value,
    row: Value,
    channels: int,
    rows: tuple[Value, Value],
    columns: tuple[Value, Value],
) -> None:
    """Zeros in a rectangle of cells; `target` is the first one of the first row, `row` the units of one."""
    vectors = maps.vectors
    start, stop = (code.mul(number(edge), number(channels)) for edge in columns)
    with loop(code, *rows) as y, loop(code, start, stop, vectors.lanes) as x:
        line = at(code, target, (y, row))
        maps.store(code, vectors.constant(0.0), maps.at(code, line, x))
