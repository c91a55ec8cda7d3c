"""Clocks that were set on the way: one stream's times made to run forward."""

import dataclasses
from fractions import Fraction

from carfix.video.standing import StandingClock

#: Decoding times that step back by less than this are a careless muxer's rounding, not a clock that was set.
SMALLEST_JUMP = Fraction(1, 10)  # seconds

#: A single packet that is farther ahead than this, with the next one back in line, has a damaged time; so has
#: one whose presentation is so far from the decoding of all that are decoded until it is shown.
LARGEST_GAP = Fraction(10)  # seconds

#: No recording pauses for a year: a clock that leaps so far was set, by the network after a camera's start in 1970.
LONGEST_PAUSE = Fraction(365 * 24 * 3600)  # seconds

#: Formats whose clock has 33 bits of 90 kHz, and how long it runs until it begins again.
_MPEG, _TURN = ("mpegts", "mpeg"), Fraction(2**33, 90_000)  # seconds: 26.5 hours
#: A leap of hours into the first minute behind such an end is a camera that has started anew, not one that has paused.
_START, _REST = Fraction(60), Fraction(3600)  # seconds


@dataclasses.dataclass(frozen=True)
class Jump:
    """A place where a stream's clock was set back, or a year ahead."""

    before: Fraction  # seconds on the stream's own clock
    after: Fraction
    shift: Fraction  # seconds that are added to every time from here on


class ClockRepair:
    """Makes one stream's times run forward.

    Where decoding times step back, or leap by a year, everything from there on is moved so that the stream goes on one
    packet after the last. Other streams of the file jump with the same clock: give them the video's `jumps`, and they
    are moved by exactly the same amount, so that sound stays with the picture. Of a `sparse` stream such as subtitles,
    whose packets may be minutes from a jump and not in order, only such jumps are believed.

    In `format`s of MPEG, whose clocks run over after a day, FFmpeg takes all times that lie more than a minute below
    the first one for those of the next day: a camera that starts anew would seem to have paused until then.

    Where the clock stands still, packets that state no duration are `step` ticks apart (see `StandingClock`).
    """

    def __init__(
        self,
        time_base: Fraction,
        jumps: tuple[Jump, ...] = (),
        *,
        format: str = "",
        sparse: bool = False,
        step: int = 0,
    ) -> None:
        self.time_base = time_base
        self._turn = round(_TURN / time_base) if format in _MPEG else 0
        self._longest, self._rest = round(LONGEST_PAUSE / time_base), round(_REST / time_base)
        self.found: list[Jump] = []
        self.strays = 0  # single packets whose time was damaged
        self.standing = StandingClock(step)
        self.moved = 0  # packets that `in_order` has moved
        self._reorders = False
        self._shown: int | None = None
        self._known = list(jumps)
        #: Of the other streams, where nobody has read ahead for their `jumps`.
        self.peers: list[ClockRepair] = []
        self._sparse = sparse
        self._offset = 0  # ticks
        self._last: int | None = None  # repaired decoding time of the packet before
        self._last_raw = 0
        self._step = 1

    def repair(
        self,
        dts: int | None,
        duration: int | None,
        following: int | None,
        pts: int | None = None,
        following_pts: int | None = None,
    ) -> tuple[int, int | None]:
        """What to add to the times of the packet decoded at `dts`, in ticks, and its repaired decoding time.

        Call once a packet, in order. `following` is the next packet's decoding time: if that goes on where the
        last packet was, a leap in between is one damaged number and no clock that was set. By the presentation times,
        where they are given, it is told whether the clock stands still.
        """
        if dts is None:
            return self._offset, None
        stated = dts
        if pts is not None and not self._sparse:
            ahead = self.standing.look((pts, dts), duration, (following_pts, following))
            dts, following = dts + ahead, None if following is None else following + ahead
        if self._last is None:
            self._last = dts
        else:
            dts, following = self._turned(dts), None if following is None else self._turned(following)
            if self._is_stray(dts, following):
                self.strays += 1
                self._last += self._step
                return self._offset + self.standing.ahead, self._last
            set_back = (self._last - dts - self._offset) * self.time_base >= SMALLEST_JUMP
            if set_back or dts - self._last_raw >= self._longest:
                self._offset = self._shift(dts)
            if dts > self._last_raw:
                self._step = duration or dts - self._last_raw
            self._last = max(dts + self._offset, self._last)
        self._last_raw = dts
        return dts - stated + self._offset, dts + self._offset

    def in_order(self, pts: int | None, dts: int | None) -> int | None:
        """The repaired presentation time `pts` of a packet that is decoded at `dts`; call once a packet, in order.

        Where nothing is reordered it is not below that of the last packet: where the clock steps back by less than a
        jump, pictures keep their order. (Frames that VP8 and VP9 do not show share the time of the next.)
        """
        self._reorders = self._reorders or pts is None or pts != dts
        if pts is not None and not self._reorders and self._shown is not None and pts < self._shown:
            pts = self._shown + 1
            self.moved += 1
        self._shown = pts
        return pts

    def _turned(self, dts: int) -> int:
        """`dts` in that turn of the clock in which it is nearest to the last one, or in which a camera starts anew."""
        if not self._turn:
            return dts
        dts -= (dts - self._last_raw + self._turn // 2) // self._turn * self._turn
        rests = dts - self._last_raw >= self._rest
        return dts - self._turn if rests and dts % self._turn * self.time_base < _START else dts

    def _is_stray(self, dts: int, following: int | None) -> bool:
        if following is None:
            return False
        leap = (dts - self._last_raw) * self.time_base
        goes_on = 0 <= (following - self._last_raw) * self.time_base < LARGEST_GAP
        # Two subtitles may be in the wrong order.
        returns = not self._sparse and (dts - following) * self.time_base >= SMALLEST_JUMP
        return goes_on and (leap >= LARGEST_GAP or -leap >= SMALLEST_JUMP or returns)

    def _shift(self, dts: int) -> int:
        assert self._last is not None
        before, after = self._last_raw * self.time_base, dts * self.time_base
        jump = next((jump for jump in self._known if self._is_same(jump, before, after)), None)
        if jump is None and self._sparse:
            return self._offset
        shift = self._last + self._step - dts
        if jump is not None:
            known = round(jump.shift / self.time_base)
            if dts + known >= self._last:
                shift = known
            self._known.remove(jump)
        else:
            for peer in self.peers:
                peer._known.append(Jump(before, after, shift * self.time_base))
        self.found.append(Jump(before, after, shift * self.time_base))
        return shift

    def _is_same(self, jump: Jump, before: Fraction, after: Fraction) -> bool:
        """Whether it is a jump that another stream saw: as far back, give or take a second of interleaving."""
        if abs((jump.before - jump.after) - (before - after)) < 1 and abs(jump.before - before) < 10:
            return True
        far = before - after >= LARGEST_GAP  # and no two packets in the wrong order
        return self._sparse and far and before - jump.before < 10 and jump.after - after < 10
