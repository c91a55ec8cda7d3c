"""The mean of what a network makes of a picture lying in several ways: a little better, several times as slow.

A network treats a picture and its mirror image alike only as far as training taught it to. What it does wrong differs
from one orientation to the next, and some of it is gone in the mean (Timofte et al., "Seven ways to improve
example-based single image super resolution", CVPR 2016; the "geometric self-ensemble" of Lim et al., EDSR, 2017).
"""

import dataclasses
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, TypeVar

import numpy as np

from carfix.errors import UsageError
from carfix.restore.engine import Engine, Planes, Strengths, Wanted, WantedParts
from carfix.restore.engine.overlap import begin, depth_of, prepare

if TYPE_CHECKING:
    from carfix.net.checkpoint import Model

Array = TypeVar("Array", Planes, Wanted)

#: How many orientations there may be, and which: whether a picture's sides are swapped and whether it is mirrored
#: first. Swapped sides are worth most beside the picture as it lies, upside down is worth least, since no training had
#: it, and all eight gain little more than these four (`bench/orientations.py`). Sizes take turns, as a GPU's two
#: batches under way do: memory for each need not be made anew.
WAYS: dict[int, tuple[tuple[bool, bool], ...]] = {
    1: ((False, False),),
    2: ((False, False), (True, False)),
    4: ((False, False), (True, False), (False, True), (True, True)),
}
#: Bits of the codes that a network gets and gives: each result is rounded, and so is their mean.
_BITS = 16


def check_ensemble(count: int) -> None:
    """Raises `UsageError` for a number of orientations that there is not."""
    if count not in WAYS:
        raise UsageError(f"--ensemble is {', '.join(map(str, WAYS))}, not {count!r}")


def in_orientations(engine: Engine, count: int) -> Engine:
    """`engine`, or what takes the mean of its results in `count` orientations, which `check_ensemble` allows."""
    return engine if count == 1 else Ensemble(engine, count)


@dataclasses.dataclass(frozen=True)
class _Mean:
    """A batch under way in several orientations."""

    begun: Sequence[Callable[[], Planes]]  # each waits for one, which lies as it came
    bit_depth: int
    dtype: np.dtype[np.uint8] | np.dtype[np.uint16]

    def result(self) -> Planes:
        """See `Pending.result`."""
        total = self.begun[0]().astype(np.uint32)
        for wait in self.begun[1:]:
            total += wait()
        mean = total * np.float32(_scale(self.bit_depth) / len(self.begun))
        restored: Planes = np.rint(mean, out=mean).astype(self.dtype)
        return restored


class Ensemble:
    """An engine that asks another one several times."""

    def __init__(self, engine: Engine, count: int) -> None:
        self._engine, self._ways = engine, WAYS[count]
        self.model: Model = engine.model
        self.batch = engine.batch
        self.description = f"{engine.description}, mean of {count} orientations"

    @property
    def depth(self) -> int:
        """See `Overlapping.depth`: each batch is several of the engine's."""
        return 2 if depth_of(self._engine) > 1 else 1

    def plan(self, height: int, width: int) -> None:
        """See `Planning.plan`."""
        for size in dict.fromkeys(
            (width, height) if swapped else (height, width) for swapped, _ in self._ways
        ):
            prepare(self._engine, *size)

    def restore(self, planes: Planes, bit_depth: int, strengths: Strengths | None = None) -> Planes:
        """See `Engine.restore`."""
        return self.submit(planes, bit_depth, strengths).result()

    def submit(self, planes: Planes, bit_depth: int, strengths: Strengths | None = None) -> _Mean:
        """See `Overlapping.submit`."""
        return self.submit_parts(planes, bit_depth, strengths, None)

    def submit_parts(
        self, planes: Planes, bit_depth: int, strengths: Strengths | None, wanted: WantedParts | None
    ) -> _Mean:
        """See `Selective.submit_parts`."""
        finer = np.rint(planes * np.float32(1 / _scale(bit_depth))).astype(np.uint16)
        begun = []
        for swapped, mirrored in self._ways:
            parts = wanted and [None if part is None else _turned(part, swapped, mirrored) for part in wanted]
            wait = begin(self._engine, _turned(finer, swapped, mirrored), _BITS, strengths, parts)
            begun.append(lambda wait=wait, way=(swapped, mirrored): _turned_back(wait(), *way))
        return _Mean(begun, bit_depth, planes.dtype)

    def close(self) -> None:
        """See `Engine.close`."""
        self._engine.close()


def _scale(bit_depth: int) -> float:
    """Codes of `bit_depth` bits in one of `_BITS`: the largest stand for the same."""
    return ((1 << bit_depth) - 1) / ((1 << _BITS) - 1)


def _turned(planes: Array, swapped: bool, mirrored: bool) -> Array:
    """`[..., H, W]`, mirrored left to right, then with its sides swapped."""
    seen = planes[..., ::-1] if mirrored else planes
    return np.ascontiguousarray(seen.swapaxes(-1, -2) if swapped else seen)  # type: ignore[return-value] # numpy's stubs lose the type


def _turned_back(planes: Planes, swapped: bool, mirrored: bool) -> Planes:
    seen = planes.swapaxes(-1, -2) if swapped else planes
    return seen[..., ::-1] if mirrored else seen
