"""What a restore job tells: while it runs, and when it is done."""

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Literal

from carfix.restore.tasks import Task


@dataclasses.dataclass(frozen=True, kw_only=True)
class Progress:
    """How far a job is."""

    phase: Literal["restoring", "joining"]
    done: int  # frames
    total: int  # 0 where nobody knows, as of a pipe
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
    stream: int  # index in the input of the video that was restored
    copied: tuple[int, ...]  # of the streams that are copied as they are
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


Status = Literal["done", "skipped", "failed", "not started"]


@dataclasses.dataclass(frozen=True)
class Outcome:
    """What became of one file."""

    task: Task
    status: Status
    report: Report | None = None
    reason: str = ""


class Counter:
    """Turns single frames into progress reports."""

    def __init__(self, progress: Callable[[Progress], None], total: int, resumed: int) -> None:
        self._progress = progress
        self._total = total
        self._resumed = resumed
        self._done = resumed

    def restored(self) -> None:
        """One frame more is encoded."""
        self._done += 1
        self._progress(Progress(phase="restoring", done=self._done, total=self._total, resumed=self._resumed))

    def joined(self, count: int) -> None:
        """So many frames are in the final file."""
        self._progress(Progress(phase="joining", done=count, total=self._total))


class Warnings:
    """Lines that are told at once and kept for the report."""

    def __init__(self, tell: Callable[[str], None]) -> None:
        self.lines: list[str] = []
        self._tell = tell

    def add(self, *lines: str) -> None:
        """Tell and keep each line."""
        for line in lines:
            self.lines.append(line)
            self._tell(line)
