"""Corrections that are no coding error: text written into the picture, signs, whatever the networks have not met.

An encoder's error is about as large as its quantizer's step. A network that has seen nothing but cameras' pictures
takes the strokes of a clock that is written into them for ringing, and changes them by several steps. Where that
happens the network does not know what it sees: nothing of its correction is taken there, and a part of it beside.
All networks that ship have been trained on text since, and need it less; what they have not met it still holds back,
and what cameras record loses nothing (`bench/overlays.py`, `bench/fit_bounds.py`).
"""

import dataclasses

import numpy as np
from numpy.typing import NDArray

from carfix.restore.engine import Wanted
from carfix.restore.hold import Hold
from carfix.video.luma import Luma

#: Corrections of more steps of the quantizer than this are less trusted, of twice as many not at all.
STEPS = 1.0
#: The quantizer whose bound is taken where a stream tells none and its frames are too small to be looked at: coarse
#: video loses 0.02 dB at most by it.
UNKNOWN = 34.0
#: 8-bit codes between neighbours below which a picture that looks coarse may be so, and from which it is not: what was
#: quantized coarsely has no such edges left, what was written into it afterwards has.
STEEP = (80.0, 130.0)
#: What was written into a coarse picture afterwards was quantized by the last encoder alone: at steep edges corrections
#: of more of its steps than this are less trusted. Below that, text that both encoders met gains far more than text
#: that only the last one met loses (`bench/fit_bounds.py`).
STEEP_STEPS = 6.0
#: Side of the blocks that corrections are looked at in.
BLOCK = 8
#: H.264's quantizer whose step is a code of 8 bits, and by how much it grows until the step is twice as large.
_STEP_OF_ONE, _DOUBLES = 4, 6


@dataclasses.dataclass(frozen=True)
class Bounds:
    """Codes up to which corrections are trusted: in general, and, at most as many, where neighbours differ as in no
    coarse picture."""

    usual: float
    steep: float
    bit_depth: int = 8

    def at(self, bit_depth: int) -> "Bounds":
        """The same in codes of `bit_depth`."""
        scale = float(1 << (bit_depth - self.bit_depth))
        return Bounds(self.usual * scale, self.steep * scale, bit_depth)


def bounds_of(level: float, told: float | None = None) -> Bounds:
    """In 8-bit codes, for a picture of an H.264 quantizer, of which the stream tells `told` (None: the same).

    What looks coarser than it is told was encoded twice. Text that was written into it between the two is crisp, and
    its errors are those of the finer encoder.
    """
    usual = STEPS * _step(level)
    return Bounds(usual, usual if told is None else min(usual, STEEP_STEPS * _step(told)))


def _step(quantizer: float) -> float:
    """ITU-T H.264: steps double every 6."""
    return float(2 ** ((quantizer - _STEP_OF_ONE) / _DOUBLES))


class Trust:
    """`trusted`, frame after frame of one video: corrections are looked at with what surrounds them, also where nothing
    moves and an engine has computed nothing."""

    def __init__(self) -> None:
        self._corrected = Hold()

    def __call__(
        self,
        moving: Wanted | None,
        decoded: Luma,
        restored: Luma,
        bounds: Bounds | None,
        *,
        interlaced: bool = False,
    ) -> Luma:
        """The next frame, restored where it moves by `Moves`; as it is without `bounds`.

        Of `interlaced` frames the fields are looked at: what moves has edges as steep as text where they are woven.
        """
        if bounds is None:
            return restored
        corrected = self._corrected(moving, restored)
        if not interlaced or len(decoded) < 2:
            return trusted(decoded, corrected, bounds)
        woven: Luma = np.empty_like(corrected)
        for parity in (0, 1):
            woven[parity::2] = trusted(decoded[parity::2], corrected[parity::2], bounds)
        return woven


def trusted(decoded: Luma, restored: Luma, bounds: Bounds) -> Luma:
    """`restored` with corrections beyond `bounds` taken back with what surrounds them.

    Planes `[H, W]` of `bounds.bit_depth`; neither is written to.
    """
    largest = _in_blocks(_differences(decoded, restored))
    if largest.max() <= bounds.steep:
        return restored
    excess = largest / (bounds.usual if bounds.steep == bounds.usual else _by_steepness(decoded, bounds))
    if excess.max() <= 1:
        return restored
    taken = np.clip(2 - _around(excess.astype(np.float32), np.maximum), 0, 1)
    shares = _around(taken, np.add) / 9
    result = restored.copy()
    for row in np.flatnonzero(shares.min(axis=1) < 1):
        lines = slice(row * BLOCK, (row + 1) * BLOCK)
        share = shares[row].repeat(BLOCK)[: decoded.shape[1]]
        part = decoded[lines].astype(np.float32)
        part += np.rint((restored[lines] - part) * share)
        result[lines] = part
    return result


def _by_steepness(decoded: Luma, bounds: Bounds) -> NDArray[np.float32]:
    """The bound of each block: between the two by the steepest step from a pixel to its neighbour."""
    steps = np.zeros_like(decoded)
    steps[:, 1:] = _differences(decoded[:, 1:], decoded[:, :-1])
    np.maximum(steps[1:], _differences(decoded[1:], decoded[:-1]), out=steps[1:])
    low, high = (edge * (1 << (bounds.bit_depth - 8)) for edge in STEEP)
    steep = np.clip((_in_blocks(steps).astype(np.float32) - low) / (high - low), 0, 1)
    found: NDArray[np.float32] = bounds.usual * np.float32(bounds.steep / bounds.usual) ** steep
    return found


def _differences(one: Luma, other: Luma) -> Luma:
    """Of each pixel, without a sign."""
    change = np.maximum(one, other)
    change -= np.minimum(one, other)
    return change


def _in_blocks(plane: Luma) -> Luma:
    """The largest code of each block, `[H / BLOCK, W / BLOCK]`, those at the far borders being what is left."""
    height, width = plane.shape
    whole = height // BLOCK * BLOCK
    # Five times as fast as `reduceat`, which along a row has no equal.
    rows = plane[:whole].reshape(-1, BLOCK, width).max(axis=1)
    if whole < height:
        rows = np.concatenate([rows, plane[whole:].max(axis=0, keepdims=True)])
    found: Luma = np.maximum.reduceat(rows, np.arange(0, width, BLOCK), axis=1)
    return found


def _around(blocks: NDArray[np.float32], combine: np.ufunc) -> NDArray[np.float32]:
    """Each block combined with its neighbours, eight or, at the border, as if it went on."""
    padded = np.pad(blocks, 1, mode="edge")
    down = combine(combine(padded[:-2], padded[1:-1]), padded[2:])
    found: NDArray[np.float32] = combine(combine(down[:, :-2], down[:, 1:-1]), down[:, 2:])
    return found
