"""From LLVM's intermediate code to functions of this process."""

import ctypes
import dataclasses
import functools
import threading
from collections.abc import Callable

import llvmlite
from llvmlite import binding, ir

from carfix.restore.engine.llvm.code_cache import made_once

#: Bits of the integers that codes lie in.
CODE_BITS = (8, 16)
#: LLVM's level of optimisation for choosing instructions and registers. Its other passes are left out: the code is
#: written as it should run, and they took as long again for nothing.
_LEVEL = 2


@dataclasses.dataclass(frozen=True)
class MachineCode:
    """Functions that any number of threads may call, each with memory of its own; see `Workspace` for that.

    For `network` see `carfix.restore.engine.llvm.schedule`; for `enter` and `leave`, by the bits of a code's
    integer, `carfix.restore.engine.llvm.codes`.
    """

    network: Callable[..., None]
    enter: dict[int, Callable[..., None]]
    leave: dict[int, Callable[..., None]]
    engine: binding.ExecutionEngine  # in whose memory they lie


_ADDRESS, _COUNT, _FLOAT = ctypes.c_void_p, ctypes.c_int64, ctypes.c_float
_NETWORK = ctypes.CFUNCTYPE(None, *[_ADDRESS] * 6, *[_COUNT] * 8)
_SELECTIVE = ctypes.CFUNCTYPE(None, *[_ADDRESS] * 6, *[_COUNT] * 8, *[_ADDRESS] * 2)
_ENTER = ctypes.CFUNCTYPE(None, *[_ADDRESS] * 2, *[_COUNT] * 4, _FLOAT)
_LEAVE = ctypes.CFUNCTYPE(None, *[_ADDRESS] * 3, *[_COUNT] * 5, *[_FLOAT] * 2)

#: LLVM compiles in one thread at a time.
compiling = threading.Lock()


def linked(module: ir.Module) -> binding.ExecutionEngine:
    """Machine code of `module` in this process. Raises `RuntimeError` or `OSError` where none can be made or run."""
    return _loaded(_object_of(module))


def kept(shape: object, write: Callable[[], ir.Module]) -> binding.ExecutionEngine:
    """`linked` for the module that `write` makes for `shape`, which its `repr` tells from others; kept from earlier
    processes on such a CPU. Raises as `linked` does.
    """
    cpu = binding.get_host_cpu_name(), sorted(host_features()), binding.get_default_triple()
    key = f"{type(shape).__module__} {shape!r} {cpu} {_LEVEL} {llvmlite.__version__} {binding.llvm_version_info}"
    return _loaded(made_once(key, lambda: _object_of(write())))


def _object_of(module: ir.Module) -> bytes:
    machine = target_machine()
    parsed = binding.parse_assembly(str(module))
    parsed.verify()
    code: bytes = machine.emit_object(parsed)
    return code


def _loaded(code: bytes) -> binding.ExecutionEngine:
    binding.check_jit_execution()
    engine = binding.create_mcjit_compiler(binding.parse_assembly(""), target_machine())
    engine.add_object_file(binding.ObjectFileRef.from_data(code))
    engine.finalize_object()
    return engine


def functions_of(engine: binding.ExecutionEngine, *, selective: bool = False) -> MachineCode:
    """The functions that all networks have; with `selective`, `network` is told which tiles to compute."""
    network = _SELECTIVE if selective else _NETWORK
    return MachineCode(
        network=network(engine.get_function_address("network")),
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
    binding.initialize_native_asmparser()  # for what is written as an instruction
