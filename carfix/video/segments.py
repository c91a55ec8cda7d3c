"""The plan of a file: closed ranges of presentation time, each restored into a file of its own."""

import dataclasses
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

from carfix.errors import CarfixError, UsageError
from carfix.video.timeline import Timeline

#: Long enough that the keyframe which every segment begins with costs nothing, short enough that little is
#: lost when a machine goes down.
DEFAULT_SEGMENT_SECONDS = 20.0
#: A segment begins at a keyframe of the input. Where none comes for this many segment lengths (intra refresh,
#: endless GOPs), it begins at any frame: work that is saved is worth more than a keyframe that is not there.
PATIENCE = 3


@dataclasses.dataclass(frozen=True, kw_only=True)
class Window:
    """The part of the input that is wanted, in ticks of its own clock: `start <= pts < end`."""

    start: int | None = None
    end: int | None = None
    # For messages: what is cut, and from which tick on seconds are counted, of how many ticks each.
    video: str = "the video"
    begin: int = 0
    second: Fraction = Fraction(1)

    def cut(self, times: NDArray[np.int64]) -> NDArray[np.int64]:
        """Those of `times` that lie in it. Raises `CarfixError` if none does."""
        if len(times) == 0:
            raise CarfixError(f"no frame of {self.video} is shown: an edit list leaves all of them out")
        wanted = times
        if self.start is not None:
            wanted = wanted[wanted >= self.start]
        if self.end is not None:
            wanted = wanted[wanted < self.end]
        if len(wanted) == 0:
            first, last = (float((int(time) - self.begin) / self.second) for time in times[[0, -1]])
            raise CarfixError(
                f"no frame of {self.video} lies in the wanted range (-ss, -t, -to): they begin at {first:.3f} s, and "
                f"the last one is at {last:.3f} s"
            )
        return wanted


@dataclasses.dataclass(frozen=True, kw_only=True)
class Segment:
    """Frames with `start <= pts < end`; the ends of neighbours meet."""

    index: int
    start: int  # ticks of the input's time base
    end: int
    frames: int  # that the packets promise; damage may leave fewer


def plan_segments(
    timeline: Timeline,
    time_base: Fraction,
    *,
    seconds: float = DEFAULT_SEGMENT_SECONDS,
    window: Window | None = None,
) -> list[Segment]:
    """Cut the timeline into segments of about `seconds`.

    Raises `UsageError` for a length that is not positive, `CarfixError` if no frame lies in `window`.
    """
    if not seconds > 0:
        raise UsageError(
            f"a segment of {seconds:g} seconds is not possible: --segment takes a positive length"
        )
    times = (window or Window()).cut(timeline.presentation)
    keyframes = np.sort(timeline.pts[timeline.keyframes])
    length = max(1, round(Fraction(seconds) / time_base))
    starts = [int(times[0])]
    last = int(times[-1])
    while (start := _next_start(starts[-1], length, times, keyframes)) is not None and start <= last:
        starts.append(start)
    ends = [*starts[1:], last + 1]
    positions = np.searchsorted(times, [*starts, last + 1])
    return [
        Segment(index=i, start=start, end=end, frames=int(positions[i + 1] - positions[i]))
        for i, (start, end) in enumerate(zip(starts, ends, strict=True))
    ]


def _next_start(start: int, length: int, times: np.ndarray, keyframes: np.ndarray) -> int | None:
    at_keyframe = _first_from(keyframes, start + length)
    if at_keyframe is not None and at_keyframe < start + PATIENCE * length:
        return at_keyframe
    return _first_from(times, start + length)


def _first_from(values: np.ndarray, bound: int) -> int | None:
    position = int(np.searchsorted(values, bound))
    return int(values[position]) if position < len(values) else None
