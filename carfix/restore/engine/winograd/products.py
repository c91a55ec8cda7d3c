"""The products between two transforms, in LLVM's code: a block of tiles times the weights, product by product.

In fp32, or in 16-bit integers with sums of 32 bits: an instruction multiplies twice as many of those. Pairs of input
channels lie in four bytes then, and what a number stands for is a scale a product and channel
(`carfix.restore.engine.winograd.scales`).
"""

import abc
import dataclasses
from collections.abc import Sequence
from typing import ClassVar

from carfix.restore.engine.llvm.integers import Integers
from carfix.restore.engine.llvm.vectors import (
    LINE,
    Code,
    Numbers,
    Value,
    Vectors,
    at,
    carried,
    loop,
    number,
    rounded_up,
)

#: Steps of the innermost loop of a matrix product that are written out.
_UNROLLED = 8
#: Tiles that are multiplied at once where fewer are left than registers have room for.
_FEWER = (12, 6, 3)
#: Units between the matrices of a block of tiles, so that they do not all begin at the same place of a cache's sets.
_APART = 16


@dataclasses.dataclass(frozen=True)
class Blocking:
    """How a convolution uses registers and caches."""

    lanes: int  # fp32 in a vector
    registers: int  # vectors
    block: int  # tiles that are transformed and multiplied together: they stay in the L2 cache
    fused: bool = False  # whether an instruction multiplies pairs of integers and adds to a sum (VNNI)

    def shape(self, channels: int) -> tuple[int, int]:
        """Tiles and vectors of output channels whose sums are in registers at once.

        Each step of a product loads these vectors of weights and broadcasts a number a tile, for tiles times vectors
        multiplications: registers for the weights and a number are left. Whole blocks are so many tiles.
        """
        vectors = next(n for n in (2, 1) if channels // self.lanes % n == 0)
        most = (self.registers - 1 - vectors) // vectors
        return next(n for n in range(most, 0, -1) if self.block % n == 0), vectors


def slot(channels: int, block: int) -> int:
    """Units from one matrix of a block of tiles to the next."""
    return block * channels + _APART


def behind_biases(outputs: int) -> tuple[int, int]:
    """Units from a layer's biases to its factors, and to its scales; each begin with a cache line."""
    return rounded_up(outputs, LINE), 2 * rounded_up(outputs, LINE)


class Products(abc.ABC):
    """How transformed tiles are kept, multiplied and taken back; places count units of four bytes."""

    #: Vectors of input channels that are kept at once.
    together: ClassVar[int]
    #: Input channels in a unit.
    packed: ClassVar[int]

    def __init__(self, vectors: Vectors, blocking: Blocking, *, inputs: int, outputs: int) -> None:
        self.vectors, self.blocking = vectors, blocking
        self.numbers = self.multiplied(vectors)
        self.units, self.outputs = inputs // self.packed, outputs
        self.slot = slot(max(inputs, outputs), blocking.block)

    @abc.abstractmethod
    def multiplied(self, vectors: Vectors) -> Numbers:
        """Vectors of units and of sums, as long as `vectors`."""

    @abc.abstractmethod
    def keep(self, code: Code, values: Sequence[Value], target: Value, scales: Value) -> Value | None:
        """Put `together` vectors of channels at `target`; `scales` are those of their product and channels.

        Returns what was kept, for `note`; None where all numbers can be kept as they are.
        """

    def note(self, code: Code, kept: Sequence[Value], extremes: Value) -> None:  # noqa: B027 - fp32 has nothing to note
        """Note the largest and smallest of what was `kept` at `extremes`: at an end of the range it was cut down."""

    @abc.abstractmethod
    def taken(self, code: Code, sums: Value) -> Value:
        """The vector of sums at `sums` in fp32."""

    @abc.abstractmethod
    def finished(self, code: Code, value: Value, factor: Value, bias: Value) -> Value:
        """A vector of results, from their sums transformed back and what lies at `factor` and `bias`."""

    @abc.abstractmethod
    def _multiply_add(self, code: Code, factor: Value, weights: Value, total: Value) -> Value:
        """`total` and the product."""

    def multiply(self, code: Code, product: Value, count: Value, scratch: Value, weights: Value) -> None:
        """`count` tiles of a block times a matrix of weights, from slot product + 1 of `scratch` into slot product."""
        most, wide = self.blocking.shape(self.outputs)
        factors = at(code, scratch, self.slot, (product, self.slot))
        sums = at(code, scratch, (product, self.slot))
        weights = at(code, weights, (product, self.units * self.outputs))
        sizes = [n for n in (most, *_FEWER) if n <= most and most % n == 0]
        with loop(code, 0, self.outputs, wide * self.vectors.lanes) as output:
            start: Value = number(0)
            for tiles in sizes:
                left = code.sub(count, start)
                if tiles == sizes[-1]:  # what is computed beyond the last tile lies within the block
                    left = code.add(left, number(tiles - 1))
                stop = code.add(start, code.sub(left, code.urem(left, number(tiles))))
                with loop(code, start, stop, tiles) as first:
                    totals = self._sums(
                        code, at(code, factors, (first, self.units)), at(code, weights, output), tiles, wide
                    )
                    into = at(code, sums, output, (first, self.outputs))
                    for n, total in enumerate(totals):
                        place = at(code, into, n // wide * self.outputs + n % wide * self.vectors.lanes)
                        self.numbers.store(code, total, place)
                start = stop

    def _sums(self, code: Code, factors: Value, weights: Value, tiles: int, wide: int) -> list[Value]:
        """Sums over the input channels, held in registers, by tile and vector of output channels."""
        lanes = self.vectors.lanes
        steps = next(n for n in range(min(_UNROLLED, self.units), 0, -1) if self.units % n == 0)

        def add(unit: Value, totals: list[Value]) -> list[Value]:
            totals = list(totals)
            for step in range(steps):
                w = [
                    self.numbers.load(code, at(code, weights, (unit, self.outputs), step * self.outputs + n))
                    for n in range(0, wide * lanes, lanes)
                ]
                for tile in range(tiles):
                    factor = self.numbers.broadcast(code, at(code, factors, unit, tile * self.units + step))
                    for n in range(wide):
                        place = tile * wide + n
                        totals[place] = self._multiply_add(code, factor, w[n], totals[place])
            return totals

        return carried(code, self.units, steps, [self.numbers.constant(0)] * (tiles * wide), add)


class FloatProducts(Products):
    """In fp32, which has neither scales nor factors."""

    together = 1
    packed = 1

    def multiplied(self, vectors: Vectors) -> Vectors:
        """See `Products.multiplied`."""
        return vectors

    def keep(self, code: Code, values: Sequence[Value], target: Value, scales: Value) -> None:
        """See `Products.keep`."""
        self.vectors.store(code, values[0], target)

    def taken(self, code: Code, sums: Value) -> Value:
        """See `Products.taken`."""
        return self.vectors.load(code, sums)

    def finished(self, code: Code, value: Value, factor: Value, bias: Value) -> Value:
        """See `Products.finished`."""
        return code.fadd(value, self.vectors.load(code, bias))

    def _multiply_add(self, code: Code, factor: Value, weights: Value, total: Value) -> Value:
        return self.vectors.multiply_add(code, factor, weights, total)


class IntegerProducts(Products):
    """In integers of 16 bits, by the instructions of x86; sums of 32 bits, which no input makes run over."""

    together = 2
    packed = 2

    numbers: Integers

    def multiplied(self, vectors: Vectors) -> Integers:
        """See `Products.multiplied`."""
        return Integers(vectors.module, vectors.lanes)

    def keep(self, code: Code, values: Sequence[Value], target: Value, scales: Value) -> Value:
        """See `Products.keep`. What is too large for 16 bits is the largest that is not."""
        integers = self.numbers
        found = [
            integers.rounded(code, value, self.vectors.load(code, at(code, scales, n * self.vectors.lanes)))
            for n, value in enumerate(values)
        ]
        narrowed = integers.narrowed(code, *found)
        integers.store(code, narrowed, target)
        return narrowed

    def note(self, code: Code, kept: Sequence[Value], extremes: Value) -> None:
        """See `Products.note`."""
        integers = self.numbers
        for place, sign in ((extremes, ">"), (at(code, extremes, self.vectors.lanes), "<")):
            found = code.bitcast(integers.load(code, place), integers.short)
            for values in kept:
                found = code.select(code.icmp_signed(sign, values, found), values, found)
            integers.store(code, found, place)

    def taken(self, code: Code, sums: Value) -> Value:
        """See `Products.taken`."""
        return code.sitofp(self.numbers.load(code, sums), self.vectors.type)

    def finished(self, code: Code, value: Value, factor: Value, bias: Value) -> Value:
        """See `Products.finished`."""
        vectors = self.vectors
        return vectors.multiply_add(code, value, vectors.load(code, factor), vectors.load(code, bias))

    def _multiply_add(self, code: Code, factor: Value, weights: Value, total: Value) -> Value:
        products = self.numbers.products_of_pairs(code, factor, weights)
        # LLVM makes one instruction of both where there is one, and elsewhere takes sums apart for speed, until there
        # are more than registers.
        if self.blocking.fused:
            return code.add(total, products)
        return self.numbers.added_in_turn(code, total, products)
