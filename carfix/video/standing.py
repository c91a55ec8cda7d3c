"""Clocks that stand still: recorders that state one time for many frames, or none but 0 for all."""

#: Presentation and decoding time, in ticks.
Times = tuple[int | None, int | None]


class StandingClock:
    """Says how much later the packets of one stream are than they state, where their clock stands still.

    It does where three packets in a row have the same times: of two, as careless recorders leave them, nothing more is
    known. They follow each other by their durations, or by `step` ticks where they state none. Where the clock has
    caught up behind them, as it does where frames are stamped in bursts, the stream is on time again; else what follows
    is as much later.
    """

    def __init__(self, step: int = 0) -> None:
        self.count = 0  # packets that would have had the time of the one before
        self.ahead = 0  # ticks
        self._step = step
        self._before: Times = (None, None)
        self._stands = False
        self._earlier = 0  # `ahead` when the clock came to stand

    def look(self, times: Times, duration: int | None, following: Times) -> int:
        """What to add to the `times` of the next packet; `following` are those of the one behind it."""
        dts, last = times[1], self._before[1]
        if dts is None or last is None:
            self._stands = False
        elif times == self._before and (self._stands or times == following):
            self._stands = True
            self.count += 1
            self.ahead += duration or self._step
        else:
            if self._stands:
                caught_up = max(0, dts - last - (duration or self._step))
                self.ahead = max(self._earlier, self.ahead - caught_up)
            self._stands = False
            self._earlier = self.ahead
        self._before = times
        return self.ahead
