"""Tiling that cannot be seen: pure geometry of windows over a frame.

Every window of a frame has the same size and lies wholly inside the frame, so that the frame's own border meets
the network's own zero padding exactly as in whole-frame inference; at cut edges a window keeps only what the cut
cannot influence. Tiled output therefore equals whole-frame output.
"""

import dataclasses
import math
from collections.abc import Sequence

from carfix.errors import UsageError

#: Rows and columns, for a plane `[H, W]`.
Part = tuple[slice, slice]


@dataclasses.dataclass(frozen=True)
class Span:
    """One axis of a window, in pixels of the frame: it reads [start, stop) and keeps [keep_start, keep_stop)."""

    start: int
    stop: int
    keep_start: int
    keep_stop: int


@dataclasses.dataclass(frozen=True)
class Window:
    """A rectangle that the network sees at once, and the part of it that is kept."""

    rows: Span
    columns: Span

    @property
    def size(self) -> tuple[int, int]:
        """Height and width, in pixels."""
        return self.rows.stop - self.rows.start, self.columns.stop - self.columns.start

    @property
    def read(self) -> Part:
        """What it reads of the frame."""
        return slice(self.rows.start, self.rows.stop), slice(self.columns.start, self.columns.stop)

    @property
    def kept(self) -> Part:
        """What it keeps, in the frame."""
        rows, columns = self.rows, self.columns
        return slice(rows.keep_start, rows.keep_stop), slice(columns.keep_start, columns.keep_stop)

    @property
    def kept_inside(self) -> Part:
        """The same, in the window itself."""
        rows, columns = self.rows, self.columns
        return (
            slice(rows.keep_start - rows.start, rows.keep_stop - rows.start),
            slice(columns.keep_start - columns.start, columns.keep_stop - columns.start),
        )


def smallest_tile(margin: int, cell: int) -> int:
    """Side of the smallest window that keeps anything when it is cut on both sides."""
    return 2 * margin + cell


def windows_across(length: int, tile: int, *, margin: int, cell: int) -> int:
    """Windows that one axis of `length` pixels needs if none is longer than `tile`.

    `length` and `margin` are multiples of `cell`, the grid on which windows start. Raises `UsageError` if `tile` is
    too small to keep anything.
    """
    if tile >= length:
        return 1
    tile = tile // cell * cell
    if tile < smallest_tile(margin, cell):
        raise UsageError(
            f"a window of {tile} pixels is too small for this network: at least {smallest_tile(margin, cell)}"
        )
    return math.ceil((length - 2 * margin) / (tile - 2 * margin))


def side_of(length: int, count: int, *, margin: int, cell: int) -> int:
    """Pixels of each of `count` windows over one axis, no more than that number needs; see `windows_across`."""
    return length if count == 1 else math.ceil((length - 2 * margin) / count / cell) * cell + 2 * margin


def spans(length: int, count: int, *, margin: int, cell: int) -> list[Span]:
    """`count` equally long spans of one axis of `length` pixels, or as many as do; the kept parts tile the axis."""
    side = side_of(length, count, margin=margin, cell=cell)
    found: list[Span] = []
    kept = 0
    while kept < length:
        start = max(0, min(kept - margin, length - side))
        stop = start + side
        keep_stop = length if stop == length else stop - margin
        found.append(Span(start, stop, kept, keep_stop))
        kept = keep_stop
    return found


def windows(height: int, width: int, tile: int, *, margin: int, cell: int) -> list[Window]:
    """Windows of a frame of `height` x `width` pixels, both multiples of `cell`, no longer than `tile` on any side.

    Raises `UsageError` if `tile` is too small to keep anything.
    """
    rows, columns = (windows_across(length, tile, margin=margin, cell=cell) for length in (height, width))
    return grid(height, width, rows, columns, margin=margin, cell=cell)


def grid(height: int, width: int, rows: int, columns: int, *, margin: int, cell: int) -> list[Window]:
    """`rows` x `columns` windows of a frame as in `windows`, row by row."""
    across = spans(width, columns, margin=margin, cell=cell)
    return [Window(row, column) for row in spans(height, rows, margin=margin, cell=cell) for column in across]


def window_size(found: Sequence[Window]) -> tuple[int, int]:
    """Height and width of the windows of a frame, all alike."""
    return found[0].size
