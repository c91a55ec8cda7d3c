"""How a frame is cut for the cores of a CPU: what windows cost by a model, and the fastest of the likely ones."""

import dataclasses
import functools
import itertools
import math
import time
from collections.abc import Callable, Sequence

from carfix.net.config import Config, margin
from carfix.restore.windows import Window, grid, side_of

#: Bytes of one layer's feature map in a window. The maps of a window come and go in the caches of its core; those of
#: larger ones come from farther away, and smaller windows compute the same borders over and over.
MAP_BYTES = 4 << 20
#: Larger maps slow a core down by this power of how much larger: seven times the size a third.
SLOWING = 0.15
#: Bytes of a map, at most: each thread has half a dozen of them.
MOST_MAP_BYTES = 12 << 20
#: Side of a window that is cut on both sides, in margins, at least: half of it is kept.
LEAST_MARGINS = 4
#: Cells in a row of a window in 16 bit from which on oneDNN's convolutions for AMX lose a fifth of their speed, and
#: nearly half with some odd numbers of cells; some larger ones are quick again, which timing finds.
SLOW_CELLS_16_BIT = 249
SLOW_16_BIT = 1.25
_SIXTEEN_BIT = 2  # bytes
#: Grids that are worth timing.
CANDIDATES = 12
#: Of the usual grid's time, what another has to stay below: two timings of one grid differ by as much.
CLEARLY = 0.95
#: Grids that are left for the final rounds, the usual one among them, and these rounds.
_FINALISTS = 4
_FINALS = 3
#: Times as slow as the quickest so far: not timed twice.
_HOPELESS = 1.5
#: Seconds of timing after which no other round begins.
_SECONDS = 8.0


@dataclasses.dataclass(frozen=True)
class Grid:
    """Windows down and across a frame."""

    rows: int
    columns: int


@dataclasses.dataclass(frozen=True)
class Frame:
    """What is cut: a frame in whole cells, for a network whose activations take `itemsize` bytes."""

    height: int
    width: int
    config: Config
    itemsize: int
    quick_bytes: int = MAP_BYTES  # of a map, beyond which windows are slower
    most_bytes: int = MOST_MAP_BYTES
    quick_rows: bool = False  # whether rows of many cells are as quick as others in 16 bits, too

    def cut(self, by: Grid) -> list[Window]:
        """The windows."""
        return grid(
            self.height,
            self.width,
            by.rows,
            by.columns,
            margin=margin(self.config),
            cell=self.config.scale,
        )

    def window(self, by: Grid) -> tuple[int, int]:
        """Height and width of each."""
        halo, cell = margin(self.config), self.config.scale
        return (
            side_of(self.height, by.rows, margin=halo, cell=cell),
            side_of(self.width, by.columns, margin=halo, cell=cell),
        )

    def overlap(self, by: Grid) -> float:
        """How many pixels are computed for each of the frame's."""
        height, width = self.window(by)
        return by.rows * by.columns * height * width / (self.height * self.width)

    def map_bytes(self, by: Grid) -> float:
        """Bytes of one feature map of a window."""
        height, width = self.window(by)
        return height * width * self.config.features / self.config.scale**2 * self.itemsize

    def cost(self, by: Grid) -> float:
        """Seconds a frame by the model, in those of a frame without overlaps and in small maps."""
        slower: float = max(1.0, self.map_bytes(by) / self.quick_bytes) ** SLOWING
        return self.overlap(by) * slower

    def cost_untimed(self, by: Grid) -> float:
        """`cost`, and what rows of many cells may cost on top."""
        cells = self.window(by)[1] // self.config.scale
        wide = self.itemsize == _SIXTEEN_BIT and not self.quick_rows and cells >= SLOW_CELLS_16_BIT
        return self.cost(by) * (SLOW_16_BIT if wide else 1.0)


@functools.lru_cache(maxsize=64)  # asked for with every batch of a size that was not planned
def usual(frame: Frame, least: int = 1) -> Grid:
    """How to cut it where nothing is timed, for so many threads that have nothing else to compute."""

    def cost(by: Grid) -> float:
        windows = by.rows * by.columns
        return frame.cost_untimed(by) * math.ceil(windows / least) * least / windows

    return min(_possible(frame), key=cost)


def candidates(frame: Frame) -> list[Grid]:
    """Grids worth timing, the usual one first; the only one if whole frames are small."""
    first = usual(frame)
    if frame.overlap(first) == 1.0 and frame.map_bytes(first) <= frame.quick_bytes / 2:
        return [first]
    others = sorted(_possible(frame), key=frame.cost)
    return [first, *(by for by in others if by != first)][:CANDIDATES]


def _possible(frame: Frame) -> list[Grid]:
    """Grids whose maps are not too large; if there are none, those with the smallest."""
    least = LEAST_MARGINS * margin(frame.config)
    most = [
        max(1, (length - 2 * margin(frame.config)) // (least - 2 * margin(frame.config)))
        for length in (frame.height, frame.width)
    ]
    every = [Grid(*counts) for counts in itertools.product(*(range(1, count + 1) for count in most))]
    return [by for by in every if frame.map_bytes(by) <= frame.most_bytes] or [
        min(every, key=frame.map_bytes)
    ]


def fastest(
    found: Sequence[Grid], seconds: Callable[[Grid], float], clock: Callable[[], float] = time.perf_counter
) -> Grid:
    """The one of `found` that takes the fewest `seconds` a frame, if it is clearly quicker than the first.

    The quicker half goes on to the next round, and the last few meet in the final ones. What else runs on the machine
    only ever lengthens a time: the shortest of each counts.
    """
    best: dict[Grid, float] = {}
    began, left, finals = clock(), list(found), 0
    while finals < _FINALS and clock() - began < _SECONDS:
        for by in left:
            first = by not in best
            best[by] = min(best.get(by, float("inf")), seconds(by))
            if first and best[by] < _HOPELESS * min(best.values()):
                best[by] = min(best[by], seconds(by))  # the first time packs weights and touches memory
        finals += len(left) <= _FINALISTS
        quickest = sorted(left, key=best.__getitem__)[: max(_FINALISTS - 1, len(left) // 2)]
        left = [found[0], *(by for by in quickest if by != found[0])]
    quickest_of_all = min(best, key=best.__getitem__)
    return quickest_of_all if best[quickest_of_all] < CLEARLY * best[found[0]] else found[0]
