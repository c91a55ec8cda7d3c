"""What the engines share whose networks are machine code: windows of any size, memory for each thread."""

import abc
import dataclasses
import functools
import threading
from typing import Any, ClassVar

from carfix.errors import CarfixError
from carfix.net.checkpoint import Model
from carfix.restore.engine import Planes, Wanted
from carfix.restore.engine.cpu_engine import CpuEngine, WindowRestorer
from carfix.restore.engine.cpu_grid import Frame
from carfix.restore.engine.llvm.net import CompiledNet

#: Bytes of a window's map, at most: windows are as fast in maps of any size, and each thread has one. A 1080p frame of
#: the fast networks stays whole.
_MAP_BYTES = 128 << 20
#: Sizes of windows that a thread keeps memory for: frames and fields of a video.
_SIZES_KEPT = 2


class CompiledEngine(CpuEngine, abc.ABC):
    """Windows through a `CompiledNet`."""

    #: Bytes of an activation, and what the log calls the engine.
    itemsize: ClassVar[int]
    name: ClassVar[str]

    def __init__(
        self,
        model: Model,
        *,
        tile: int | None = None,
        batch: int | None = None,
        threads: int | None = None,
    ) -> None:
        """Raises `CarfixError` where no machine code can be made, or the system does not let it run."""
        super().__init__(model, tile=tile, batch=batch, threads=threads, itemsize=self.itemsize)
        try:
            self._net = self.compiled(model)
        except (RuntimeError, OSError, ValueError) as error:
            raise CarfixError(f"no machine code can be made here ({error}); use another engine") from error
        self._own = threading.local()
        library, precision = self.name.split()
        self.description = f"{library} on cpu, {self.threads} threads, {precision}"

    @abc.abstractmethod
    def compiled(self, model: Model) -> CompiledNet:
        """The network in machine code. Raises `RuntimeError`, `OSError` or `ValueError` where none can be made."""

    def _frame(self, height: int, width: int) -> Frame:
        return dataclasses.replace(
            super()._frame(height, width), quick_bytes=_MAP_BYTES, most_bytes=_MAP_BYTES
        )

    def restorer(self, height: int, width: int) -> WindowRestorer:
        """See `CpuEngine.restorer`."""
        return functools.partial(self._restore, (height, width))

    def _restore(
        self,
        size: tuple[int, int],
        codes: Planes,
        bit_depth: int,
        share: float,
        kept: tuple[slice, slice],
        wanted: Wanted | None,
    ) -> Planes:
        return self._net.restore(codes, bit_depth, share, kept, self._memory(size), wanted)

    def _memory(self, size: tuple[int, int]) -> Any:  # noqa: ANN401 - the network's own
        """This thread's, for windows of `size`. Raises `MemoryError`."""
        memories: dict[tuple[int, int], Any] = self._own.__dict__.setdefault("memories", {})
        if size not in memories:
            if len(memories) == _SIZES_KEPT:
                del memories[next(iter(memories))]
            memories[size] = self._net.memory(*size)
        return memories[size]
