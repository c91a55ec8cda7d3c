"""The kernels of `kernels.cu`, compiled for the GPU at hand and launched on torch's streams.

NVIDIA's run-time compiler and the driver are called through `cuda.bindings`, which comes with torch's builds for CUDA.
"""

import ctypes
import functools
from importlib import resources
from typing import Any

import torch
from cuda.bindings import driver, nvrtc
from torch import Tensor

from carfix.restore.engine.hopper.layout import STRIP

#: The code uses instructions that this generation alone has.
ARCHITECTURE = "sm_90a"
CAPABILITY = (9, 0)
#: Threads of a block of each kernel, and bytes of shared memory that `convolve` needs.
THREADS = {"convolve": 288, "head": 128, "tail": 128}
SHARED = 9 * 8192 + (7 + 2) * 17 * 1024 + 256
#: Columns and rows of a frame that a block of the first and of the last layer's kernel computes.
HEAD_BLOCK = 64, 36
TAIL_BLOCK = 62, 36
#: The same for the compiler.
SIZES = {
    "STRIP": STRIP,
    "HEAD_COLUMNS": HEAD_BLOCK[0],
    "HEAD_ROWS": HEAD_BLOCK[1],
    "TAIL_COLUMNS": TAIL_BLOCK[0],
    "TAIL_ROWS": TAIL_BLOCK[1],
    "CONVOLVE_THREADS": THREADS["convolve"],
    "SHARED": SHARED,
}


class Module:
    """The compiled kernels, for one device, type of maps and type of codes."""

    def __init__(self, device: torch.device, dtype: torch.dtype, code_bytes: int) -> None:
        """Raises `RuntimeError` if the compiler or the driver refuses."""
        self._device = device
        code = compiled(bfloat16=dtype == torch.bfloat16, code_bytes=code_bytes)
        with torch.cuda.device(device):
            torch.cuda.current_stream(device).synchronize()  # torch makes its context with the first call
            self._module = _checked(driver.cuModuleLoadData(code))
            self._functions = {
                name: _checked(driver.cuModuleGetFunction(self._module, name.encode())) for name in THREADS
            }
            attribute = driver.CUfunction_attribute.CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES
            _checked(driver.cuFuncSetAttribute(self._functions["convolve"], attribute, SHARED))
        self._processors = torch.cuda.get_device_properties(device).multi_processor_count

    def launch(
        self, name: str, grid: tuple[int, int, int] | None, *arguments: Tensor | int | float | None
    ) -> None:
        """Put a kernel on torch's present stream; `grid` None for one block on each multiprocessor.

        Tensors, which must be contiguous, are passed as their addresses, None as no address.
        """
        values, types = zip(*(_argument(each) for each in arguments), strict=True)
        stream = torch.cuda.current_stream(self._device).cuda_stream
        shared = SHARED if name == "convolve" else 0
        blocks = grid or (self._processors, 1, 1)
        _checked(
            driver.cuLaunchKernel(
                self._functions[name], *blocks, THREADS[name], 1, 1, shared, stream, (values, types), 0
            )
        )


@functools.cache
def module(device: torch.device, dtype: torch.dtype, code_bytes: int) -> Module:
    """Each is compiled once a process."""
    return Module(device, dtype, code_bytes)


def compiled(*, bfloat16: bool, code_bytes: int) -> bytes:
    """Machine code of `kernels.cu`, which needs no GPU. Raises `RuntimeError` with what the compiler says."""
    options = [f"--gpu-architecture={ARCHITECTURE}", f"-DCODE_BYTES={code_bytes}"]
    options += [f"-D{name}={value}" for name, value in SIZES.items()]
    if bfloat16:
        options.append("-DBFLOAT16")
    source = resources.files(__package__).joinpath("kernels.cu").read_bytes()
    program = _checked(nvrtc.nvrtcCreateProgram(source, b"kernels.cu", 0, [], []))
    try:
        (status,) = nvrtc.nvrtcCompileProgram(program, len(options), [each.encode() for each in options])
        if int(status):
            log = bytearray(_checked(nvrtc.nvrtcGetProgramLogSize(program)))
            _checked(nvrtc.nvrtcGetProgramLog(program, log))
            raise RuntimeError(f"the kernels cannot be compiled: {log.decode(errors='replace')}")
        code = bytearray(_checked(nvrtc.nvrtcGetCUBINSize(program)))
        _checked(nvrtc.nvrtcGetCUBIN(program, code))
    finally:
        nvrtc.nvrtcDestroyProgram(program)
    return bytes(code)


def _argument(value: Tensor | int | float | None) -> tuple[Any, Any]:
    if value is None:
        return 0, ctypes.c_void_p
    if isinstance(value, Tensor):
        assert value.is_contiguous()
        return value.data_ptr(), ctypes.c_void_p
    return value, ctypes.c_float if isinstance(value, float) else ctypes.c_int


def _checked(result: tuple[Any, ...]) -> Any:  # noqa: ANN401 - whatever the call gives
    status, *values = result
    if int(status):
        raise RuntimeError(f"{status!r} from the CUDA driver or its compiler")
    return values[0] if values else None
