"""The engine for GPUs: static programs over windows, with upload, computation and download at the same time.

It runs on a CPU too, without streams and graphs, and then gives what the torch engine gives: so its code is tested
where there is no GPU.
"""

import dataclasses
import threading
from collections import OrderedDict
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from carfix.net.checkpoint import Model
from carfix.restore.engine import Planes, Strengths
from carfix.restore.engine.autotune import Plan
from carfix.restore.engine.cuda_program import COMPILED, EAGER, Batch, Builder, Program, is_out_of_memory
from carfix.restore.engine.cuda_streams import COMPUTE, DOWNLOAD, UPLOAD, Mark, Queues
from carfix.restore.engine.planes import WHOLE_FRAME, OutOfMemory, WindowedEngine, share_of
from carfix.restore.windows import Window, window_size

#: Batches of frames under way: while one is computed, the next is uploaded and the last downloaded.
DEPTH = 2
#: Programs kept: for full batches and for the last, of frames and of fields, which a stream may mix.
PROGRAMS = 4

#: The plan for frames of a height and width in whole cells.
Planner = Callable[[int, int], Plan]


class Pending:
    """A batch under way."""

    def __init__(self, restored: Planes, done: Mark) -> None:
        self._restored = restored  # in the slot's host buffer: not filled before `done`
        self._done: Mark | None = done
        self._taking = threading.Lock()

    def result(self) -> Planes:
        """The restored planes, waited for; whoever wants the slot may ask for them, too."""
        with self._taking:
            if self._done is not None:
                self._done.synchronize()
                self._restored = self._restored.copy()
                self._done = None
            return self._restored


class _Slot:
    """Host and device memory for one batch of frames under way."""

    def __init__(
        self, queues: Queues, device: torch.device, shape: tuple[int, ...], dtype: torch.dtype
    ) -> None:
        self.upload = queues.host_buffer(shape, dtype)
        self.download = queues.host_buffer(shape, dtype)
        with queues.on(COMPUTE):
            self.source = torch.empty(shape, dtype=dtype, device=device)
            self.result = torch.empty_like(self.source)
        self.pending: Pending | None = None

    def holds(self, shape: tuple[int, ...], dtype: torch.dtype) -> bool:
        """Whether frames of this shape and type go in."""
        return (
            self.source.dtype == dtype and self.source.shape[1:] == shape[1:] and len(self.source) >= shape[0]
        )


class CudaEngine(WindowedEngine):
    """Restores planes on one device; `submit` lets a caller prepare the next batch while this one is computed.

    Any number of threads may share one: two cameras and one GPU.
    """

    #: Batches that may be under way at once, for callers of `submit`.
    depth = DEPTH

    def __init__(
        self,
        model: Model,
        *,
        builder: Builder,
        planner: Planner,
        batch: int,
        tile: int | None,
        description: str,
    ) -> None:
        """`builder` makes the programs, `planner` says how a size is cut; `tile` only bounds what it may say."""
        super().__init__(model, tile=tile or WHOLE_FRAME, batch=batch)
        self.description = description
        self._builder = builder
        self._queues = builder.queues
        self._planner = planner
        self._plans: dict[tuple[int, int], Plan] = {}
        self._plan: Plan | None = None
        self._programs: OrderedDict[tuple[str, Batch], Program] = OrderedDict()
        self._slots: list[_Slot | None] = [None] * DEPTH
        self._turn = 0
        self._under_way: Mark | None = None
        self._queueing = threading.RLock()  # held by the thread that plans or queues a batch

    def plan(self, height: int, width: int) -> Plan:
        """How frames of this size are computed; found on first use."""
        size = self.whole_cells(height, width)
        with self._queueing:
            if size not in self._plans:
                self._drop_programs()  # a planner that times programs shall find the memory that there is
                self._plans[size] = self._planner(*size)
            return self._plans[size]

    def submit(self, planes: Planes, bit_depth: int, strengths: Strengths | None = None) -> Pending:
        """Begin restoring `planes` (see `Engine.restore`) and return before it is done.

        Results are the same as `restore`'s and may be asked for in any order. At most `depth` batches are under
        way: a further one waits for the oldest. `planes` may be overwritten at once. Raises as `restore` does.
        """
        with self._queueing:
            return self._submit(planes, bit_depth, strengths)

    def _submit(self, planes: Planes, bit_depth: int, strengths: Strengths | None) -> Pending:
        plan = self.plan(*planes.shape[1:])
        self._plan, self._tile = plan, plan.tile
        view = super().restore(planes, bit_depth, strengths)  # of host memory that is filled later
        if self._tile != plan.tile:  # memory ran out
            self._plans[self.whole_cells(*planes.shape[1:])] = dataclasses.replace(plan, tile=self._tile)
        assert self._under_way is not None
        pending = Pending(view, self._under_way)
        slot = self._slots[self._turn]
        assert slot is not None
        slot.pending = pending
        self._turn = (self._turn + 1) % DEPTH
        return pending

    def restore(self, planes: Planes, bit_depth: int, strengths: Strengths | None = None) -> Planes:
        """See `Engine.restore`; more planes than `batch` go through in parts."""
        if not len(planes):
            return planes.copy()
        parts = [
            self.submit(planes[part], bit_depth, None if strengths is None else strengths[part])
            for part in (slice(first, first + self.batch) for first in range(0, len(planes), self.batch))
        ]
        results = [part.result() for part in parts]
        return results[0] if len(results) == 1 else np.concatenate(results)  # type: ignore[return-value] # numpy's stubs lose the type

    @torch.no_grad()
    def run(self, codes: Planes, found: list[Window], bit_depth: int, strengths: Strengths | None) -> Planes:
        """Queue everything for `codes` and return the host memory that will hold the result."""
        try:
            return self._run(codes, found, bit_depth, strengths)
        except RuntimeError as error:
            if not is_out_of_memory(error):
                raise
            self._free()
            raise OutOfMemory(str(error)) from error

    def _run(self, codes: Planes, found: list[Window], bit_depth: int, strengths: Strengths | None) -> Planes:
        assert self._plan is not None
        at_once = windows_at_once(self._plan, len(codes) * len(found))
        batch = Batch(at_once, *window_size(found), bit_depth)
        slot = self._slot(codes.shape, batch.dtype)
        program = self._program(self._plan.variant, batch)
        count = len(codes)
        bits = codes if codes.dtype == np.uint8 else codes.view(np.int16)
        np.copyto(slot.upload[:count].numpy(), bits)
        with self._queues.on(UPLOAD):
            slot.source[:count].copy_(slot.upload[:count], non_blocking=True)
        with self._queues.on(COMPUTE, after=self._queues.mark(UPLOAD)):
            tasks = [(n, w) for n in range(count) for w in found]
            _compute(program, slot.source, slot.result, tasks, strengths)
        with self._queues.on(DOWNLOAD, after=self._queues.mark(COMPUTE)):
            slot.download[:count].copy_(slot.result[:count], non_blocking=True)
        self._under_way = self._queues.mark(DOWNLOAD)
        view: Planes = slot.download[:count].numpy().view(codes.dtype)
        return view

    def _slot(self, shape: tuple[int, ...], dtype: torch.dtype) -> _Slot:
        slot = self._slots[self._turn]
        if slot is not None and slot.pending is not None:
            slot.pending.result()  # its memory is wanted
            slot.pending = None
        if slot is None or not slot.holds(shape, dtype):
            self._slots[self._turn] = None
            # Memory that the allocator gives again may still be read by what was queued with its former owner.
            self._queues.synchronize()
            wanted = (max(shape[0], self.batch), *shape[1:])
            slot = self._slots[self._turn] = _Slot(self._queues, self._builder.device, wanted, dtype)
        return slot

    def _program(self, variant: str, batch: Batch) -> Program:
        key = (variant, batch)
        if key not in self._programs:
            if len(self._programs) >= PROGRAMS:
                self._queues.synchronize()
                self._programs.popitem(last=False)
            try:
                program = self._build(variant, batch)
            except RuntimeError as error:
                if not self._programs or not is_out_of_memory(error):
                    raise
                self._drop_programs()  # those for other batches hold memory, too
                program = self._build(variant, batch)
            self._programs[key] = program
        self._programs.move_to_end(key)
        return self._programs[key]

    def _build(self, variant: str, batch: Batch) -> Program:
        try:
            return self._builder.build(variant, batch)
        except Exception as error:
            # A variant that was chosen in another run may miss its compiler in this one: it differs in speed alone.
            if variant == EAGER or (isinstance(error, RuntimeError) and is_out_of_memory(error)):
                raise
            return self._builder.build(EAGER, batch)

    def _drop_programs(self) -> None:
        self._queues.synchronize()
        self._programs.clear()
        if self._builder.device.type == "cuda":
            torch.cuda.empty_cache()

    def _free(self) -> None:
        """Give back everything that is not needed by batches under way."""
        self._drop_programs()
        for turn, slot in enumerate(self._slots):
            if slot is not None:
                if slot.pending is not None:
                    slot.pending.result()
                self._slots[turn] = None
        if self._builder.device.type == "cuda":
            torch.cuda.empty_cache()

    def close(self) -> None:
        """See `Engine.close`."""
        with self._queueing:
            self._free()


def windows_at_once(plan: Plan, count: int) -> int:
    """Windows of the program for `count` of them: the plan's, or the next power of two for a few.

    The last batch of a video and calls with single frames shall not pay for full ones. A compiled program is kept to
    one shape: another costs minutes.
    """
    if plan.variant == COMPILED:
        return plan.windows
    return min(plan.windows, 1 << (count - 1).bit_length())


def _compute(
    program: Program,
    source: Tensor,
    result: Tensor,
    tasks: list[tuple[int, Window]],
    strengths: Strengths | None,
) -> None:
    """Windows of `source` through the program into `result`; the last batch is filled with what was there before."""
    size = len(program.input)
    for first in range(0, len(tasks), size):
        some = tasks[first : first + size]
        for place, (n, w) in enumerate(some):
            program.input[place].copy_(source[n, *w.read])
            # A fill takes its value along: no buffer of the host that must outlive the call.
            program.strengths[place].fill_(share_of(strengths, n))
        program()
        for place, (n, w) in enumerate(some):
            result[n, *w.kept] = program.output[place, *w.kept_inside]
