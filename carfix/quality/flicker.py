"""Temporal flicker: how much a picture changes from frame to frame where the scene does not.

Codecs make static regions pulse with the GOP; a restoration must not add to it. The static regions are found
in the pristine clip, so that every method is judged on the same pixels.
"""

import numpy as np
from numpy.typing import NDArray

from carfix.restore.engine import Planes

#: Side of the blocks that are static or not: large enough that sensor noise averages out.
BLOCK = 8
#: A block is static if its pristine mean absolute difference stays below this, in 8-bit codes.
STATIC_BELOW = 1.0


class Flicker:
    """Sums over the static pixels of a clip, in 8-bit codes; feed frame after frame."""

    def __init__(self) -> None:
        self.static_pixels = 0
        self._sums = np.zeros(2)  # of |frame - previous frame| over them: pristine, shown
        self._previous: tuple[Planes, Planes] | None = None

    def add(self, pristine: Planes, shown: Planes, *, bit_depth: int = 8, shown_bit_depth: int = 8) -> None:
        """The next frame: codes `[H, W]` of the pristine clip and of the clip that is judged."""
        if self._previous is not None:
            changes = _block_means(pristine, self._previous[0]) / (1 << (bit_depth - 8))
            shown_changes = _block_means(shown, self._previous[1]) / (1 << (shown_bit_depth - 8))
            static = changes < STATIC_BELOW
            self.static_pixels += int(static.sum()) * BLOCK**2
            self._sums += [changes[static].sum() * BLOCK**2, shown_changes[static].sum() * BLOCK**2]
        self._previous = pristine, shown

    @property
    def pristine(self) -> float | None:
        """Mean absolute difference between frames of the pristine clip; None if nothing is static."""
        return float(self._sums[0]) / self.static_pixels if self.static_pixels else None

    @property
    def shown(self) -> float | None:
        """The same of the clip that is judged, on the same pixels."""
        return float(self._sums[1]) / self.static_pixels if self.static_pixels else None


def _block_means(frame: Planes, previous: Planes) -> NDArray[np.float64]:
    """Mean absolute difference of each whole block, `[H // BLOCK, W // BLOCK]`."""
    height, width = frame.shape[0] // BLOCK, frame.shape[1] // BLOCK
    kept = slice(height * BLOCK), slice(width * BLOCK)
    # The larger minus the smaller: unsigned codes must not wrap.
    difference = np.maximum(frame[kept], previous[kept]) - np.minimum(frame[kept], previous[kept])
    means: NDArray[np.float64] = difference.reshape(height, BLOCK, width, BLOCK).mean(axis=(1, 3))
    return means
