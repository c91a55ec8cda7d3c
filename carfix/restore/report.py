"""What a restore job tells: while it runs, and when it is done."""

import dataclasses
from pathlib import Path
from typing import Literal


@dataclasses.dataclass(frozen=True, kw_only=True)
class Progress:
    """How far a job is."""

    phase: Literal["restoring", "joining"]
    done: int  # frames
    total: int
    resumed: int = 0  # frames of `done` that an earlier run left finished; they say nothing about speed


@dataclasses.dataclass(frozen=True, kw_only=True)
class Report:
    """What a job did."""

    source: Path
    output: Path
    frames: int  # in the output
    resumed: int  # of them, finished by an earlier run
    repeated: int  # of them, equal to the frame before, for which nothing was computed
    seconds: float  # wall time
    engine: str  # its description; empty if nothing was left to compute
    warnings: tuple[str, ...]  # what was mended or could not be kept, a line each
    damaged: bool  # the input was damaged or cut short: the output holds what could be decoded

    def summary(self) -> str:
        """One line for people."""
        computed = self.frames - self.resumed
        notes = [f"{computed / self.seconds:.1f} fps"] if computed and self.seconds else []
        notes += [f"{self.repeated} repeated"] if self.repeated else []
        notes += [f"{self.resumed} from an earlier run"] if self.resumed else []
        what = f" ({', '.join(notes)})" if notes else ""
        return f"{self.output}: {self.frames} frames in {self.seconds:.1f} s{what}"
