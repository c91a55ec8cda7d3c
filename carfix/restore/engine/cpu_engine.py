"""What the engines of a CPU share: windows of a batch of frames, each computed by one thread of a crew."""

import abc
import contextlib
import math
from collections.abc import Callable, Iterator
from typing import ClassVar

import numpy as np

from carfix.cpu import available_threads
from carfix.net.checkpoint import Model
from carfix.restore.engine import Planes, Strengths, Wanted, WantedParts
from carfix.restore.engine.allocator import keep_freed_memory
from carfix.restore.engine.cpu_grid import Frame, Grid, usual
from carfix.restore.engine.crew import Crew
from carfix.restore.engine.planes import (
    WHOLE_FRAME,
    Floats,
    OutOfMemory,
    WindowedEngine,
    moved,
    share_of,
    to_codes,
    to_unit,
)
from carfix.restore.windows import Window, window_size

#: Frames asked for at once, at most: with one a thread, all threads finish together even where batches are waited for.
MOST_FRAMES = 4
#: Windows a thread, at least, of batches behind the one that is waited for: each thread always finds another, also
#: while the oldest batch is handed on and a new one is fetched.
WINDOWS_AHEAD = 2


#: A window `[H, W]` in [-1, 1], which stays as it is, to the restored one; called from several threads at once.
#: Raises `OutOfMemory`.
Network = Callable[[Floats], Floats]
#: Codes of a window `[H, W]`, their bit depth, the share of the correction, the part that is kept and which pixels are
#: wanted (None: all; others may come out as anything), to that part restored; called from several threads at once.
#: Raises `OutOfMemory` or `MemoryError`.
WindowRestorer = Callable[[Planes, int, float, tuple[slice, slice], Wanted | None], Planes]


class CpuEngine(WindowedEngine):
    """One window a thread; subclasses say how a window is computed."""

    #: What takes windows from its threads.
    crew: ClassVar[type[Crew]] = Crew

    def __init__(
        self, model: Model, *, tile: int | None, batch: int | None, threads: int | None, itemsize: int
    ) -> None:
        keep_freed_memory()
        self._crew = self.crew(threads or available_threads())
        super().__init__(
            model,
            tile=tile or WHOLE_FRAME,
            batch=batch or min(self._crew.count, MOST_FRAMES),
        )
        self._itemsize = itemsize
        self._grids: dict[tuple[int, int], Grid] = {}  # planned, by size in whole cells
        self._windows = self._crew.count * WINDOWS_AHEAD  # of the last batch

    @property
    def threads(self) -> int:
        """Windows that are computed at once."""
        return self._crew.count

    @property
    def depth(self) -> int:
        """See `Overlapping.depth`."""
        return 1 + math.ceil(self._crew.count * WINDOWS_AHEAD / self._windows)

    def windows_of(self, height: int, width: int, alone: int | None = None) -> list[Window]:
        """See `WindowedEngine.windows_of`: as was planned, or as usual, unless the user or the memory bounds them.

        A few planes are cut finer than that if there would be threads without a window at the end.
        """
        if self.tile < WHOLE_FRAME:
            return super().windows_of(height, width)
        frame = self._frame(height, width)
        grid = self._grids.get((height, width)) or usual(frame)
        if alone is not None and alone * grid.rows * grid.columns % self.threads:
            grid = usual(frame, math.ceil(self.threads / alone))
        return frame.cut(grid)

    def _frame(self, height: int, width: int) -> Frame:
        return Frame(height, width, self.model.config, self._itemsize)

    @abc.abstractmethod
    def restorer(self, height: int, width: int) -> WindowRestorer:
        """What restores windows of this size; called from one thread at a time."""

    def submit(self, planes: Planes, bit_depth: int, strengths: Strengths | None = None) -> "Batch":
        """See `Overlapping.submit`."""
        return self.submit_parts(planes, bit_depth, strengths, None)

    def submit_parts(
        self, planes: Planes, bit_depth: int, strengths: Strengths | None, wanted: WantedParts | None
    ) -> "Batch":
        """See `Selective.submit_parts`."""
        cut = self.cut(planes)
        wait = self._begin(cut.codes, cut.found, bit_depth, strengths, wanted)

        def again(error: OutOfMemory) -> Planes:
            self.shrink(cut, error)
            return self.restore(planes, bit_depth, strengths)

        return Batch(lambda: cut.back(wait()), again)

    def run(self, codes: Planes, found: list[Window], bit_depth: int, strengths: Strengths | None) -> Planes:
        """See `WindowedEngine.run`."""
        return self._begin(codes, found, bit_depth, strengths)()

    def _begin(
        self,
        codes: Planes,
        found: list[Window],
        bit_depth: int,
        strengths: Strengths | None,
        wanted: WantedParts | None = None,
    ) -> Callable[[], Planes]:
        result = np.empty_like(codes)
        restorer = self.restorer(*window_size(found))
        count = len(codes) * len(found)
        self._windows = max(1, count)

        def window(number: int) -> None:
            n, place = divmod(number, len(found))
            cut = found[place]
            part = None if wanted is None else wanted[n]
            with out_of_memory_told():
                if part is not None:
                    part = _within(part, cut)
                    if not part.any():
                        result[n, *cut.kept] = codes[n, *cut.kept]
                        return
                result[n, *cut.kept] = restorer(
                    codes[n, *cut.read], bit_depth, share_of(strengths, n), cut.kept_inside, part
                )

        wait = self._crew.begin(window, count)

        def finish() -> Planes:
            wait()
            return result

        return finish

    def close(self) -> None:
        """See `Engine.close`."""
        self._crew.close()


def _within(wanted: Wanted, window: Window) -> Wanted:
    """What is wanted of a plane in the part of a window that is kept: of the whole window, `[H, W]`."""
    if wanted.shape == window.size:
        return wanted
    part = np.zeros(window.size, wanted.dtype)
    # Rows and columns that fill up the last cells are beyond the plane, and nobody's.
    found = wanted[window.kept]
    part[window.kept_inside][: found.shape[0], : found.shape[1]] = found
    return part


def in_floats(network: Network) -> WindowRestorer:
    """What restores windows by a network that knows nothing of codes."""

    def restore(
        codes: Planes, bit_depth: int, share: float, kept: tuple[slice, slice], wanted: Wanted | None
    ) -> Planes:
        unit = to_unit(codes, bit_depth)
        return to_codes(moved(unit, network(unit), share)[kept], bit_depth)

    return restore


@contextlib.contextmanager
def out_of_memory_told() -> Iterator[None]:
    """Raises `OutOfMemory` for what numpy and torch raise in the block when there is no memory left."""
    try:
        yield
    except MemoryError as error:
        raise OutOfMemory(str(error)) from error
    except RuntimeError as error:
        # torch's allocator for the CPU has no type of its own for this.
        if "can't allocate memory" in str(error) or "not enough memory" in str(error):
            raise OutOfMemory(str(error)) from error
        raise


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
