"""Interlaced frames: two fields are two moments, so each is restored as a picture of its own."""

from collections.abc import Callable

import numpy as np

from carfix.restore.engine import Planes


def restore_fields(planes: Planes, restore: Callable[[Planes], Planes]) -> Planes:
    """Frames `[N, H, W]` taken apart into their fields, each given to `restore`, and woven back."""
    restored: Planes = np.empty_like(planes)
    for parity in (0, 1):
        field: Planes = np.ascontiguousarray(planes[:, parity::2])  # type: ignore[assignment]
        if field.shape[1]:  # a frame of one row has no second field
            restored[:, parity::2] = restore(field)
    return restored
