"""Many files: each in its own process, so many at a time, with a list at the end of what became of them."""

import dataclasses
import sys
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from multiprocessing.connection import wait
from pathlib import Path
from typing import Any, Literal

from carfix.cpu import cores
from carfix.errors import EXIT_INTERRUPTED, UsageError
from carfix.interruption import A_WHILE
from carfix.restore.engine.tune_cache import stand_in_cache
from carfix.restore.existing import too_young, what_is_there
from carfix.restore.report import Outcome, Progress
from carfix.restore.tasks import Task
from carfix.restore.worker import Failed, Message, Said, Worker
from carfix.video.faults import reason as media_reason

#: Seconds in which what ends everything (a shutdown, `systemctl stop`) has reached this process, too, and not one
#: worker alone, as an administrator or a watch over memory does.
_TOGETHER = 1.0

#: Python listens to some more processes at once on Windows, and to 64 no longer; so many has its own pool.
_MOST_ON_WINDOWS = 61
#: Seconds after which a process that could not be started is tried once more.
_BREATH = 10.0


@dataclasses.dataclass(frozen=True)
class Event:
    """Something that happened to one file, as it happens."""

    task: Task
    message: Literal["start"] | Said | Progress | Outcome


def restore_batch(
    *,
    tasks: Sequence[Task],
    jobs: int = 1,
    fail_fast: bool = False,
    strict: bool = False,
    min_age: float = 0.0,
    tell: Callable[[Event], None] | None = None,
    **options: Any,  # noqa: ANN401 - those of `restore_video`
) -> list[Outcome]:
    """Restore many files, `jobs` at a time, each in a process of its own; the rest goes on when one fails.

    An output that exists is compared with its input: with all frames at their times, it is skipped as done;
    else it is a failure, unless `overwrite` is among the `options`, which are those of `restore_video`. With
    `fail_fast` the first failure stops everything; with `strict` damaged input counts as failed although what
    could be decoded is restored. What was changed less than `min_age` seconds before its turn comes is skipped: it may
    still be recorded. `tell` is called for every event, in the caller's thread. Returns the outcomes
    in the order of `tasks`. Raises `UsageError` for a number of jobs that cannot be.
    """
    check_jobs(jobs)
    with stand_in_cache() as caches:
        batch = _Batch(tasks, jobs, fail_fast, strict, min_age, tell or (lambda _: None), options, caches)
        try:
            return batch.run()
        finally:
            batch.stop()


def check_jobs(jobs: int) -> None:
    """Raises `UsageError` for a number of files at a time that cannot be."""
    if jobs < 1:
        raise UsageError(f"--jobs must be positive, not {jobs}")


class _Batch:
    def __init__(
        self,
        tasks: Sequence[Task],
        jobs: int,
        fail_fast: bool,
        strict: bool,
        min_age: float,
        tell: Callable[[Event], None],
        options: Mapping[str, Any],
        caches: Path | None,
    ) -> None:
        self._tasks = tasks
        self._jobs = min(jobs, _MOST_ON_WINDOWS) if sys.platform == "win32" else jobs
        self._fail_fast = fail_fast
        self._strict = strict
        self._min_age = min_age
        self._tell = tell
        self._options = options
        self._caches = caches
        self._outcomes: dict[Task, Outcome] = {}
        self._workers: list[Worker] = []

    def run(self) -> list[Outcome]:
        waiting = deque(self._tasks)
        while waiting or self._workers:
            if waiting and len(self._workers) < self._jobs:
                self._begin(waiting.popleft())
            # Looking at outputs of an earlier run may take long: between two of them the others are listened to.
            for worker in self._ready(wanted=not waiting or len(self._workers) == self._jobs):
                self._handle(worker, worker.receive())
            if self._fail_fast and any(o.status == "failed" for o in self._outcomes.values()):
                break
        self.stop()
        for task in self._tasks:
            if task not in self._outcomes:
                self._end(Outcome(task, "not started"))
        return [self._outcomes[task] for task in self._tasks]

    def stop(self) -> None:
        """End all processes; finished segments are kept."""
        for worker in self._workers:
            worker.stop()
        for worker in self._workers:
            worker.close()
        self._workers.clear()

    def _begin(self, task: Task) -> None:
        there = too_young(task, self._min_age) or what_is_there(task, self._options)
        if there is not None:
            self._end(there)
            return
        self._tell(Event(task, "start"))
        try:
            self._workers.append(self._started(task))
        except OSError as error:  # too many processes or open files, or no memory, at this moment
            why = f"cannot start a process for it: {_why_not(error)}"
            self._end(Outcome(task, "failed", reason=why))

    def _started(self, task: Task) -> Worker:
        """A process for `task`. Raises `OSError` if there is none now nor a while later: all would fail at once."""
        try:
            return self._worker(task)
        except OSError:
            if not _is_anywhere():
                raise
        time.sleep(_BREATH)
        return self._worker(task)

    def _worker(self, task: Task) -> Worker:
        taken = [worker.turn for worker in self._workers]
        turn = next(n for n in range(self._jobs) if n not in taken) if self._jobs > 1 else None
        return Worker(task, self._options, self._threads(), self._caches, turn)

    def _threads(self) -> int | None:
        return None if self._jobs == 1 else max(1, len(cores()) // self._jobs)

    def _ready(self, *, wanted: bool) -> list[Worker]:
        """Those with something to say; waits a while for one if it is `wanted`."""
        if not self._workers:
            return []
        readable = wait([worker.connection for worker in self._workers], A_WHILE if wanted else 0)
        return [worker for worker in self._workers if worker.connection in readable]

    def _handle(self, worker: Worker, message: Message | None) -> None:
        task = worker.task
        if isinstance(message, Said | Progress):
            self._tell(Event(task, message))
            return
        if message is None:
            message = worker.death()
        worker.close()
        self._workers.remove(worker)
        if isinstance(message, Failed):
            if message.exit_code == EXIT_INTERRUPTED:
                time.sleep(_TOGETHER)
                message = Failed("its process was told to end (SIGTERM); the next run goes on with it")
            self._end(self._failed(task, message))
        elif message.damaged and self._strict:
            reason = (
                f"the input is damaged ({'; '.join(message.warnings)}); what could be decoded is restored"
            )
            self._end(Outcome(task, "failed", message, reason))
        else:
            self._end(Outcome(task, "done", message))

    def _failed(self, task: Task, message: Failed) -> Outcome:
        if message.elsewhere:
            return Outcome(task, "skipped", reason=message.reason)
        # Another run, on this tree as well, may have made the same file meanwhile.
        there = what_is_there(task, self._options)
        if there is not None and there.status == "skipped":
            return there
        return Outcome(task, "failed", reason=message.reason)

    def _end(self, outcome: Outcome) -> None:
        self._outcomes[outcome.task] = outcome
        self._tell(Event(outcome.task, outcome))


def _is_anywhere() -> bool:
    """Whether this process's current folder is still there, without which none can be started."""
    try:
        Path.cwd()
    except OSError:
        return False
    return True


def _why_not(error: OSError) -> str:
    """Why a process could not be started."""
    if _is_anywhere():
        return media_reason(error)
    return "the current folder was removed, in which it would run; start again from another"
