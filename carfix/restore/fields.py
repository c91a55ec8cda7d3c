"""Interlaced frames: two fields are two moments, so each is restored as a picture of its own."""

import functools
from collections.abc import Callable

import numpy as np

from carfix.restore.engine import Engine, Planes, Strengths
from carfix.restore.engine.overlap import begin, prepare


def begin_pictures(
    engine: Engine, planes: Planes, bit_depth: int, strengths: Strengths | None, *, interlaced: bool
) -> Callable[[], Planes]:
    """Begin to restore frames `[N, H, W]`, `interlaced` ones by their fields; the function returned waits.

    `planes` stay as they are until then. Either may raise as `Engine.restore` does.
    """
    start = functools.partial(begin, engine, bit_depth=bit_depth, strengths=strengths)
    return begin_fields(planes, start) if interlaced else start(planes)


def prepare_pictures(engine: Engine, height: int, width: int, *, interlaced: bool) -> None:
    """See `prepare`: for frames of this size, or for their fields. Call it while nothing is under way."""
    for rows in (height - height // 2, height // 2) if interlaced else (height,):
        if rows:  # a frame of one row has no second field
            prepare(engine, rows, width)


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
