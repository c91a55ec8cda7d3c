"""Plans for frame sizes, found by timing on the device and kept, so that a resumed run computes the same way."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from carfix.net.config import margin
from carfix.restore.engine.autotune import Plan, Task, fastest, geometries
from carfix.restore.engine.cuda_check import agree, output_of
from carfix.restore.engine.cuda_program import COMPILED, EAGER, HOPPER, Batch, Builder, is_out_of_memory
from carfix.restore.engine.cuda_streams import seconds_of
from carfix.restore.engine.torch_engine import DTYPES
from carfix.restore.engine.tune_cache import TuneCache
from carfix.restore.windows import smallest_tile

#: Timing of a candidate: seconds a round, rounds.
_ROUND = 0.05
_ROUNDS = 3
#: Memory of devices that do not tell: a 1080p frame of the full network goes through whole.
_UNKNOWN_MEMORY = 4 << 30


class Tuner:
    """The planner of a `CudaEngine`."""

    def __init__(
        self,
        builder: Builder,
        *,
        frames: int,
        tile: int | None,
        fixed: bool,
        identity: Mapping[str, Any],
        cache: TuneCache,
        variants: tuple[str, ...] | None = None,
    ) -> None:
        """`fixed`: the user said how to cut, only variants are timed. `variants`: None for those that work here."""
        self._builder = builder
        self._frames = frames
        self._tile = tile
        self._fixed = fixed
        self._identity = identity
        self._cache = cache
        self._variants = variants or builder.variants()
        assert self._variants[0] == EAGER  # against which the others are checked

    def __call__(self, height: int, width: int) -> Plan:
        """The plan for frames of this size, in whole cells."""
        task = self._task(height, width)
        if len(self._variants) == 1 and (self._fixed or self._builder.device.type != "cuda"):
            return Plan(*geometries(task)[0], self._variants[0])
        key = {
            **self._identity,
            "size": [height, width],
            "frames": self._frames,
            "tile": self._tile,
            "fixed": self._fixed,
        }
        return self._cache.get_or_find(key, lambda fields: self._read(fields, task), lambda: self._find(task))

    def _task(self, height: int, width: int) -> Task:
        device, config = self._builder.device, self._builder.config
        return Task(
            height=height,
            width=width,
            frames=self._frames,
            config=config,
            margin=margin(config),
            itemsize=DTYPES[self._builder.precision].itemsize,
            memory=free_memory(device),
            cache=torch.cuda.get_device_properties(device).L2_cache_size if device.type == "cuda" else 0,
            tile=self._tile,
            fixed=self._fixed,
        )

    def _read(self, fields: Any, task: Task) -> Plan:  # noqa: ANN401 - JSON
        plan = Plan(int(fields["tile"]), int(fields["windows"]), str(fields["variant"]))
        if (
            plan.tile < smallest_tile(task.margin, task.config.scale)
            or plan.windows < 1
            or plan.variant not in self._variants
        ):
            raise ValueError(f"{plan} cannot be used here")
        return plan

    def _find(self, task: Task) -> Plan:
        usual: dict[Batch, NDArray[np.int64]] = {}  # what torch itself makes of each geometry
        unusable: set[str] = set()
        works: set[str] = set()

        def time(variant: str, count: int, height: int, width: int) -> float | None:
            batch = Batch(count, height, width, 8)
            if variant in unusable or (HOPPER in works and variant not in (EAGER, HOPPER)):
                return None  # the others reach half of its speed, and take their time to be built
            try:
                program = self._builder.build(variant, batch)
                output = output_of(program, self._builder)
                if variant == EAGER:
                    usual[batch] = output
                elif batch not in usual or not agree(output, usual[batch]):
                    return None
                works.add(variant)
                return seconds_of(program, self._builder.queues, least=_ROUND, rounds=_ROUNDS)
            except Exception as error:
                if isinstance(error, RuntimeError) and is_out_of_memory(error):
                    return None
                if variant == EAGER:
                    raise
                unusable.add(variant)  # a compiler that fails here: there are other ways
                return None
            finally:
                self._builder.queues.synchronize()
                if self._builder.device.type == "cuda":
                    torch.cuda.empty_cache()

        return fastest(task, self._variants, (COMPILED,), time)


def free_memory(device: torch.device) -> int:
    """Bytes that this process can still get on `device`, within the fraction that it was allowed."""
    if device.type != "cuda":
        return _UNKNOWN_MEMORY
    free, total = torch.cuda.mem_get_info(device)
    fraction_of = getattr(torch.cuda, "get_per_process_memory_fraction", None)  # torch 2.8 and later
    allowed = int((fraction_of(device) if fraction_of is not None else 1.0) * total)
    reserved = torch.cuda.memory_reserved(device)
    return within(free, allowed, reserved, torch.cuda.memory_allocated(device))


def within(free: int, allowed: int, reserved: int, allocated: int) -> int:
    """What the device has free, or the process is still allowed, and what its allocator holds unused."""
    return max(0, min(free, allowed - reserved)) + reserved - allocated
