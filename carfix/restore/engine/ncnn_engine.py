"""The ncnn engine: Winograd convolutions on a CPU, about twice eager PyTorch."""

import os
import tempfile
from pathlib import Path

import ncnn
import numpy as np

from carfix.errors import CarfixError
from carfix.net.checkpoint import Model
from carfix.restore.engine import Planes
from carfix.restore.engine.ncnn_graph import INPUT, OUTPUT, write_graph
from carfix.restore.engine.planes import OutOfMemory, WindowedEngine, to_codes, to_unit
from carfix.restore.windows import Window

#: Side of a window: the feature maps of one layer stay in the caches.
TILE = 256


class NcnnEngine(WindowedEngine):
    """Runs one window after another, each on all threads, in fp32."""

    def __init__(
        self, model: Model, *, tile: int | None, batch: int | None, threads: int | None = None
    ) -> None:
        super().__init__(model, tile=tile or TILE, batch=batch or 1)
        count = threads or available_cores()
        text, weights = write_graph(model.net)
        net = ncnn.Net()
        net.opt.use_vulkan_compute = False
        net.opt.num_threads = count
        net.opt.use_fp16_packed = net.opt.use_fp16_storage = net.opt.use_fp16_arithmetic = False
        net.opt.use_bf16_storage = False
        # By way of a file: from memory, ncnn would keep pointing into Python's buffer.
        with tempfile.TemporaryDirectory(prefix="carfix-") as folder:
            path = Path(folder) / "weights.bin"
            path.write_bytes(weights)
            if net.load_param_mem(text) != 0 or net.load_model(str(path)) != 0:
                raise CarfixError(f"ncnn refused the network {model.description.name}; try --precision bf16")
        self._net = net
        self.description = f"ncnn on cpu, {count} threads, fp32"

    def run(self, codes: Planes, found: list[Window], bit_depth: int) -> Planes:
        """See `WindowedEngine.run`."""
        result = np.empty_like(codes)
        for n, plane in enumerate(codes):
            for window in found:
                rows, columns = window.rows, window.columns
                unit = to_unit(plane[rows.start : rows.stop, columns.start : columns.stop], bit_depth)
                restored = self._infer(unit)[
                    rows.keep_start - rows.start : rows.keep_stop - rows.start,
                    columns.keep_start - columns.start : columns.keep_stop - columns.start,
                ]
                result[n, rows.keep_start : rows.keep_stop, columns.keep_start : columns.keep_stop] = (
                    to_codes(restored, bit_depth)
                )
        return result

    def _infer(self, unit: np.ndarray) -> np.ndarray:
        extractor = self._net.create_extractor()
        extractor.input(INPUT, ncnn.Mat(np.ascontiguousarray(unit[None])))
        status, output = extractor.extract(OUTPUT)
        if status != 0:
            raise OutOfMemory(
                f"ncnn could not compute a window of {unit.shape[1]}x{unit.shape[0]} (status {status})"
            )
        restored: np.ndarray = np.array(output)[0]
        return restored


def available_cores() -> int:
    """Cores that this process may use: containers and `taskset` give fewer than the machine has."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
