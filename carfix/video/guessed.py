"""Presentation times that a file does not state, or states wrongly, guessed from their neighbours'."""

from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

from carfix.video.clock import LARGEST_GAP

#: How many packets later than a frame's own those are decoded at most (H.264 and HEVC: 16) that are shown before it.
_REORDERED = 17


def filled(times: NDArray[np.int64], known: NDArray[np.bool_], step: int, start: int) -> NDArray[np.int64]:
    """`times` with those that are not known a step behind the ones before them, the first one at `start`."""
    times = times.copy()
    for index in np.nonzero(~known)[0].tolist():
        times[index] = times[index - 1] + step if index else start
    return times


def slots_of(dts: NDArray[np.int64], step: int) -> NDArray[np.int64]:
    """Decoding times, and `_REORDERED` more behind the end, `step` apart: frames are shown when others are decoded."""
    return np.concatenate([dts, dts[-1] + step * np.arange(1, _REORDERED + 1)])


def delay_of(pts: NDArray[np.int64], known_pts: NDArray[np.bool_], slots: NDArray[np.int64]) -> int:
    """How many slots later the first frame is shown than decoded; 0 where none of the first frames tells.

    FFmpeg states the times of frames that others do not wait for (B-frames): of those decoded before the first one, all
    but the last are shown before it.
    """
    told = np.nonzero(known_pts[:_REORDERED])[0]
    if not len(told):
        return 0
    first = int(told[0])
    nearest = int(np.abs(slots - pts[first]).argmin())  # steps are whole ticks, and frames not
    delay = nearest - max(0, first - 1)
    return delay if 0 <= delay < _REORDERED else 0


def mend(
    pts: NDArray[np.int64],
    dts: NDArray[np.int64],
    known_pts: NDArray[np.bool_],
    known_dts: NDArray[np.bool_],
    tick: Fraction,
    step: int,
) -> int:
    """Guess presentation times that are missing or impossibly far from decoding; returns how many were damaged.

    Not its own decoding time bounds a frame's, but that of what is decoded until it is shown: in a time lapse of a
    frame every 30 s that waits for two others, or behind a pause of minutes that a recorder made between two events,
    it is shown that much later than it is decoded.
    """
    delay = pts - dts
    gap = int(LARGEST_GAP / tick)
    # Behind the end it may go on as slowly as anywhere in the last packets.
    slowest = int(np.diff(dts[-_REORDERED - 1 :]).max(initial=0))
    latest = slots_of(dts, slowest)[_REORDERED:]
    stray = ~known_pts | (known_dts & ((delay < -gap) | (pts - latest > gap)))
    if not stray.any():
        return 0
    sane = known_dts & ~stray
    usual = int(np.median(delay[sane])) if sane.any() else 0
    slots = slots_of(dts, step)
    damaged = 0
    for index in np.nonzero(stray)[0].tolist():
        near = slice(max(0, index - _REORDERED), index + _REORDERED + 1)
        free = _left(slots[index : index + _REORDERED + 1], pts[near][~stray[near]], step, first=index == 0)
        pts[index] = dts[index] + usual if free is None else free
        stray[index] = False
        # Program streams need not state every time: DVDs leave them out where the neighbours tell.
        damaged += int(known_pts[index] or not known_dts[index] or free is None)
    return damaged


def _left(slots: NDArray[np.int64], taken: NDArray[np.int64], step: int, *, first: bool) -> int | None:
    """Of `slots` the one that is left when its neighbours have `taken` theirs; None where it is not told."""
    if not len(taken):
        return None
    free = slots[(np.abs(slots[:, None] - taken) >= max(1, step / 2)).all(axis=1)]
    for sides in (
        free[(free > taken.min()) & (free < taken.max())],
        free[free < taken.min()][-1:] if first else free[free > taken.max()],  # at an end of the stream
    ):
        if len(sides):
            return int(sides[0])
    return None
