"""Corrections that are no coding error: text written into the picture, signs, whatever the networks have not met.

An encoder's error is about as large as its quantizer's step. A network that has seen nothing but cameras' pictures
takes the strokes of a clock that is written into them for ringing, and changes them by several steps. Where that
happens the network does not know what it sees: nothing of its correction is taken there, and a part of it beside.
By `bench/overlays.py`, text is left as it was decoded, and what cameras record loses nothing.
"""

import numpy as np
from numpy.typing import NDArray

from carfix.video.luma import Luma

#: Corrections of more steps of the quantizer than this are less trusted, of twice as many not at all.
STEPS = 1.0
#: The quantizer whose bound is taken where a stream tells none: coarse video loses 0.02 dB at most by it.
UNKNOWN = 34.0
#: Side of the blocks that corrections are looked at in.
BLOCK = 8
#: H.264's quantizer whose step is a code of 8 bits, and by how much it grows until the step is twice as large.
_STEP_OF_ONE, _DOUBLES = 4, 6


def bound_of(quantizer: float) -> float:
    """8-bit codes up to which a correction is trusted at an H.264 quantizer (ITU-T H.264: steps double every 6)."""
    return float(STEPS * 2 ** ((quantizer - _STEP_OF_ONE) / _DOUBLES))


def in_codes(bound: float | None, bit_depth: int) -> float | None:
    """A bound in 8-bit codes in those of `bit_depth`."""
    return None if bound is None else bound * (1 << (bit_depth - 8))


def trusted(decoded: Luma, restored: Luma, bound: float) -> Luma:
    """`restored` with corrections larger than `bound`, in codes, taken back with what surrounds them.

    Planes `[H, W]`; neither is written to.
    """
    largest = _largest(decoded, restored)
    if largest.max() <= bound:
        return restored
    taken = np.clip(2 - _around(largest.astype(np.float32), np.maximum) / bound, 0, 1)
    shares = _around(taken, np.add) / 9
    result = restored.copy()
    for row in np.flatnonzero(shares.min(axis=1) < 1):
        lines = slice(row * BLOCK, (row + 1) * BLOCK)
        share = shares[row].repeat(BLOCK)[: decoded.shape[1]]
        part = decoded[lines].astype(np.float32)
        part += np.rint((restored[lines] - part) * share)
        result[lines] = part
    return result


def _largest(decoded: Luma, restored: Luma) -> Luma:
    """The largest change in each block, `[H / BLOCK, W / BLOCK]`, those at the far borders being what is left."""
    change = np.maximum(decoded, restored)
    change -= np.minimum(decoded, restored)
    height, width = change.shape
    whole = height // BLOCK * BLOCK
    # Five times as fast as `reduceat`, which along a row has no equal.
    rows = change[:whole].reshape(-1, BLOCK, width).max(axis=1)
    if whole < height:
        rows = np.concatenate([rows, change[whole:].max(axis=0, keepdims=True)])
    found: Luma = np.maximum.reduceat(rows, np.arange(0, width, BLOCK), axis=1)
    return found


def _around(blocks: NDArray[np.float32], combine: np.ufunc) -> NDArray[np.float32]:
    """Each block combined with its neighbours, eight or, at the border, as if it went on."""
    padded = np.pad(blocks, 1, mode="edge")
    down = combine(combine(padded[:-2], padded[1:-1]), padded[2:])
    found: NDArray[np.float32] = combine(combine(down[:, :-2], down[:, 1:-1]), down[:, 2:])
    return found
