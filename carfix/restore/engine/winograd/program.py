"""A whole network as machine code, for windows of any size."""

import ctypes
import dataclasses
import functools
import threading
from collections.abc import Callable

from llvmlite import binding, ir

from carfix.net.arch import KERNEL
from carfix.restore.engine.winograd.codes import write_entrance, write_exit
from carfix.restore.engine.winograd.kernels import Blocking, Body, Head, Method, Tail, scratch_size
from carfix.restore.engine.winograd.schedule import Kernels, Layer, write_schedule
from carfix.restore.engine.winograd.transforms import Transform
from carfix.restore.engine.winograd.vectors import LINE, Vectors, rounded_up

#: Bits of the integers that codes lie in.
CODE_BITS = (8, 16)
#: LLVM's level of optimisation for choosing instructions and registers. Its other passes are left out: the code is
#: written as it should run, and they took as long again for nothing.
_LEVEL = 2


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
            biases = start + rounded_up(matrices * inputs * outputs, LINE)
            layers.append(Layer(matrices, inputs, outputs, start, biases, biases + rounded_up(outputs, LINE)))
        return layers

    @property
    def scratch(self) -> int:
        """fp32 of scratch."""
        return scratch_size(self.transform, max(self.features, self.cell), self.blocking)


@dataclasses.dataclass(frozen=True)
class MachineCode:
    """Functions that any number of threads may call, each with memory of its own; see `Workspace` for that.

    For `network` see `carfix.restore.engine.winograd.schedule`; for `enter` and `leave`, by the bits of a code's
    integer, `carfix.restore.engine.winograd.codes`.
    """

    network: Callable[..., None]
    enter: dict[int, Callable[..., None]]
    leave: dict[int, Callable[..., None]]
    engine: binding.ExecutionEngine  # in whose memory they lie


_ADDRESS, _COUNT, _FLOAT = ctypes.c_void_p, ctypes.c_int64, ctypes.c_float
_NETWORK = ctypes.CFUNCTYPE(None, *[_ADDRESS] * 6, *[_COUNT] * 8)
_ENTER = ctypes.CFUNCTYPE(None, *[_ADDRESS] * 2, *[_COUNT] * 4, _FLOAT)
_LEAVE = ctypes.CFUNCTYPE(None, *[_ADDRESS] * 3, *[_COUNT] * 5, *[_FLOAT] * 2)

#: LLVM compiles in one thread at a time.
compiling = threading.Lock()


def compiled(shape: Shape) -> MachineCode:
    """Machine code for networks of this shape. Raises `RuntimeError` or `OSError` where none can be made or run."""
    with compiling:
        return _compiled(shape)


@functools.cache
def _compiled(shape: Shape) -> MachineCode:
    return functions_of(linked(written(shape)))


def linked(module: ir.Module) -> binding.ExecutionEngine:
    """Machine code of `module` in this process. Raises `RuntimeError` or `OSError` where none can be made or run."""
    machine = target_machine()
    binding.check_jit_execution()
    parsed = binding.parse_assembly(str(module))
    parsed.verify()
    engine = binding.create_mcjit_compiler(parsed, machine)
    engine.finalize_object()
    return engine


def functions_of(engine: binding.ExecutionEngine) -> MachineCode:
    """The functions that all networks have."""
    return MachineCode(
        network=_NETWORK(engine.get_function_address("network")),
        enter={bits: _ENTER(engine.get_function_address(f"enter{bits}")) for bits in CODE_BITS},
        leave={bits: _LEAVE(engine.get_function_address(f"leave{bits}")) for bits in CODE_BITS},
        engine=engine,
    )


def target_machine() -> binding.TargetMachine:
    """What LLVM makes code for: this CPU with all that it can."""
    _initialise()
    features = ",".join(("+" if has else "-") + name for name, has in _features().items())
    target = binding.Target.from_default_triple()
    return target.create_target_machine(cpu=binding.get_host_cpu_name(), features=features, opt=_LEVEL)


def host_features() -> frozenset[str]:
    """What this CPU can, by LLVM's names."""
    _initialise()
    return frozenset(name for name, has in _features().items() if has)


def _features() -> dict[str, bool]:
    try:
        return dict(binding.get_host_cpu_features())
    except RuntimeError:
        return {}  # a system that does not tell: what the CPU's name stands for


@functools.cache
def _initialise() -> None:
    binding.initialize_native_target()
    binding.initialize_native_asmprinter()


def written(shape: Shape) -> ir.Module:
    """The network in LLVM's intermediate code."""
    module = ir.Module("carfix")
    vectors = Vectors(module, shape.blocking.lanes)
    method = Method(vectors, shape.transform, shape.blocking)
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
    kernels = Kernels(head, plain, residual, tail, step=step, cell=features, scale=scale)
    write_schedule(module, shape.layers, kernels, inner=shape.inner)
    for bits in CODE_BITS:
        write_entrance(module, vectors, bits)
        write_exit(module, vectors, bits)
    return module
