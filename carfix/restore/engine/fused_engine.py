"""The fused engine: torch on a CPU through oneDNN, one window a thread."""

import dataclasses
import math
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch

from carfix.net.checkpoint import Model
from carfix.restore.engine.cpu_engine import CpuEngine, WindowRestorer, in_floats, out_of_memory_told
from carfix.restore.engine.cpu_grid import Grid, candidates, fastest
from carfix.restore.engine.crew import Crew
from carfix.restore.engine.fused import FusedNet
from carfix.restore.engine.machine import facts
from carfix.restore.engine.planes import WHOLE_FRAME, Floats, OutOfMemory
from carfix.restore.engine.tune_cache import TuneCache, cache_folder
from carfix.restore.windows import Window


class TorchCrew(Crew):
    """Threads of a crew with one torch thread each."""

    def begin(self, work: Callable[[int], None], count: int) -> Callable[[], None]:
        """See `Crew.begin`."""
        return super().begin(torch.inference_mode()(work), count)

    def _start(self) -> ThreadPoolExecutor:
        before = torch.get_num_threads()

        def alone() -> None:
            torch.set_num_threads(1)  # of this thread, and of threads started later
            torch.get_num_threads()  # what a thread has not asked for by then, it would take from everyone's below

        pool = self.pool(alone)
        torch.set_num_threads(before)  # again as it was for everyone else
        return pool


class FusedEngine(CpuEngine):
    """The network through oneDNN, in fp32 or bf16."""

    crew = TorchCrew

    def __init__(
        self,
        model: Model,
        *,
        precision: str,
        tile: int | None = None,
        batch: int | None = None,
        threads: int | None = None,
        cache: TuneCache | None = None,
    ) -> None:
        """`cache` keeps what `plan` finds; None: the user's."""
        dtype = {"fp32": torch.float32, "bf16": torch.bfloat16}[precision]
        super().__init__(model, tile=tile, batch=batch, threads=threads, itemsize=dtype.itemsize)
        self._net = FusedNet(model.net, dtype)
        self._precision = precision
        self._cache = cache if cache is not None else TuneCache(cache_folder())
        self.description = f"torch on cpu, {self.threads} threads, {precision}"

    def restorer(self, height: int, width: int) -> WindowRestorer:
        """See `CpuEngine.restorer`."""
        net = self._net.packed_for(height, width)

        def compute(unit: Floats) -> Floats:
            restored: Floats = net(torch.from_numpy(unit)).numpy()
            return restored

        return in_floats(compute)

    def plan(self, height: int, width: int) -> list[Window]:
        """The windows of frames of this size, from now on the fastest ones, found by timing once (see `Planning`).

        No code depends on windows here, so that a run may go on with others. Call it while nothing is under way.
        """
        size = self.whole_cells(height, width)
        if size not in self._grids and self.tile == WHOLE_FRAME:
            found = candidates(self._frame(*size))
            self._grids[size] = self._fastest(size, found) if len(found) > 1 else found[0]
        return self.windows_of(*size)

    def _fastest(self, size: tuple[int, int], found: list[Grid]) -> Grid:
        config = self.model.config
        key = {
            **facts(),
            "what": "windows",
            "network": [type(config).__name__, dataclasses.asdict(config)],
            "precision": self._precision,
            "threads": self.threads,
            "size": size,
        }
        return self._cache.get_or_find(
            key,
            lambda fields: found[found.index(Grid(int(fields["rows"]), int(fields["columns"])))],
            lambda: fastest(found, lambda grid: self._seconds(size, grid)),
        )

    def _seconds(self, size: tuple[int, int], grid: Grid) -> float:
        """What a frame takes in such windows: one of them on each thread at once, as in a restore."""
        height, width = self._frame(*size).window(grid)
        restorer = self.restorer(height, width)
        codes = np.random.default_rng(0).integers(0, 256, (height, width)).astype(np.uint8)

        def window(_: int) -> None:
            with out_of_memory_told():
                restorer(codes, 8, 1.0, (slice(None), slice(None)), None)

        began = time.perf_counter()
        try:
            self._crew.each(window, self.threads)
        except OutOfMemory:
            return math.inf
        return (time.perf_counter() - began) * grid.rows * grid.columns / self.threads
