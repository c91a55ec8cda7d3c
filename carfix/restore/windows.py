"""Tiling that cannot be seen: pure geometry of windows over a frame.

Every window of a frame has the same size and lies wholly inside the frame, so that the frame's own border meets
the network's own zero padding exactly as in whole-frame inference; at cut edges a window keeps only what the cut
cannot influence. Tiled output therefore equals whole-frame output.
"""

import dataclasses
import math

from carfix.errors import UsageError


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


def smallest_tile(margin: int, cell: int) -> int:
    """Side of the smallest window that keeps anything when it is cut on both sides."""
    return 2 * margin + cell


def spans(length: int, tile: int, *, margin: int, cell: int) -> list[Span]:
    """Spans of one axis of `length` pixels, none longer than `tile`; the kept parts tile the axis.

    `length` and `margin` are multiples of `cell`, the grid on which spans start. All spans are equally long, and
    no longer than their number needs. Raises `UsageError` if `tile` is too small to keep anything.
    """
    if tile >= length:
        return [Span(0, length, 0, length)]
    tile = tile // cell * cell
    if tile < smallest_tile(margin, cell):
        raise UsageError(
            f"a window of {tile} pixels is too small for this network: at least {smallest_tile(margin, cell)}"
        )
    count = math.ceil((length - 2 * margin) / (tile - 2 * margin))
    side = math.ceil((length - 2 * margin) / count / cell) * cell + 2 * margin
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
    """Windows of a frame of `height` x `width` pixels, both multiples of `cell`, row by row.

    Raises `UsageError` if `tile` is too small to keep anything.
    """
    columns = spans(width, tile, margin=margin, cell=cell)
    return [
        Window(row, column) for row in spans(height, tile, margin=margin, cell=cell) for column in columns
    ]
