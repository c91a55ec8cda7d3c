"""A whole network as machine code, for windows of any size."""

import dataclasses
import functools

from llvmlite import ir

from carfix.net.config import KERNEL
from carfix.restore.engine.llvm.codes import write_entrance, write_exit
from carfix.restore.engine.llvm.linking import CODE_BITS, MachineCode, compiling, functions_of, kept
from carfix.restore.engine.llvm.schedule import Kernels, write_schedule
from carfix.restore.engine.llvm.schedule import Layer as Place
from carfix.restore.engine.llvm.vectors import LINE, Vectors, rounded_up
from carfix.restore.engine.winograd.kernels import Body, Head, Method, Tail, scratch_size
from carfix.restore.engine.winograd.maps import Maps, numbers_in_unit
from carfix.restore.engine.winograd.products import (
    Blocking,
    FloatProducts,
    IntegerProducts,
    Products,
    behind_biases,
)
from carfix.restore.engine.winograd.transforms import Transform


@dataclasses.dataclass(frozen=True)
class Layer(Place):
    """A convolution's weights, and what integers are scaled by."""

    factors: int  # of results, `[outputs]`; where there are integers
    scales: int  # of inputs, `[matrices, inputs]`; the same


@dataclasses.dataclass(frozen=True)
class Shape:
    """What machine code is made for."""

    features: int  # channels of the body, whole vectors of them
    blocks: int
    scale: int
    slope: float
    inner: bool  # a convolution more before and behind the blocks, as CAR-CNN has
    transform: Transform
    blocking: Blocking
    integers: bool = False  # whether products are those of integers of 16 bits, and maps fp16

    @property
    def multiplied(self) -> type[Products]:
        """How products are computed."""
        return IntegerProducts if self.integers else FloatProducts

    @property
    def units(self) -> int:
        """Four bytes each, of a cell in a map."""
        return self.features // numbers_in_unit(half=self.integers)

    @property
    def cell(self) -> int:
        """Channels of the tail, whole vectors of them."""
        return rounded_up(self.scale**2, self.blocking.lanes)

    @functools.cached_property
    def layers(self) -> list[Layer]:
        """The convolutions, in order; weights and biases of each begin with a cache line."""
        products = self.transform.products
        body = 2 * self.blocks + (2 if self.inner else 0)
        sizes = [
            ((KERNEL * self.scale) ** 2, 1, self.features),
            *[(products, self.features, self.features)] * body,
            (products, self.features, self.cell),
        ]
        layers: list[Layer] = []
        for matrices, inputs, outputs in sizes:
            start = layers[-1].stop if layers else 0
            packed = self.multiplied.packed if layers else 1  # the head is computed in fp32
            biases = start + rounded_up(matrices * inputs // packed * outputs, LINE)
            factors, scales = (biases + units for units in behind_biases(outputs))
            stop = scales + rounded_up(matrices * inputs, LINE) if packed > 1 else factors
            layers.append(Layer(matrices, inputs, outputs, start, biases, stop, factors, scales))
        return layers

    @property
    def scratch(self) -> int:
        """Units of scratch."""
        most = max(self.features, self.cell)
        return scratch_size(self.transform, most, self.blocking, self.multiplied)


def compiled(shape: Shape) -> MachineCode:
    """Machine code for networks of this shape. Raises `RuntimeError` or `OSError` where none can be made or run."""
    with compiling:
        return _compiled(shape)


@functools.cache
def _compiled(shape: Shape) -> MachineCode:
    return functions_of(kept(shape, lambda: written(shape)), selective=True)


def written(shape: Shape) -> ir.Module:
    """The network in LLVM's intermediate code."""
    module = ir.Module("carfix")
    vectors = Vectors(module, shape.blocking.lanes)
    maps = Maps(vectors, half=shape.integers)
    method = Method(vectors, shape.transform, shape.blocking, shape.multiplied, maps)
    features, slope = shape.features, shape.slope
    head = Head(module, "head", method, scale=shape.scale, outputs=features, slope=slope)
    plain, residual = (
        Body(module, name, method, features=features, slope=slope, residual=adds)
        for name, adds in (("plain", False), ("residual", True))
    )
    tail = Tail(module, "tail", method, inputs=features, outputs=shape.cell, scale=shape.scale)
    for kernel in (head, plain, residual, tail):
        kernel.write()
    step, scale = shape.transform.outputs, shape.scale
    kernels = Kernels(head, plain, residual, tail, step=step, cell=shape.units, scale=scale, selective=True)
    write_schedule(module, shape.layers, kernels, inner=shape.inner)
    for bits in CODE_BITS:
        write_entrance(module, vectors, bits)
        write_exit(module, vectors, bits)
    return module
