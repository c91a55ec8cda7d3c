"""A whole network as machine code with AMX instructions, for windows of any size."""

import ctypes
import dataclasses
import functools
from collections.abc import Callable

from llvmlite import ir

from carfix.restore.engine.amx.cells import write_cells
from carfix.restore.engine.amx.kernels import Body, Head, Layout, Tail
from carfix.restore.engine.amx.tiles import FLOATS, TILE, Tiles
from carfix.restore.engine.llvm import linking
from carfix.restore.engine.llvm.codes import write_entrance, write_exit
from carfix.restore.engine.llvm.linking import CODE_BITS
from carfix.restore.engine.llvm.schedule import Kernels, Layer, write_schedule
from carfix.restore.engine.llvm.vectors import POINTER, Code, Vectors


@dataclasses.dataclass(frozen=True)
class Shape:
    """What machine code is made for."""

    features: int  # channels of the body, in sixteens
    blocks: int
    scale: int
    slope: float
    inner: bool  # a convolution more before and behind the blocks, as CAR-CNN has

    @property
    def layouts(self) -> tuple[Layout, Layout, Layout]:
        """Of the head, which reads each pixel in two numbers, the body and the tail."""
        cell = self.scale**2
        return (
            Layout(cell, self.features),
            Layout(self.features // 2, self.features),
            Layout(self.features // 2, cell),
        )

    @functools.cached_property
    def layers(self) -> list[Layer]:
        """The convolutions, in order; places count units of four bytes."""
        head, body, tail = self.layouts
        layers: list[Layer] = []
        for layout in (head, *[body] * (2 * self.blocks + (2 if self.inner else 0)), tail):
            start = layers[-1].stop if layers else 0
            steps, groups = len(layout.steps), layout.groups
            biases = start + steps * groups * TILE
            layers.append(Layer(steps, layout.units, groups, start, biases, biases + groups * TILE))
        return layers


@dataclasses.dataclass(frozen=True)
class MachineCode:
    """Functions that any number of threads may call, each with memory of its own.

    The network is called between `begin` and `end`, which keep the thread's configuration of tiles in 64 bytes.
    """

    common: linking.MachineCode
    cells: Callable[..., None]
    begin: Callable[[int], None]
    end: Callable[[int], None]


_CELLS = ctypes.CFUNCTYPE(None, *[ctypes.c_void_p] * 2, *[ctypes.c_int64] * 4)
_CONFIGURE = ctypes.CFUNCTYPE(None, ctypes.c_void_p)


def compiled(shape: Shape) -> MachineCode:
    """Machine code for networks of this shape. Raises `RuntimeError` or `OSError` where none can be made or run."""
    with linking.compiling:
        return _compiled(shape)


@functools.cache
def _compiled(shape: Shape) -> MachineCode:
    engine = linking.kept(shape, lambda: written(shape))
    return MachineCode(
        common=linking.functions_of(engine),
        cells=_CELLS(engine.get_function_address("cells")),
        begin=_CONFIGURE(engine.get_function_address("begin")),
        end=_CONFIGURE(engine.get_function_address("end")),
    )


def written(shape: Shape) -> ir.Module:
    """The network in LLVM's intermediate code."""
    module = ir.Module("carfix")
    tiles, vectors = Tiles(module), Vectors(module, FLOATS)
    for name, instruction in (("begin", tiles.configure), ("end", tiles.restore)):
        function = ir.Function(module, ir.FunctionType(ir.VoidType(), [POINTER]), name)
        code: Code = ir.IRBuilder(function.append_basic_block())
        instruction(code, function.args[0])
        code.ret_void()
    entrance, body, exit_ = shape.layouts
    head = Head(module, "head", layout=entrance, slope=shape.slope)
    plain, residual = (
        Body(module, name, layout=body, slope=shape.slope, residual=adds)
        for name, adds in (("plain", False), ("residual", True))
    )
    tail = Tail(module, "tail", layout=exit_, scale=shape.scale)
    for kernel in (head, plain, residual, tail):
        kernel.write()
    kernels = Kernels(head, plain, residual, tail, step=1, cell=body.units, scale=shape.scale)
    write_schedule(module, shape.layers, kernels, inner=shape.inner)
    write_cells(module, shape.scale)
    for bits in CODE_BITS:
        write_entrance(module, vectors, bits)
        write_exit(module, vectors, bits)
    return module
