"""Which frames of two videos belong together: those that are shown at the same time."""

import dataclasses
from collections.abc import Iterator

from carfix.errors import CarfixError
from carfix.quality.reader import LumaFrame

#: Frames belong together if their times differ by less than this share of the distance to the next frame of either:
#: containers round times (Matroska to 1 ms, at 120 fps an eighth of a frame).
TOLERANCE = 0.45

_SAME = "both must show frames at the same times"


@dataclasses.dataclass
class Unmatched:
    """Frames that had no counterpart and were left out."""

    reference: int = 0
    candidate: int = 0


def aligned(
    reference: Iterator[LumaFrame],
    candidate: Iterator[LumaFrame],
    *,
    names: tuple[str, str],
    shortest: bool = False,
    align_start: bool = False,
    unmatched: Unmatched | None = None,
    strict: bool = False,
    skipped: int = 0,
) -> Iterator[tuple[LumaFrame, LumaFrame]]:
    """Pairs of frames of the same presentation time.

    Videos without times (raw H.264) are paired in order. Without `shortest` every frame must have its
    counterpart; with it the others are left out and counted in `unmatched`. `align_start` moves the candidate in
    time so that the first frames coincide. Raises `CarfixError` for starts or frames that do not meet; the message
    names these two options of `carfix compare`, unless the caller is `strict` and has none to offer. `skipped` frames
    of either were left out before.
    """
    unmatched = unmatched if unmatched is not None else Unmatched()
    ours, theirs = _Clock(reference), _Clock(candidate)
    for name, clock in zip(names, (ours, theirs), strict=True):
        if clock.ended:
            where = f"behind the first {skipped}, which are skipped" if skipped else "to compare"
            raise CarfixError(f"{name} has no frames {where}")
    by_time = ours.time is not None and theirs.time is not None
    offset = ours.seconds - theirs.seconds if align_start else 0.0
    if by_time and not shortest and abs(ours.seconds - theirs.seconds - offset) >= _tolerance(ours, theirs):
        cure = "--align-start takes their first frames as simultaneous, --shortest compares the time that both cover"
        raise CarfixError(
            f"{names[0]} starts at {ours.seconds:.3f} s and {names[1]} at {theirs.seconds:.3f} s; "
            f"{_SAME if strict else cure}"
        )
    while not (ours.ended or theirs.ended):
        lag = theirs.seconds + offset - ours.seconds if by_time else 0.0
        if abs(lag) < _tolerance(ours, theirs):
            yield ours.take(), theirs.take()
            continue
        # The later frame may still find its counterpart; the earlier one has none.
        early = ours if lag > 0 else theirs
        if not shortest:
            has, lacks = names if early is ours else names[::-1]
            raise CarfixError(
                f"{has} shows a frame at {early.seconds:.3f} s (number {early.count}) that {lacks} does not "
                f"have; {_SAME if strict else '--shortest compares the frames that both have'}"
            )
        early.take()
        unmatched.reference += early is ours
        unmatched.candidate += early is theirs
    rest = ours.drain(), theirs.drain()
    if any(rest) and not shortest:
        raise CarfixError(
            f"{names[0]} has {ours.count} frames and {names[1]} {theirs.count}; "
            f"{_SAME if strict else '--shortest compares those that both have'}"
        )
    unmatched.reference += rest[0]
    unmatched.candidate += rest[1]


def _tolerance(*clocks: "_Clock") -> float:
    """Seconds; at least the millisecond that Matroska rounds to.

    The nearer neighbours count: of four times as many frames, the one before the right one would be taken else.
    """
    return max(TOLERANCE * min((clock.interval for clock in clocks if clock.interval), default=0.0), 1e-3)


class _Clock:
    """The current frame of a video, its time, and how far other times may be from it."""

    def __init__(self, frames: Iterator[LumaFrame]) -> None:
        self._frames = frames
        self._frame = next(frames, None)
        self._next = next(frames, None)
        self.interval = self._distance()  # seconds to the next frame; 0 if that is not known
        self.count = int(not self.ended)  # frames up to the current one

    @property
    def ended(self) -> bool:
        return self._frame is None

    @property
    def time(self) -> float | None:
        return self._frame.time if self._frame is not None else None

    @property
    def seconds(self) -> float:
        """The time, 0 where there is none."""
        return self.time or 0.0

    def take(self) -> LumaFrame:
        """The current frame; the next one becomes current."""
        assert self._frame is not None
        taken, self._frame = self._frame, self._next
        self._next = next(self._frames, None) if self._next is not None else None
        self.count += not self.ended
        self.interval = self._distance() or self.interval  # the last frame keeps the one before
        return taken

    def drain(self) -> int:
        """Number of frames that are left, the current one among them."""
        left = 0
        while not self.ended:
            self.take()
            left += 1
        return left

    def _distance(self) -> float:
        if self._frame is None or self._next is None or self._frame.time is None or self._next.time is None:
            return 0.0
        return max(self._next.time - self._frame.time, 0.0)
