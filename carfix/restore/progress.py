"""Progress for people: a bar with fps and ETA on a terminal, a plain line every few seconds elsewhere."""

import contextlib
import time
from collections import deque
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Literal

from rich.console import Console
from rich.progress import BarColumn, ProgressColumn, Task, TaskID, TextColumn, TimeElapsedColumn
from rich.progress import Progress as Bar
from rich.text import Text

from carfix.restore.report import Progress

#: Takes a file, whose name alone may be another's too, and how far it is; None once it has ended, be it halfway.
Show = Callable[[Path, Progress | None], None]
Mode = Literal["auto", "rich", "plain", "none"]
MODES: tuple[Mode, ...] = ("auto", "rich", "plain", "none")

#: Seconds between lines where there is no terminal: logs of work that runs for days stay readable.
PLAIN_INTERVAL = 10.0
#: How much counts for the pace: so many seconds, and frames, which a slow network takes longer for.
_LATE_SECONDS, _LATE_FRAMES = 60.0, 100
#: Seconds from one remembered count to the next.
_MARKED = 1.0


@contextlib.contextmanager
def progress_display(mode: Mode, console: Console) -> Iterator[Show]:
    """Yields a function that shows the progress of files on `console`, from any thread."""
    if mode == "none":
        yield lambda file, progress: None
    elif mode == "rich" or (mode == "auto" and console.is_terminal):
        columns = (
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            _Text(lambda task: _share(round(task.completed), round(task.total or 0))),
            _Text(lambda task: _fps(task.fields["pace"])),
            _Text(lambda task: _eta(task.fields["pace"])),
            TimeElapsedColumn(),
        )
        with Bar(*columns, console=console, transient=True) as bar:
            yield _Bars(bar).update
    else:
        yield _Lines(console).update


class _Pace:
    """Frames a second of late, and in this run: a quiet night, or what an earlier run did, tells little of the rest."""

    def __init__(self) -> None:
        self.progress: Progress | None = None
        self._marks: deque[tuple[float, int]] = deque()  # seconds, and frames that were done then

    def update(self, progress: Progress) -> None:
        now = time.monotonic()
        if self.progress is None or self.progress.phase != progress.phase:
            self._marks = deque([(now, progress.done)])  # never empty: it is read meanwhile
        elif now - self._marks[-1][0] >= _MARKED:
            self._marks.append((now, progress.done))
        while len(self._marks) > 1 and self._is_enough(now, progress.done):
            self._marks.popleft()
        self.progress = progress

    def _is_enough(self, now: float, done: int) -> bool:
        """Whether what is behind the second mark tells the pace."""
        then, before = self._marks[1]
        return now - then >= _LATE_SECONDS and done - before >= _LATE_FRAMES

    @property
    def fps(self) -> float | None:
        if self.progress is None:
            return None
        began, before = self._marks[0]
        elapsed, done = time.monotonic() - began, self.progress.done - before
        return done / elapsed if done > 0 and elapsed > 0 else None

    @property
    def remaining(self) -> float | None:
        """Seconds; None as long as nothing is known."""
        if self.progress is None or not self.progress.total or self.fps is None:
            return None
        return max(0, self.progress.total - self.progress.done) / self.fps


class _Text(ProgressColumn):
    def __init__(self, text: Callable[[Task], str]) -> None:
        super().__init__()
        self._text = text

    def render(self, task: Task) -> Text:
        return Text(self._text(task))


class _Bars:
    def __init__(self, bar: Bar) -> None:
        self._bar = bar
        self._files: dict[Path, tuple[TaskID, _Pace]] = {}

    def update(self, file: Path, progress: Progress | None) -> None:
        if progress is None:
            if file in self._files:
                self._bar.remove_task(self._files.pop(file)[0])
            return
        if file not in self._files:
            pace = _Pace()
            self._files[file] = self._bar.add_task("", total=None, pace=pace), pace
        task, pace = self._files[file]
        pace.update(progress)
        self._bar.update(
            task,
            description=f"{file.name} {progress.phase}",
            completed=progress.done,
            total=progress.total or None,
            visible=not progress.total or progress.done < progress.total,
        )


class _Lines:
    def __init__(self, console: Console) -> None:
        self._console = console
        self._paces: dict[Path, _Pace] = {}
        self._last = time.monotonic()

    def update(self, file: Path, progress: Progress | None) -> None:
        if progress is None:
            self._paces.pop(file, None)
            return
        pace = self._paces.setdefault(file, _Pace())
        pace.update(progress)
        now = time.monotonic()
        if now - self._last < PLAIN_INTERVAL:
            return
        self._last = now
        parts = [f"{file}: {progress.phase} {_share(progress.done, progress.total)} frames"]
        parts += [text for text in (_fps(pace), _eta(pace)) if text]
        self._console.print(", ".join(parts), markup=False, soft_wrap=True)


def _share(done: int, total: int) -> str:
    return f"{done}/{total}" if total else f"{done}"


def _fps(pace: _Pace) -> str:
    return "" if pace.fps is None else f"{pace.fps:.2f} fps" if pace.fps < 10 else f"{pace.fps:.0f} fps"


def _eta(pace: _Pace) -> str:
    seconds = pace.remaining
    if seconds is None:
        return ""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d} left"
