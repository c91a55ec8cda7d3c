"""What the engines of a CPU share: windows of a batch of frames, each computed by one thread of a crew."""

import abc
import math
from collections.abc import Callable

import numpy as np
import torch

from carfix.net.arch import Config, margin
from carfix.net.checkpoint import Model
from carfix.restore.engine import Planes, Strengths
from carfix.restore.engine.allocator import keep_freed_memory
from carfix.restore.engine.crew import Crew, available_threads
from carfix.restore.engine.fused import FusedNet
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

#: Bytes of one layer's feature map in a window. The maps of a window come and go in the caches of its core; far larger
#: ones run at the speed of memory, far smaller windows compute the same borders over and over.
MAP_BYTES = 4 << 20
#: Side of a window in margins, at least: half of what it computes is kept.
LEAST_MARGINS = 8
#: Cells in a row of a window in 16 bit, at most, and margins that it has all the same: oneDNN's convolutions for AMX
#: lose a fifth of their speed with 256 cells or more, and nearly half with some odd numbers of them (fp32: nothing).
MOST_CELLS_16_BIT = 248
MARGINS_16_BIT = 6
#: Frames asked for at once, at most: with one a thread, all threads finish together even where batches are waited for.
MOST_FRAMES = 4
#: Windows a thread, at least, of batches behind the one that is waited for: each thread always finds another, also
#: while the oldest batch is handed on and a new one is fetched.
WINDOWS_AHEAD = 2


#: A window `[H, W]` in [-1, 1], which stays as it is, to the restored one; called from several threads at once.
#: Raises `OutOfMemory`.
Network = Callable[[Floats], Floats]


class CpuEngine(WindowedEngine):
    """One window a thread; subclasses say how a window is computed."""

    def __init__(
        self, model: Model, *, tile: int | None, batch: int | None, threads: int | None, itemsize: int
    ) -> None:
        keep_freed_memory()
        self._crew = Crew(threads or available_threads())
        super().__init__(
            model,
            tile=tile or usual_tile(model.net.config, itemsize),
            batch=batch or min(self._crew.count, MOST_FRAMES),
        )
        self._windows = self._crew.count * WINDOWS_AHEAD  # of the last batch

    @property
    def threads(self) -> int:
        """Windows that are computed at once."""
        return self._crew.count

    @property
    def depth(self) -> int:
        """See `Overlapping.depth`."""
        return 1 + math.ceil(self._crew.count * WINDOWS_AHEAD / self._windows)

    @abc.abstractmethod
    def network(self, height: int, width: int) -> Network:
        """What computes windows of this size; called from one thread at a time."""

    def submit(self, planes: Planes, bit_depth: int, strengths: Strengths | None = None) -> "Batch":
        """See `Overlapping.submit`."""
        cut = self.cut(planes)
        wait = self._begin(cut.codes, cut.found, bit_depth, strengths)

        def again(error: OutOfMemory) -> Planes:
            self.shrink(cut, error)
            return self.restore(planes, bit_depth, strengths)

        return Batch(lambda: cut.back(wait()), again)

    def run(self, codes: Planes, found: list[Window], bit_depth: int, strengths: Strengths | None) -> Planes:
        """See `WindowedEngine.run`."""
        return self._begin(codes, found, bit_depth, strengths)()

    def _begin(
        self, codes: Planes, found: list[Window], bit_depth: int, strengths: Strengths | None
    ) -> Callable[[], Planes]:
        result = np.empty_like(codes)
        first = found[0]
        network = self.network(first.rows.stop - first.rows.start, first.columns.stop - first.columns.start)
        count = len(codes) * len(found)
        self._windows = max(1, count)

        def window(number: int) -> None:
            n, place = divmod(number, len(found))
            rows, columns = found[place].rows, found[place].columns
            unit = to_unit(codes[n, rows.start : rows.stop, columns.start : columns.stop], bit_depth)
            try:
                restored = moved(unit, network(unit), share_of(strengths, n))
            except MemoryError as error:
                raise OutOfMemory(str(error)) from error
            except RuntimeError as error:
                # torch's allocator for the CPU has no type of its own for this.
                if "can't allocate memory" in str(error) or "not enough memory" in str(error):
                    raise OutOfMemory(str(error)) from error
                raise
            kept = restored[
                rows.keep_start - rows.start : rows.keep_stop - rows.start,
                columns.keep_start - columns.start : columns.keep_stop - columns.start,
            ]
            result[n, rows.keep_start : rows.keep_stop, columns.keep_start : columns.keep_stop] = to_codes(
                kept, bit_depth
            )

        wait = self._crew.begin(window, count)

        def finish() -> Planes:
            wait()
            return result

        return finish

    def close(self) -> None:
        """See `Engine.close`."""
        self._crew.close()


class Batch:
    """A batch under way on a CPU."""

    def __init__(self, wait: Callable[[], Planes], again: Callable[[OutOfMemory], Planes]) -> None:
        self._wait, self._again = wait, again

    def result(self) -> Planes:
        """See `Pending.result`. Raises as `Engine.restore` does."""
        try:
            return self._wait()
        except OutOfMemory as error:
            return self._again(error)


class FusedEngine(CpuEngine):
    """The network through oneDNN, in fp32 or bf16."""

    def __init__(
        self,
        model: Model,
        *,
        precision: str,
        tile: int | None = None,
        batch: int | None = None,
        threads: int | None = None,
    ) -> None:
        dtype = {"fp32": torch.float32, "bf16": torch.bfloat16}[precision]
        super().__init__(model, tile=tile, batch=batch, threads=threads, itemsize=dtype.itemsize)
        self._net = FusedNet(model.net, dtype)
        self.description = f"torch on cpu, {self.threads} threads, {precision}"

    def network(self, height: int, width: int) -> Network:
        """See `CpuEngine.network`."""
        net = self._net.packed_for(height, width)

        def compute(unit: Floats) -> Floats:
            restored: Floats = net(torch.from_numpy(unit)).numpy()
            return restored

        return compute


def usual_tile(config: Config, itemsize: int) -> int:
    """Side of a window in pixels for a network whose activations take `itemsize` bytes."""
    pixels = MAP_BYTES * config.scale**2 // (config.features * itemsize)
    side = max(math.isqrt(pixels), LEAST_MARGINS * margin(config))
    if itemsize == torch.bfloat16.itemsize:
        side = min(side, max(MOST_CELLS_16_BIT * config.scale, MARGINS_16_BIT * margin(config)))
    return side // config.scale * config.scale
