"""Interlaced frames: two fields are two moments, so each is restored as a picture of its own."""

import functools
from collections.abc import Callable
from typing import Protocol

import numpy as np

from carfix.restore.engine import Engine, Planes, Strengths, WantedParts
from carfix.restore.engine.overlap import begin, prepare


def begin_pictures(
    engine: Engine,
    planes: Planes,
    bit_depth: int,
    strengths: Strengths | None,
    *,
    interlaced: bool,
    wanted: WantedParts | None = None,
) -> Callable[[], Planes]:
    """Begin to restore frames `[N, H, W]`, `interlaced` ones by their fields; the function returned waits.

    `planes` stay as they are until then. Where only parts are `wanted`, other pixels may come out as anything. Either
    may raise as `Engine.restore` does.
    """
    start = functools.partial(begin, engine, bit_depth=bit_depth, strengths=strengths)
    return begin_fields(planes, start, wanted) if interlaced else start(planes, wanted=wanted)


def prepare_pictures(engine: Engine, height: int, width: int, *, interlaced: bool) -> None:
    """See `prepare`: for frames of this size, or for their fields. Call it while nothing is under way."""
    for rows in (height - height // 2, height // 2) if interlaced else (height,):
        if rows:  # a frame of one row has no second field
            prepare(engine, rows, width)


class Begin(Protocol):
    """Begins to restore planes; the function returned waits."""

    def __call__(self, planes: Planes, *, wanted: WantedParts | None) -> Callable[[], Planes]:
        """See `begin`."""
        ...


def begin_fields(planes: Planes, begin: Begin, wanted: WantedParts | None = None) -> Callable[[], Planes]:
    """Begin to restore frames `[N, H, W]` by their fields; the function returned waits and weaves them.

    Both kinds of fields are begun before either is waited for.
    """
    begun: list[tuple[int, Callable[[], Planes]]] = []
    for parity in (0, 1):
        field: Planes = np.ascontiguousarray(planes[:, parity::2])  # type: ignore[assignment]
        if field.shape[1]:  # a frame of one row has no second field
            parts = wanted and [None if part is None else part[parity::2] for part in wanted]
            begun.append((parity, begin(field, wanted=parts)))

    def finish() -> Planes:
        woven: Planes = np.empty_like(planes)
        for parity, result in begun:
            woven[:, parity::2] = result()
        return woven

    return finish
