"""The ncnn engines: Winograd convolutions on a CPU, about twice eager PyTorch there; Vulkan on a GPU."""

import atexit
import functools
import gc
import weakref

import ncnn
import numpy as np

from carfix.errors import CarfixError, MissingPartError
from carfix.net.checkpoint import Model
from carfix.restore.engine import Planes, Strengths
from carfix.restore.engine.cpu_engine import CpuEngine, WindowRestorer, in_floats
from carfix.restore.engine.ncnn_graph import INPUT, OUTPUT, write_graph
from carfix.restore.engine.planes import (
    Floats,
    OutOfMemory,
    WindowedEngine,
    moved,
    share_of,
    to_codes,
    to_unit,
)
from carfix.restore.windows import Window
from carfix.scratch import scratch

#: Side of a window on a GPU, where drivers end a program that takes too long at a time.
VULKAN_TILE = 512
#: Bytes of an activation in fp32.
_ITEMSIZE = 4


class NcnnEngine(CpuEngine):
    """ncnn in fp32; it lets go of Python's lock while it computes."""

    def __init__(
        self,
        model: Model,
        *,
        tile: int | None = None,
        batch: int | None = None,
        threads: int | None = None,
    ) -> None:
        super().__init__(model, tile=tile, batch=batch, threads=threads, itemsize=_ITEMSIZE)
        self._net = _load(model, threads=1)
        self.description = f"ncnn on cpu, {self.threads} threads, fp32"

    def restorer(self, height: int, width: int) -> WindowRestorer:
        """See `CpuEngine.restorer`."""
        return in_floats(functools.partial(_infer, self._net))


class VulkanEngine(WindowedEngine):
    """ncnn on any GPU with a Vulkan driver, in fp32 or fp16, one window after another."""

    def __init__(self, model: Model, *, precision: str, tile: int | None, batch: int | None) -> None:
        """Raises `MissingPartError` if there is no Vulkan driver."""
        super().__init__(model, tile=tile or VULKAN_TILE, batch=batch or 1)
        device = vulkan_device()
        self._net = _load(model, threads=1, vulkan=True, half=precision == "fp16")
        _on_gpu.add(self)
        self.description = f"ncnn on vulkan ({device}), {precision}"

    def run(self, codes: Planes, found: list[Window], bit_depth: int, strengths: Strengths | None) -> Planes:
        """See `WindowedEngine.run`."""
        result = np.empty_like(codes)
        for n, plane in enumerate(codes):
            for window in found:
                unit = to_unit(plane[window.read], bit_depth)
                restored = _infer(self._net, unit)
                restored = moved(unit, restored, share_of(strengths, n))
                result[n, *window.kept] = to_codes(restored[window.kept_inside], bit_depth)
        return result

    def close(self) -> None:
        """See `Engine.close`."""
        self._net = None


def _load(model: Model, *, threads: int, vulkan: bool = False, half: bool = False) -> "ncnn.Net":
    text, weights = write_graph(model)
    net = ncnn.Net()
    net.opt.use_vulkan_compute = vulkan
    net.opt.num_threads = threads
    net.opt.use_fp16_packed = net.opt.use_fp16_storage = net.opt.use_fp16_arithmetic = half
    net.opt.use_bf16_storage = False
    # By way of a file: from memory, ncnn would keep pointing into Python's buffer.
    with scratch() as folder:
        path = folder / "weights.bin"
        path.write_bytes(weights)
        if net.load_param_mem(text) != 0 or net.load_model(str(path)) != 0:
            raise CarfixError(
                f"ncnn refused the network {model.description.name}; try --device cpu --precision bf16"
            )
    return net


def _infer(net: "ncnn.Net", unit: Floats) -> Floats:
    extractor = net.create_extractor()
    extractor.input(INPUT, ncnn.Mat(np.ascontiguousarray(unit[None])))
    status, output = extractor.extract(OUTPUT)
    if status != 0:
        raise OutOfMemory(
            f"ncnn could not compute a window of {unit.shape[1]}x{unit.shape[0]} (status {status})"
        )
    restored: Floats = np.array(output)[0]
    return restored


#: Engines whose networks lie on a GPU: they must go before ncnn lets go of it.
_on_gpu: weakref.WeakSet[VulkanEngine] = weakref.WeakSet()


@functools.cache
def vulkan_device() -> str:
    """The name of the GPU that ncnn takes. Raises `MissingPartError` if there is none, with the cure."""
    if not hasattr(ncnn, "create_gpu_instance"):
        raise MissingPartError(
            "this build of ncnn has no Vulkan; install ncnn from PyPI, or use --device cpu"
        )
    if ncnn.create_gpu_instance() != 0 or ncnn.get_gpu_count() == 0:
        raise MissingPartError(
            "no Vulkan device can be used here; install the GPU's Vulkan driver (on Debian and Ubuntu "
            "`apt-get install libvulkan1 mesa-vulkan-drivers`), or use --device cpu"
        )
    atexit.register(_release_gpu)
    name = ncnn.get_gpu_info(ncnn.get_default_gpu_index()).device_name
    return str(name() if callable(name) else name)


def _release_gpu() -> None:
    for engine in list(_on_gpu):
        engine.close()
    gc.collect()  # an extractor that an exception still holds
    ncnn.destroy_gpu_instance()
