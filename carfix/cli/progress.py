"""Progress of counted work: a bar with an ETA on a terminal, a plain line every few seconds elsewhere."""

import contextlib
import time
from collections.abc import Callable, Iterator

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from carfix.progress import OnProgress

#: Seconds between lines where there is no terminal: logs of work that runs for days stay readable.
PLAIN_INTERVAL = 10.0

#: Takes a unit, and has what hears of that stage of the work.
Stage = Callable[[str], OnProgress]


@contextlib.contextmanager
def counted(console: Console) -> Iterator[Stage]:
    """Yields a function that takes a unit ("frames") and returns the callback of that stage of the work.

    The callback takes the number done, the total and a short text about the last one.
    """
    if not console.is_terminal:
        yield lambda unit: _plain(unit, console)
        return
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[detail]}", markup=False),
    )
    with Progress(*columns, console=console, transient=True) as bar:

        def stage(unit: str) -> OnProgress:
            task = bar.add_task(unit, total=None, detail="", visible=False)

            def update(done: int, total: int, detail: str) -> None:
                bar.update(task, completed=done, total=total, detail=detail, visible=done < total)

            return update

        yield stage


def _plain(unit: str, console: Console) -> OnProgress:
    started: float | None = None
    first = 0
    last = 0.0

    def line(done: int, total: int, detail: str) -> None:
        nonlocal started, first, last
        now = time.monotonic()
        if started is None:
            # A resumed training starts at thousands: its pace counts from where this run began.
            started, first, last = now, done, now
        if now - last < PLAIN_INTERVAL or done == first:
            return
        last = now
        remaining = (now - started) / (done - first) * (total - done)
        text = f"{done}/{total} {unit}, {remaining:.0f} s left" + (f", {detail}" if detail else "")
        console.print(text, soft_wrap=True, markup=False)

    return line
