"""The wanted part of an input: `-ss`, `-t` and `-to`."""

import dataclasses
import math
from fractions import Fraction

from carfix.errors import UsageError
from carfix.video.segments import Window
from carfix.video.source import SourceInfo

#: A file's beginning is known in whole microseconds, so a frame may lie up to half of one before where it is said to.
_ROUNDING = Fraction(1, 2_000_000)


@dataclasses.dataclass(frozen=True)
class Trim:
    """The wanted part, in seconds from the input's beginning; None is open."""

    start: Fraction | None
    end: Fraction | None

    @classmethod
    def of(cls, start: float | None, duration: float | None, end: float | None) -> "Trim":
        """Check what the user gave, in seconds. Raises `UsageError`."""
        if duration is not None and end is not None:
            raise UsageError("give either -t (a duration) or -to (an end), not both")
        for option, value in (("-ss", start), ("-t", duration), ("-to", end)):
            if value is not None and value < 0:
                raise UsageError(f"{option} must not be negative")
            if value is not None and not math.isfinite(value):
                raise UsageError(f"{option} takes a number of seconds, not {value:g}")
        first, last, length = (None if x is None else _exact(x) for x in (start, end, duration))
        if length is not None:
            last = (first or Fraction(0)) + length
        if last is not None and last <= (first or Fraction(0)):
            raise UsageError("the wanted range is empty: its end lies before its beginning")
        return cls(first, last)

    def on_clock_of(self, info: SourceInfo) -> tuple[Fraction | None, Fraction | None]:
        """Start and end in seconds on the input's own clock, which need not begin at 0."""
        begin = info.start - _ROUNDING
        return tuple(None if bound is None else bound + begin for bound in (self.start, self.end))  # type: ignore[return-value]

    def window(self, info: SourceInfo) -> Window:
        """The wanted part in ticks of the input's clock."""
        first, last = (
            None if bound is None else math.ceil(bound / info.time_base) for bound in self.on_clock_of(info)
        )
        tick = info.time_base
        return Window(
            start=first, end=last, video=str(info.path), begin=round(info.start / tick), second=1 / tick
        )


def _exact(seconds: float) -> Fraction:
    """0.4 as 2/5, not as the nearest binary number, which may lie behind the frame that is meant."""
    return Fraction(seconds).limit_denominator(1_000_000)
