"""Interlaced frames: two fields are two moments, so each is restored as a picture of its own."""

from collections.abc import Callable

import numpy as np

from carfix.restore.engine import Planes


def restore_fields(planes: Planes, restore: Callable[[Planes], Planes]) -> Planes:
    """Frames `[N, H, W]` taken apart into their fields, each given to `restore`, and woven back."""

    def begun(field: Planes) -> Callable[[], Planes]:
        restored = restore(field)
        return lambda: restored

    return begin_fields(planes, begun)()


def begin_fields(planes: Planes, begin: Callable[[Planes], Callable[[], Planes]]) -> Callable[[], Planes]:
    """Begin to restore frames `[N, H, W]` by their fields; the function returned waits and weaves them.

    Both kinds of fields are begun before either is waited for.
    """
    begun: list[tuple[int, Callable[[], Planes]]] = []
    for parity in (0, 1):
        field: Planes = np.ascontiguousarray(planes[:, parity::2])  # type: ignore[assignment]
        if field.shape[1]:  # a frame of one row has no second field
            begun.append((parity, begin(field)))

    def finish() -> Planes:
        woven: Planes = np.empty_like(planes)
        for parity, result in begun:
            woven[:, parity::2] = result()
        return woven

    return finish
