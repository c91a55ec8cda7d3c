"""One file in a process of its own: what a codec breaks there, it breaks for one file only."""

import atexit
import contextlib
import dataclasses
import gc
import multiprocessing
import os
import select
import signal
import time
import traceback
from collections.abc import Mapping
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from carfix.errors import EXIT_FAILED, EXIT_INTERRUPTED, CarfixError, internal
from carfix.interruption import ENDING, PATIENCE, end_soon, ending_on, heed, undisturbed, was_interrupted
from carfix.restore.gpus import keep_to_one
from carfix.restore.one_file import restore_video
from carfix.restore.report import Progress, Report
from carfix.restore.state import AtWorkError
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
    elsewhere: bool = False  # another process works on it


Message = Said | Progress | Report | Failed


class Worker:
    """A running process and what it has to say."""

    def __init__(
        self,
        task: Task,
        options: Mapping[str, Any],
        threads: int | None,
        caches: Path | None = None,
        turn: int | None = None,
    ) -> None:
        """`caches` is its `XDG_CACHE_HOME`, if not the user's.

        `turn` is its number among those that work at the same time, by which they divide several GPUs.
        """
        self.task = task
        self.turn = turn
        self.connection, theirs = multiprocessing.Pipe(duplex=False)
        # Spawned, not forked: a child of a process with threads may inherit their locks, held for ever.
        context = multiprocessing.get_context("spawn")
        self.process = context.Process(
            target=_work, args=(task, dict(options), threads, caches, turn, theirs), daemon=False
        )
        if os.name == "posix":
            resource_tracker.ensure_running()  # it would be started in the block, and unblock the signals
        # The process, too, until it can heed signals: not even its imports show a traceback.
        with undisturbed():
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
        self._wait()
        code = self.process.exitcode or 0
        if code == EXIT_INTERRUPTED:  # told to end, and not done with that in time
            return Failed("interrupted", EXIT_INTERRUPTED)
        if code < 0:
            name = signal.Signals(-code).name
            return Failed(f"its process was ended by {name}: a codec broke down, or memory ran out")
        return Failed(f"its process ended with code {code}")

    def stop(self) -> None:
        """Tell the process to end; what it has finished stays for the next run."""
        if self.process.is_alive():
            self.process.terminate()
        # What it still has to say would fill a pipe that nobody reads: it would wait for that, and we for it.
        self.connection.close()

    def close(self) -> None:
        """Wait for the end of the process, which has nothing to say any more."""
        self._wait()
        self.connection.close()

    def _wait(self) -> None:
        self.process.join(2 * PATIENCE)
        if self.process.is_alive():
            self.process.kill()  # its result has come, or is not wanted; segments are safe
            self.process.join()


def _work(
    task: Task,
    options: dict[str, Any],
    threads: int | None,
    caches: Path | None,
    turn: int | None,
    connection: Connection,
) -> None:
    atexit.register(gc.freeze)  # as the command does
    if turn is not None:
        keep_to_one(turn, options.get("device", "auto"))
    if caches is not None:
        os.environ["XDG_CACHE_HOME"] = str(caches)
    for number in ENDING:
        if number != signal.SIGTERM:  # a terminal's go to the whole group; the parent decides what they mean
            signal.signal(number, signal.SIG_IGN)
    with ending_on(signal.SIGTERM):
        _restore(task, options, threads, connection)


def _restore(task: Task, options: dict[str, Any], threads: int | None, connection: Connection) -> None:
    def send(message: Message) -> None:
        try:
            connection.send(message)
        except OSError:
            # The parent is gone or listens no more, and with it whoever wanted this.
            end_soon()
            raise KeyboardInterrupt from None

    if threads is not None:
        os.environ.setdefault("OMP_NUM_THREADS", str(threads))
    last = 0.0

    def progress(event: Progress) -> None:
        nonlocal last
        now = time.monotonic()
        if event.done == event.total or (now - last >= _PROGRESS_INTERVAL and _has_room(connection)):
            last = now
            send(event)

    try:
        heed(signal.SIGTERM)
        report = restore_video(
            source=task.source,
            output=task.output,
            parents=True,
            progress=progress,
            say=lambda text: send(Said(text)),
            **options,
        )
        send(report)
    except BaseException as error:  # noqa: BLE001 - told to the parent
        with contextlib.suppress(OSError):
            connection.send(_failure(error))


def _has_room(connection: Connection) -> bool:
    """Whether the parent has taken what it was told: while it looks at a long output of an earlier run, it does not for
    minutes, and to tell it how far the work is would halt the work.
    """
    return os.name != "posix" or bool(select.select([], [connection], [], 0)[1])


def _failure(error: BaseException) -> Failed:
    if was_interrupted(error):
        return Failed("interrupted", EXIT_INTERRUPTED)
    if isinstance(error, CarfixError):
        text = " ".join(str(error).split())
        return Failed(text, error.exit_code, elsewhere=isinstance(error, AtWorkError))
    where = traceback.extract_tb(error.__traceback__)[-1]
    return Failed(internal(error, f"{Path(where.filename).name}:{where.lineno}"))
