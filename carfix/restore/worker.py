"""One file in a process of its own: what a codec breaks there, it breaks for one file only."""

import dataclasses
import multiprocessing
import os
import signal
import time
import traceback
from collections.abc import Mapping
from multiprocessing.connection import Connection
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn

from carfix.errors import EXIT_FAILED, EXIT_INTERRUPTED, CarfixError
from carfix.restore.job import restore_video
from carfix.restore.report import Progress, Report
from carfix.restore.tasks import Task

#: Seconds between two progress messages of a worker.
_PROGRESS_INTERVAL = 0.2


@dataclasses.dataclass(frozen=True)
class Said:
    """A line for people."""

    text: str


@dataclasses.dataclass(frozen=True)
class Failed:
    """Why a file was not restored."""

    reason: str
    exit_code: int = EXIT_FAILED


Message = Said | Progress | Report | Failed


class Worker:
    """A running process and what it has to say."""

    def __init__(self, task: Task, options: Mapping[str, Any], threads: int | None) -> None:
        self.task = task
        self.connection, theirs = multiprocessing.Pipe(duplex=False)
        # Spawned, not forked: a child of a process with threads may inherit their locks, held for ever.
        context = multiprocessing.get_context("spawn")
        self.process = context.Process(
            target=_work, args=(task, dict(options), threads, theirs), daemon=False
        )
        self.process.start()
        theirs.close()

    def receive(self) -> Message | None:
        """The next message; None once the process has ended without one. Call when `connection` is readable."""
        try:
            message: Message = self.connection.recv()
        except (EOFError, OSError):
            return None
        return message

    def death(self) -> Failed:
        """Why the process ended without a result."""
        self.process.join()
        code = self.process.exitcode or 0
        if code < 0:
            name = signal.Signals(-code).name
            return Failed(f"its process was ended by {name}: a codec broke down, or memory ran out")
        return Failed(f"its process ended with code {code}")

    def stop(self) -> None:
        """End the process; what it has finished stays for the next run."""
        if self.process.is_alive():
            self.process.terminate()

    def close(self) -> None:
        """Wait for the end of the process."""
        self.process.join()
        self.connection.close()


def _work(task: Task, options: dict[str, Any], threads: int | None, connection: Connection) -> None:
    # Ctrl-C reaches the whole group of processes; the parent decides what it means.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, _terminate)
    if threads is not None:
        os.environ.setdefault("OMP_NUM_THREADS", str(threads))
    last = 0.0

    def progress(event: Progress) -> None:
        nonlocal last
        now = time.monotonic()
        if now - last >= _PROGRESS_INTERVAL or event.done == event.total:
            last = now
            connection.send(event)

    try:
        report = restore_video(
            source=task.source,
            output=task.output,
            parents=True,
            progress=progress,
            say=lambda text: connection.send(Said(text)),
            **options,
        )
        connection.send(report)
    except BrokenPipeError:
        os._exit(EXIT_INTERRUPTED)  # the parent is gone, and with it whoever wanted this
    except KeyboardInterrupt:
        connection.send(Failed("interrupted", EXIT_INTERRUPTED))
    except CarfixError as error:
        connection.send(Failed(" ".join(str(error).split()), error.exit_code))
    except BaseException as error:  # noqa: BLE001 - told to the parent
        where = traceback.extract_tb(error.__traceback__)[-1]
        place = f"{Path(where.filename).name}:{where.lineno}"
        connection.send(Failed(f"internal error: {type(error).__name__}: {error} ({place})"))


def _terminate(signum: int, frame: FrameType | None) -> NoReturn:
    raise KeyboardInterrupt
