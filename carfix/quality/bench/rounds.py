"""Measuring many things side by side: interleaved rounds, so that a machine whose clock or load drifts treats all
alike, and medians, so that one disturbance does not decide."""

import dataclasses
import statistics
import time
from collections.abc import Callable, Sequence

from carfix.errors import CarfixError
from carfix.progress import OnProgress, silent

#: Rounds of every task: the least of which a median drops an outlier.
ROUNDS = 3


@dataclasses.dataclass(frozen=True)
class Done:
    """What one run of a task did."""

    units: float  # frames, or what else the task counts
    seconds: float | None = None  # where the task itself knows better than the clock around it


@dataclasses.dataclass(frozen=True, kw_only=True)
class Task:
    """Something whose speed is measured.

    `run` does about so many units as it is asked for, at least one, and is done (devices synchronised) when it returns.
    """

    name: str
    run: Callable[[int], Done]
    least: int = 1  # units of a run that say anything about the speed
    most: int | None = None  # units that there are
    share: float = 1.0  # of the budget of seconds that it gets
    optional: bool = False  # what fails is left out with its reason, and everything else goes on


@dataclasses.dataclass(frozen=True)
class Rate:
    """Units a second, a value a round."""

    values: tuple[float, ...]

    @property
    def median(self) -> float:
        """The middle of the rounds."""
        return statistics.median(self.values)

    def times(self, factor: float) -> "Rate":
        """The same in another unit."""
        return Rate(tuple(value * factor for value in self.values))

    def over(self, other: "Rate") -> float:
        """How many times `other` this is: the median of the quotients of each round, so that drift cancels."""
        return statistics.median(a / b for a, b in zip(self.values, other.values, strict=True))


@dataclasses.dataclass(frozen=True)
class Measured:
    """Rates by the tasks' names, and why there is none of the others."""

    rates: dict[str, Rate]
    left_out: dict[str, str]


def measure(
    tasks: Sequence[Task],
    *,
    seconds: float,
    rounds: int = ROUNDS,
    progress: OnProgress = silent,
    clock: Callable[[], float] = time.perf_counter,
) -> Measured:
    """Run each task to warm it up and learn its pace, then all of them in turn, `rounds` times.

    A task gets about `seconds` times its `share` in all rounds together, but at least `rounds` runs of its `least`
    units. Raises what a task raises that is not optional.
    """
    total = len(tasks) * (1 + rounds)
    done = 0
    counts: dict[str, int] = {}
    values: dict[str, list[float]] = {task.name: [] for task in tasks}
    left_out: dict[str, str] = {}

    def attempt(task: Task, work: Callable[[], None]) -> None:
        nonlocal done
        progress(done, total, task.name)
        done += 1
        if task.name in left_out:
            return
        try:
            work()
        except Exception as error:
            if not task.optional:
                raise
            left_out[task.name] = _reason(error)

    for task in tasks:

        def learn(task: Task = task) -> None:
            counts[task.name] = _units_a_round(task, seconds * task.share / rounds, clock)

        attempt(task, learn)
    for _ in range(rounds):
        for task in tasks:

            def run(task: Task = task) -> None:
                values[task.name].append(_pace(task, counts[task.name], clock)[0])

            attempt(task, run)
    progress(total, total, "")
    rates = {name: Rate(tuple(each)) for name, each in values.items() if name not in left_out}
    return Measured(rates, left_out)


def _pace(task: Task, count: int, clock: Callable[[], float]) -> tuple[float, float]:
    """Units a second of one run, and the seconds that it took by the clock."""
    began = clock()
    done = task.run(count)
    elapsed = clock() - began
    return done.units / max(elapsed if done.seconds is None else done.seconds, 1e-9), elapsed


def _units_a_round(task: Task, seconds: float, clock: Callable[[], float]) -> int:
    """Warm up, and find how many units take `seconds`."""
    pace, elapsed = _pace(task, task.least, clock)
    if elapsed < seconds:
        # The first run paid for what is set up once; a second one is affordable and tells the pace.
        pace, _ = _pace(task, task.least, clock)
    count = max(task.least, int(pace * seconds))
    return count if task.most is None else max(1, min(count, task.most))


def _reason(error: Exception) -> str:
    text = " ".join(str(error).split())
    return text if isinstance(error, CarfixError) else f"{type(error).__name__}: {text:.200}"
