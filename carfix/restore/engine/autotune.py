"""How a frame is cut and computed on an accelerator: candidates, a model of their memory, and the fastest of them.

Nothing here touches a device: the engine says how much memory there is and times what it is asked to.
"""

import dataclasses
import math
from collections.abc import Callable, Iterator, Sequence

from carfix.net.config import Config
from carfix.restore.windows import Window, smallest_tile, window_size, windows

#: Feature maps that live at once: a block's input, its first map, its second before and after LeakyReLU, their sum,
#: and as much again for the workspace of the convolution library.
MAPS_ALIVE = 6
#: fp32 and integer planes of the picture itself around the network, in bytes a pixel.
PICTURE_BYTES = 24
#: What libraries, weights and the allocator's rounding take beside the maps.
FIXED_BYTES = 256 << 20
#: Of the free memory, what a plan may need by the model above: it is a model.
USABLE = 0.9
#: Pixels that fill a large GPU many times over; batches beyond it gain nothing and wait longer.
PIXELS_AT_ONCE = 4 * 1920 * 1080
#: A convolution reads one map and writes another; both should stay in the cache.
MAPS_IN_CACHE = 2
#: Of a GPU's second-level cache, what maps may fill: the rest holds weights and what passes through.
CACHE_SHARE = 0.6
#: Windows that compute more than this many times the frame's own pixels are not worth timing.
MOST_OVERLAP = 1.8

#: Seconds that one run of a program takes: `(variant, windows at once, height, width)`; None where it cannot run.
Timer = Callable[[str, int, int, int], float | None]


@dataclasses.dataclass(frozen=True)
class Plan:
    """How frames of one size are computed."""

    tile: int  # side of a window in pixels, at most
    windows: int  # computed at once
    variant: str  # of `cuda_program`


@dataclasses.dataclass(frozen=True, kw_only=True)
class Task:
    """What is to be planned: frames of `height` x `width` pixels (whole cells), `frames` of them at a time."""

    height: int
    width: int
    frames: int
    config: Config
    margin: int
    itemsize: int  # bytes of an activation
    memory: int  # bytes that may be used
    cache: int = 0  # bytes of the second-level cache; 0: not known
    tile: int | None = None  # that the user wants
    fixed: bool = False  # whether the user said how to cut: then only the variants are timed

    def cut(self, tile: int) -> list[Window]:
        """The windows of one frame."""
        return windows(self.height, self.width, tile, margin=self.margin, cell=self.config.scale)

    def memory_needed(self, tile: int, count: int) -> int:
        """Bytes that `count` windows at once need."""
        height, width = window_size(self.cut(tile))
        pixels = count * height * width
        return FIXED_BYTES + round(pixels * (MAPS_ALIVE * map_bytes(self) + PICTURE_BYTES))

    def fits(self, tile: int, count: int) -> bool:
        """Whether that is there."""
        return self.memory_needed(tile, count) <= USABLE * self.memory


def map_bytes(task: Task) -> float:
    """Bytes of one feature map, per pixel of the frame."""
    return task.config.features / task.config.scale**2 * task.itemsize


def geometries(task: Task) -> list[tuple[int, int]]:
    """(tile, windows at once) worth timing; the first is the one to take untimed, and alone if the user fixed any.

    Whole frames first; then windows whose maps stay in the second-level cache and four times as large ones, one at
    a time; halves of the frame only where it does not fit whole.
    """
    least = smallest_tile(task.margin, task.config.scale)
    whole = max(task.height, task.width, least)
    if task.tile is not None:
        found = [(task.tile, count) for count in _counts(task, task.tile)]
    elif task.fits(whole, 1):
        cached = _cached_side(task)
        windowed = [side for side in (cached, 2 * cached) if least <= side < whole]
        found = [(whole, count) for count in _counts(task, whole)]
        found += [(side, 1) for side in windowed if _overlap(task, side) <= MOST_OVERLAP]
    else:
        side = next((side for side in _halves(whole, 2 * least) if task.fits(side, 1)), min(whole, 2 * least))
        found = [(side, count) for count in _counts(task, side)]
    return found[:1] if task.fixed else found


def _halves(whole: int, least: int) -> Iterator[int]:
    # A side close to the smallest keeps hardly a pixel of each window: it takes forever, but for its memory.
    while (whole := whole // 2) > least:
        yield whole


def _cached_side(task: Task) -> int:
    return math.isqrt(int(CACHE_SHARE * task.cache / (MAPS_IN_CACHE * map_bytes(task))))


def _counts(task: Task, tile: int) -> list[int]:
    """Windows at once: as many as fit and help, a quarter of that, and one; never none, for a model may be wrong."""
    found = task.cut(tile)
    height, width = window_size(found)
    total = task.frames * len(found)
    most = max(1, min(total, PIXELS_AT_ONCE // (height * width)))
    while most > 1 and not task.fits(tile, most):
        most //= 2
    most = math.ceil(total / math.ceil(total / most))  # alike batches: little of the last is filling
    return sorted({most, max(1, most // 4), 1}, reverse=True)


def _overlap(task: Task, tile: int) -> float:
    found = task.cut(tile)
    height, width = window_size(found)
    return len(found) * height * width / (task.height * task.width)


def frame_seconds(task: Task, tile: int, count: int, batch_seconds: float) -> float:
    """Seconds a frame, the filling of the last batch included."""
    batches = math.ceil(task.frames * len(task.cut(tile)) / count)
    return batches * batch_seconds / task.frames


def fastest(task: Task, variants: Sequence[str], slow_to_build: Sequence[str], time: Timer) -> Plan:
    """Time the candidates and take the fastest a frame.

    All variants are timed in the first geometry where any runs, and the best of them, with the first, in the others:
    which kernels are quickest hardly depends on how a frame is cut, and each costs seconds to build. Those that are
    `slow_to_build` are tried in the best geometry at the end. Where nothing could be timed, the first geometry and
    variant are taken.
    """
    found = geometries(task)
    best: tuple[float, Plan] | None = None

    def consider(variant: str, tile: int, count: int) -> None:
        nonlocal best
        height, width = window_size(task.cut(tile))
        seconds = time(variant, count, height, width)
        if seconds is None:
            return
        seconds = frame_seconds(task, tile, count, seconds)
        if best is None or seconds < best[0]:
            best = (seconds, Plan(tile, count, variant))

    quick = [variant for variant in variants if variant not in slow_to_build]
    for tile, count in found:
        for variant in quick if best is None else dict.fromkeys((quick[0], best[1].variant)):
            consider(variant, tile, count)
    tile, count = (best[1].tile, best[1].windows) if best is not None else found[0]
    for variant in variants:
        if variant in slow_to_build:
            consider(variant, tile, count)
    return best[1] if best is not None else Plan(*found[0], variants[0])
