"""Between luma codes and the networks' range, and the tiling of whole planes: what all engines share."""

import abc
import dataclasses

import numpy as np
from numpy.typing import NDArray

from carfix.errors import CarfixError, UsageError
from carfix.net.checkpoint import Model
from carfix.net.config import margin
from carfix.restore.engine import Planes, Strengths
from carfix.restore.windows import Window, smallest_tile, window_size, windows

#: A side that no frame reaches: windows are as large as the engine likes.
WHOLE_FRAME = 1 << 16

Floats = NDArray[np.float32]


class OutOfMemory(Exception):
    """The device could not hold a window; nothing of the batch was kept."""


@dataclasses.dataclass(frozen=True)
class Cut:
    """Planes made ready for `WindowedEngine.run`."""

    codes: Planes  # [N, H, W], whole cells
    found: list[Window]  # of one plane
    tile: int  # that they were cut with
    shape: tuple[int, ...]  # of the planes as they came

    def back(self, restored: Planes) -> Planes:
        """What `run` returned, of the size as it came."""
        return restored[:, : self.shape[1], : self.shape[2]]


def check_tile(model: Model, tile: int) -> None:
    """Raise `UsageError` if windows with sides of `tile` are too small for a network."""
    least = smallest_tile(margin(model.config), model.config.scale)
    if tile < least:
        raise UsageError(f"--tile {tile} is too small for {model.description.name}: at least {least}")


class WindowedEngine(abc.ABC):
    """An engine that runs equally sized windows; subclasses say how one batch of them is computed."""

    description: str
    batch: int

    def __init__(self, model: Model, *, tile: int, batch: int) -> None:
        self.model = model
        self.batch = batch
        self._cell = model.config.scale
        self._margin = margin(model.config)
        check_tile(model, tile)
        self._tile = tile

    @property
    def tile(self) -> int:
        """Side of a window in pixels, at most; shrinks when memory runs out."""
        return self._tile

    @abc.abstractmethod
    def run(self, codes: Planes, found: list[Window], bit_depth: int, strengths: Strengths | None) -> Planes:
        """Restore codes `[N, H, W]`, H and W multiples of the cell, window by window.

        Raises `OutOfMemory` if a window did not fit; `codes` are then as they were.
        """

    def restore(self, planes: Planes, bit_depth: int, strengths: Strengths | None = None) -> Planes:
        """See `Engine.restore`."""
        while True:
            cut = self.cut(planes, alone=True)
            try:
                return cut.back(self.run(cut.codes, cut.found, bit_depth, strengths))
            except OutOfMemory as error:
                self.shrink(cut, error)

    def cut(self, planes: Planes, *, alone: bool = False) -> Cut:
        """Planes `[N, H, W]` as `run` takes them, in windows of the present size.

        `alone` if no other batch is under way beside them.
        """
        codes = _padded(planes, self._cell)
        count, height, width = codes.shape
        return Cut(codes, self.windows_of(height, width, count if alone else None), self._tile, planes.shape)

    def windows_of(self, height: int, width: int, alone: int | None = None) -> list[Window]:
        """How planes of this size, in whole cells, are cut at present; `alone` if there are only so many."""
        return windows(height, width, self._tile, margin=self._margin, cell=self._cell)

    def whole_cells(self, height: int, width: int) -> tuple[int, int]:
        """The size that planes have once their last row and column are repeated up to whole cells."""
        return height + -height % self._cell, width + -width % self._cell

    def shrink(self, cut: Cut, error: OutOfMemory) -> None:
        """Halve the windows, unless it was done since `cut`. Raises `CarfixError` where they are the smallest."""
        if self._tile < cut.tile:
            return
        # Half of what was really used: a tile larger than the frame has shrunk nothing yet.
        halved = min(self._tile, max(window_size(cut.found))) // 2
        least = smallest_tile(self._margin, self._cell)
        if self._tile == least:
            raise CarfixError(
                f"out of memory even with the smallest window of {least} pixels; free some memory, or on a GPU use "
                "--device cpu"
            ) from error
        self._tile = max(halved, least)

    def close(self) -> None:  # noqa: B027 - most engines hold nothing that Python does not free
        """See `Engine.close`."""


def _padded(planes: Planes, cell: int) -> Planes:
    """The frame's last row and column repeated up to whole cells; rows lie in memory one behind the other."""
    bottom, right = -planes.shape[1] % cell, -planes.shape[2] % cell
    if bottom or right:  # `np.pad` keeps a transposed array's order
        planes = np.pad(planes, ((0, 0), (0, bottom), (0, right)), mode="edge")  # type: ignore[assignment] # numpy's stubs lose the type
    return np.ascontiguousarray(planes)  # type: ignore[return-value] # numpy's stubs lose the type


def to_unit(codes: Planes, bit_depth: int) -> Floats:
    """Codes to [-1, 1]."""
    unit = codes.astype(np.float32)
    unit *= 2.0 / peak(bit_depth)
    unit -= 1.0
    return unit


def share_of(strengths: Strengths | None, plane: int) -> float:
    """The share of the correction that a plane takes."""
    return 1.0 if strengths is None else float(strengths[plane])


def moved(unit: Floats, restored: Floats, strength: float) -> Floats:
    """From `unit` towards `restored` by `strength`; beyond it if that is above 1. `to_codes` bounds the result."""
    if strength == 1.0:
        return restored
    return unit + np.float32(strength) * (restored - unit)


def to_codes(unit: Floats, bit_depth: int) -> Planes:
    """[-1, 1] to codes, rounded; overwrites `unit`."""
    unit += 1.0
    unit *= peak(bit_depth) / 2.0
    np.rint(unit, out=unit)
    np.clip(unit, 0, peak(bit_depth), out=unit)
    return unit.astype(np.uint8) if bit_depth == 8 else unit.astype(np.uint16)


def peak(bit_depth: int) -> int:
    """The largest code of `bit_depth` bits."""
    return (1 << bit_depth) - 1
