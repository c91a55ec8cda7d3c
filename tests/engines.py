"""Engines whose results are known exactly, for tests of everything around the network."""

from pathlib import Path

import numpy as np
from networks import SMALL, describe

from carfix.net.arch import build
from carfix.net.tensors import model_of
from carfix.restore.engine import Planes, Strengths


class Adding:
    """Adds a constant to every code; counts the planes that it was given."""

    def __init__(self, add: int = 0, batch: int = 2) -> None:
        self.description = f"adds {add}"
        self.model = model_of(build(SMALL), describe(SMALL, f"adding-{add}"), Path("adding"))
        self.batch = batch
        self.add = add
        self.planes = 0
        self.shapes: list[tuple[int, ...]] = []
        self.closed = False

    def restore(self, planes: Planes, bit_depth: int, strengths: Strengths | None = None) -> Planes:
        self.planes += len(planes)
        self.shapes.append(planes.shape)
        peak = (1 << bit_depth) - 1
        return np.clip(planes.astype(np.int32) + self.add, 0, peak).astype(planes.dtype)

    def close(self) -> None:
        self.closed = True


class Failing(Adding):
    """Raises after a number of planes, as a backend that breaks down does."""

    def __init__(self, after: int, error: BaseException) -> None:
        super().__init__(0, batch=1)
        self._after = after
        self._error = error

    def restore(self, planes: Planes, bit_depth: int, strengths: Strengths | None = None) -> Planes:
        if self.planes >= self._after:
            raise self._error
        return super().restore(planes, bit_depth)


class Overlapped(Adding):
    """Computes when it is asked for a result, as late as a GPU may; knows how many batches were under way."""

    def __init__(self, add: int, batch: int, depth: int) -> None:
        super().__init__(add, batch)
        self.depth = depth
        self.under_way = 0
        self.most = 0

    def submit(self, planes: Planes, bit_depth: int, strengths: Strengths | None = None) -> "Late":
        self.under_way += 1
        self.most = max(self.most, self.under_way)
        return Late(self, planes.copy(), bit_depth)


class Late:
    """A batch under way."""

    def __init__(self, engine: Overlapped, planes: Planes, bit_depth: int) -> None:
        self._engine, self._planes, self._bit_depth = engine, planes, bit_depth

    def result(self) -> Planes:
        self._engine.under_way -= 1
        return self._engine.restore(self._planes, self._bit_depth)
