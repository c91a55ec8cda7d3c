"""What is told while files are restored: lines and bars for people on stderr, JSON lines for programs."""

import contextlib
import json
import os
import time
from collections.abc import Iterator, Sequence
from typing import IO, Any

from rich.console import Console
from rich.markup import escape
from rich.table import Column, Table

from carfix.errors import CarfixError
from carfix.restore.batch import Event
from carfix.restore.estimate import Estimate
from carfix.restore.models import EngineLine
from carfix.restore.progress import Mode, Show, progress_display
from carfix.restore.report import Outcome, Progress
from carfix.restore.tasks import Task
from carfix.restore.worker import Said
from carfix.video.faults import reason

#: Seconds between two `progress` lines of one file.
_LOG_INTERVAL = 1.0


class Teller:
    """Takes events and tells them. `log` is where JSON lines go, None for none."""

    def __init__(self, console: Console, *, mode: Mode, quiet: bool, many: bool, log: IO[str] | None) -> None:
        self._console = console
        self._mode: Mode = "none" if quiet else mode
        self._quiet = quiet
        self._many = many
        self._log = log
        self._logged: dict[Task, float] = {}
        self._engines: set[str] = set()  # that were told of
        self._show: Show = lambda file, progress: None

    @contextlib.contextmanager
    def display(self) -> Iterator[None]:
        """Shows progress while the block runs."""
        with progress_display(self._mode, self._console) as self._show:
            yield

    def __call__(self, event: Event) -> None:
        """Tell one event; from any thread."""
        task, message = event.task, event.message
        if self._log is not None:
            self._write(task, event)
        if isinstance(message, Progress):
            self._show(task.source, message)
        elif isinstance(message, Said):
            self._say(task, message.text)
        elif isinstance(message, Outcome):
            self._show(task.source, None)
            self._tell_outcome(task, message)

    def _tell_outcome(self, task: Task, outcome: Outcome) -> None:
        if outcome.status == "done" and outcome.report is not None:
            self._print(outcome.report.summary())
        elif outcome.status == "skipped":
            self._say(task, outcome.reason)
        elif outcome.status == "failed":  # also when quiet
            line = f"carfix: {_about(task, outcome.reason)}"
            self._console.print(line, markup=False, soft_wrap=True)

    def _say(self, task: Task, text: str) -> None:
        if self._many and isinstance(text, EngineLine):
            if text not in self._engines:
                self._engines.add(text)
                self._print(text)
        else:
            self._print(_about(task, text) if self._many else text)

    def _print(self, text: str) -> None:
        if not self._quiet:
            self._console.print(text, markup=False, soft_wrap=True)

    def _write(self, task: Task, event: Event) -> None:
        if isinstance(event.message, Progress):
            now = time.monotonic()
            if now - self._logged.get(task, 0.0) < _LOG_INTERVAL and event.message.done < event.message.total:
                return
            self._logged[task] = now
        self.log(event_fields(event))

    def log(self, fields: dict[str, Any]) -> None:
        """Write one JSON line. Raises `CarfixError` if nobody can read it any more."""
        if self._log is None:
            return
        try:
            self._log.write(json.dumps(fields) + "\n")
            self._log.flush()
        except OSError as error:
            drop(self._log)
            self._log = None
            why = (
                "the program that reads it has ended" if isinstance(error, BrokenPipeError) else reason(error)
            )
            raise CarfixError(f"cannot write the log (--log-json): {why}") from None

    def summary(self, outcomes: Sequence[Outcome]) -> None:
        """The table at the end of many files: how many of each, and every failure with its reason."""
        counts = {
            status: sum(outcome.status == status for outcome in outcomes)
            for status in ("done", "skipped", "failed", "not started")
        }
        frames = sum(outcome.report.frames for outcome in outcomes if outcome.report is not None)
        self.log(
            {"event": "summary", **{k.replace(" ", "_"): n for k, n in counts.items()}, "frames": frames}
        )
        failures = [outcome for outcome in outcomes if outcome.status == "failed"]
        if failures:
            # In a log, which is 80 columns wide, both hold names that are longer.
            table = Table(Column("failed", overflow="fold"), Column("reason", overflow="fold"))
            for outcome in failures:
                source = str(outcome.task.source)
                table.add_row(escape(source), escape(outcome.reason.removeprefix(f"{source}: ")))
            self._console.print(table)
        self._print(", ".join(f"{n} {status}" for status, n in counts.items() if n) + f"; {frames} frames")

    def total(self, files: int, seconds: float, size: int) -> None:
        """The sum of many estimates."""
        self._print(f"{files} files, about {_duration(seconds)} one after the other and {size / 1e6:.0f} MB")

    def estimate(self, estimate: Estimate) -> None:
        """What a dry run found out about one file."""
        for warning in estimate.warnings:
            self._say(estimate.task, warning)
        done = f" ({estimate.done} are done)" if estimate.done else ""
        self._print(
            f"{estimate.task.source} -> {estimate.task.output}: {estimate.frames} frames{done} in {estimate.segments} "
            f"segments, about {_duration(estimate.seconds)} and {estimate.size / 1e6:.1f} MB ({estimate.engine})"
        )
        self.log(
            {
                "event": "estimate",
                "input": str(estimate.task.source),
                "output": str(estimate.task.output),
                "frames": estimate.frames,
                "segments": estimate.segments,
                "seconds": round(estimate.seconds, 3),
                "bytes": estimate.size,
                "warnings": list(estimate.warnings),
            }
        )


def drop(file: IO[str]) -> None:
    """Let nobody try again to write what `file` still holds: Python would, as it ends, and say so."""
    with contextlib.suppress(OSError, ValueError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, file.fileno())
        os.close(nowhere)


def _about(task: Task, text: str) -> str:
    """`text` with the name of the file before it, once."""
    source = str(task.source)
    return text if text.startswith(f"{source}: ") else f"{source}: {text}"


def event_fields(event: Event) -> dict[str, Any]:
    """An event as the fields of its JSON line; `docs/restore-log.md` describes them."""
    message = event.message
    fields: dict[str, Any] = {"input": str(event.task.source), "output": str(event.task.output)}
    if message == "start":
        return {"event": "start", **fields}
    if isinstance(message, Progress):
        numbers = {"done": message.done, "total": message.total, "resumed": message.resumed}
        return {"event": "progress", **fields, "phase": message.phase, **numbers}
    if isinstance(message, Said):
        return {"event": "message", **fields, "text": message.text}
    assert isinstance(message, Outcome)
    if message.report is not None:
        report = message.report
        fields |= {
            "frames": report.frames,
            "resumed": report.resumed,
            "repeated": report.repeated,
            "seconds": round(report.seconds, 3),
            "engine": report.engine,
            "stream": report.stream,
            "copied": list(report.copied),
            "warnings": list(report.warnings),
            "damaged": report.damaged,
        }
    if message.reason:
        fields["reason"] = message.reason
    return {"event": message.status.replace(" ", "_"), **fields}


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return (
        f"{hours}:{minutes:02d}:{rest:02d}"
        if hours
        else f"{minutes}:{rest:02d} min"
        if minutes
        else f"{rest} s"
    )
