"""How visible the block grid of a codec is, with no reference to compare with."""

import numpy as np

from carfix.restore.engine import Planes

#: Distance of the grid lines: the side of H.264's large transform, of MPEG's and of JPEG's blocks.
GRID = 8


def blockiness(luma: Planes) -> float:
    """Mean luma step across the grid's lines over the mean step elsewhere, of codes `[H, W]`.

    1.0 where the grid cannot be told from the rest of the picture, larger where block edges stand out: the
    boundary measure of Wu and Yuen, "A generalized block-edge impairment metric", IEEE SPL 4(11), 1997,
    without its masking weights. A flat picture has no steps at all and counts as 1.0.
    """
    codes = luma.astype(np.float32)
    across, elsewhere = 0.0, 0.0
    across_count, elsewhere_count = 0, 0
    for steps in (np.abs(np.diff(codes, axis=1)), np.abs(np.diff(codes, axis=0)).T):
        # Step number i lies between pixels i and i + 1: every eighth one crosses a line of the grid.
        lines = steps[:, GRID - 1 :: GRID]
        across += float(lines.sum(dtype=np.float64))
        across_count += lines.size
        elsewhere += float(steps.sum(dtype=np.float64)) - float(lines.sum(dtype=np.float64))
        elsewhere_count += steps.size - lines.size
    if not across_count or not elsewhere_count or elsewhere == 0:
        return 1.0
    return (across / across_count) / (elsewhere / elsewhere_count)
