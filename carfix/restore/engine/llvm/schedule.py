"""The order in which a window is computed: some layers at a time, row of tiles by row of tiles.

Layer after layer, each map would come from memory once a layer: it is larger than any cache. Here a group of layers
moves down the picture together, each a row of tiles behind the one before it, and what lies between them is the last
three rows of tiles of each layer's map. Only a group's input and output are whole maps, and these are one: its last
layer is behind its first, and writes where that has already read.
"""

import dataclasses
from collections.abc import Sequence
from typing import Protocol

from llvmlite import ir

from carfix.restore.engine.llvm.vectors import (
    INDEX,
    LANE,
    POINTER,
    Code,
    Value,
    at,
    loop,
    number,
)

#: Numbers of a row of tiles of a layer in a table of what is computed: where its columns begin and how many there are,
#: and the same of those that are made zero.
ENTRY = 4
#: Rows of tiles of a layer's map that are kept for the next layers: a convolution reads the row above its own and the
#: one below, and what a block adds to its result lies as far back.
KEPT_ROWS = 3


@dataclasses.dataclass(frozen=True)
class Layer:
    """A convolution's weights among those of the network, in fp32."""

    matrices: int
    inputs: int
    outputs: int
    start: int  # of the weights `[matrices, inputs, outputs]`
    biases: int
    stop: int


class Kernel(Protocol):
    """A layer's function."""

    @property
    def function(self) -> ir.Function:
        """See `carfix.restore.engine.winograd.kernels` for its arguments."""
        ...


@dataclasses.dataclass(frozen=True)
class Kernels:
    """The functions of all layers."""

    head: Kernel
    plain: Kernel
    residual: Kernel
    tail: Kernel
    step: int  # rows of cells that are computed at once: of a tile
    cell: int  # fp32, or what takes as much memory, of a cell
    scale: int  # side in pixels of a cell
    selective: bool = False  # whether they are told which tiles of a row to compute


def write_schedule(module: ir.Module, layers: Sequence[Layer], kernels: Kernels, *, inner: bool) -> None:
    """A function `network`, with `inner` for a convolution more before and behind the blocks, as CAR-CNN has.

    Its arguments: residual plane, plane, weights, map, kept rows and scratch; rows and columns of cells, tiles down and
    across; fp32 from row to row of the plane, the map and the residual plane; layers of a group, an even number.
    Where kernels are `selective`, two more: a table `[layers, tiles down, ENTRY]` and the columns that it tells of,
    both of 32-bit integers (`carfix.restore.engine.winograd.demand`).
    """
    arguments = [POINTER] * 6 + [INDEX] * 8 + [POINTER] * (2 if kernels.selective else 0)
    function = ir.Function(module, ir.FunctionType(ir.VoidType(), arguments), "network")
    _Schedule(function, layers, kernels, inner).write()


class _Schedule:
    def __init__(self, function: ir.Function, layers: Sequence[Layer], kernels: Kernels, inner: bool) -> None:
        self.layers, self.kernels, self.inner = layers, kernels, inner
        self.step, self.cell = kernels.step, kernels.cell
        self.result, self.plane, self.weights, self.map, self.kept, self.scratch, *rest = function.args
        self.height, self.width, self.down, self.across, *rest = rest
        self.plane_row, self.row, self.result_row, self.group, *self.demand = rest
        self.code: Code = ir.IRBuilder(function.append_basic_block())
        self.tile_row = self.code.mul(self.row, number(self.step))

    def write(self) -> None:
        code = self.code
        self._head()
        body = len(self.layers) - 2
        groups = code.append_basic_block()
        behind = code.append_basic_block()
        start = code.block
        code.branch(groups)
        code.position_at_end(groups)
        first = code.phi(INDEX)
        first.add_incoming(number(0), start)
        stop = code.add(first, self.group)
        if self.inner:
            stop = code.select(code.icmp_signed("==", first, number(0)), code.add(stop, number(1)), stop)
        # A single layer that would be left goes with this group: its result could not take its input's place.
        stop = code.select(code.icmp_signed("<", stop, number(body - 1)), stop, number(body))
        self._group(first, code.sub(stop, first))
        first.add_incoming(stop, code.block)
        code.cbranch(code.icmp_signed("<", stop, number(body)), groups, behind)
        code.position_at_end(behind)
        self._tail()
        code.ret_void()

    def _head(self) -> None:
        if not self.kernels.selective:
            self._head_of(number(0), self.height)
            return
        with loop(self.code, 0, self.down) as row:
            self._head_of(row, self._picture_rows(row))

    def _head_of(self, row: Value, height: Value) -> None:
        """From a row of tiles on, so many rows of cells."""
        code, layer = self.code, self.layers[0]
        lines = self.step * self.kernels.scale
        code.call(
            self.kernels.head.function,
            [
                self._pixel(self._of_map(row)),
                at(code, self.plane, (code.mul(row, number(lines)), self.plane_row)),
                at(code, self.weights, layer.start),
                at(code, self.weights, layer.biases),
                height,
                self.width,
                self.plane_row,
                self.row,
                *self._demanded(number(0), row),
            ],
        )

    def _group(self, first: Value, count: Value) -> None:
        code = self.code
        with loop(code, 0, code.add(self.down, code.sub(count, number(1)))) as step:
            # Layer n is at row step - n of tiles, while there is such a row.
            late = code.sub(step, code.sub(self.down, number(1)))
            begin = code.select(code.icmp_signed(">", late, number(0)), late, number(0))
            until = code.add(step, number(1))
            end = code.select(code.icmp_signed("<", until, count), until, count)
            with loop(code, begin, end) as layer:
                self._layer(first, count, layer, code.sub(step, layer))

    def _layer(self, first: Value, count: Value, layer: Value, row: Value) -> None:
        """A row of tiles of a layer, by its number within the group."""
        code = self.code
        whole_map = code.icmp_signed("==", layer, number(0))
        before = code.sub(layer, number(1))
        above, here, below = (
            code.select(whole_map, of_map, kept)
            for of_map, kept in zip(self._rows_of_map(row), self._rows_kept(before, row), strict=True)
        )
        last = code.icmp_signed("==", code.add(layer, number(1)), count)
        target = code.select(last, self._of_map(row), self._kept(layer, row))
        # What a block adds is the input of its first convolution.
        early = code.icmp_signed("<", layer, number(2))
        added = code.select(early, self._of_map(row), self._kept(code.sub(layer, number(2)), row))
        index = code.add(first, layer)
        one = self.layers[1]
        weights = at(code, self.weights, one.start, (index, one.stop - one.start))
        arguments = [
            self._pixel(target),
            above,
            here,
            below,
            self._pixel(added),
            weights,
            at(code, weights, one.biases - one.start),
            self.scratch,
            self.across,
            self.row,
            self.row,
            self._picture_rows(row),
            self.width,
            *self._demanded(code.add(index, number(1)), row),
        ]
        parity = code.and_(code.add(index, number(int(self.inner))), number(1))
        odd = code.and_(code.icmp_signed("==", parity, number(1)), code.icmp_signed(">", index, number(0)))
        with code.if_else(odd) as (then, otherwise):
            with then:
                code.call(self.kernels.residual.function, arguments)
            with otherwise:
                code.call(self.kernels.plain.function, arguments)

    def _tail(self) -> None:
        code, layer = self.code, self.layers[-1]
        lines = self.step * self.kernels.scale
        with loop(code, 0, self.down) as row:
            target = at(code, self.result, (code.mul(row, number(lines)), self.result_row))
            code.call(
                self.kernels.tail.function,
                [
                    target,
                    *self._rows_of_map(row),
                    target,
                    at(code, self.weights, layer.start),
                    at(code, self.weights, layer.biases),
                    self.scratch,
                    self.across,
                    self.row,
                    self.result_row,
                    self._picture_rows(row),
                    self.width,
                    *self._demanded(number(len(self.layers) - 1), row),
                ],
            )

    def _demanded(self, layer: Value, row: Value) -> list[Value]:
        """Columns of a layer's row of tiles to compute and their number, those to make zero and theirs."""
        if not self.kernels.selective:
            return []
        code, (table, columns) = self.code, self.demand
        place = code.mul(code.add(code.mul(layer, self.down), row), number(ENTRY))
        found = [
            code.sext(code.load(at(code, table, place, n, of=LANE), typ=LANE, align=4), INDEX)
            for n in range(ENTRY)
        ]
        return [value for n in (0, 2) for value in (at(code, columns, found[n], of=LANE), found[n + 1])]

    def _picture_rows(self, row: Value) -> Value:
        """Rows of the picture in a row of tiles."""
        code = self.code
        left = code.sub(self.height, code.mul(row, number(self.step)))
        return code.select(code.icmp_signed("<", left, number(self.step)), left, number(self.step))

    def _of_map(self, row: Value) -> Value:
        """Where a row of tiles begins in the map, from the ring's pixel on."""
        return at(self.code, self.map, self.row, (row, self.tile_row))

    def _kept(self, layer: Value, row: Value) -> Value:
        """Where a row of tiles of a layer's result is kept."""
        code = self.code
        place = code.add(code.mul(layer, number(KEPT_ROWS)), code.urem(row, number(KEPT_ROWS)))
        return at(code, self.kept, (place, self.tile_row))

    def _rows_of_map(self, row: Value) -> tuple[Value, Value, Value]:
        """The rows above, here and below that a convolution reads; at the map's edges they are its ring."""
        code = self.code
        here = self._of_map(row)
        return at(code, here, (self.row, -1)), here, at(code, here, self.tile_row)

    def _rows_kept(self, layer: Value, row: Value) -> tuple[Value, Value, Value]:
        """The same of what is kept; the zeros beyond the picture are the map's first row."""
        code = self.code
        over, under = code.sub(row, number(1)), code.add(row, number(1))
        last = at(code, self._kept(layer, over), (self.row, self.step - 1))
        top = code.icmp_signed("==", row, number(0))
        bottom = code.icmp_signed("==", under, self.down)
        return (
            code.select(top, self.map, last),
            self._kept(layer, row),
            code.select(bottom, self.map, self._kept(layer, under)),
        )

    def _pixel(self, row: Value) -> Value:
        """The first pixel of the picture in a row that begins with the ring's."""
        return at(self.code, row, self.cell)
