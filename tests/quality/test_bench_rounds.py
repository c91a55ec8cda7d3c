import itertools

import pytest

from carfix.errors import CarfixError
from carfix.quality.bench.rounds import Done, Rate, Task, measure


class Clock:
    """Time that passes only when a task says so."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now

    def task(
        self,
        name: str,
        pace: float,
        log: list[tuple[str, int]],
        *,
        share: float = 1.0,
        least: int = 1,
        most: int | None = None,
    ) -> Task:
        """Does `pace` units a second."""

        def run(count: int) -> Done:
            log.append((name, count))
            self.now += count / pace
            return Done(count)

        return Task(name=name, run=run, share=share, least=least, most=most)


def test_rounds_are_interleaved_and_fill_the_budget() -> None:
    clock, log = Clock(), []
    tasks = [
        clock.task("slow", 2, log),
        clock.task("fast", 100, log),
        clock.task("half", 100, log, share=0.5),
    ]
    measured = measure(tasks, seconds=6, rounds=3, clock=clock)
    assert {name: rate.median for name, rate in measured.rates.items()} == pytest.approx(
        {"slow": 2, "fast": 100, "half": 100}
    )
    rounds = log[-9:]
    assert [name for name, _ in rounds] == ["slow", "fast", "half"] * 3
    # Two seconds a round, one for the half share.
    assert [count for _, count in rounds[:3]] == pytest.approx([4, 200, 100], abs=1)


def test_a_run_is_never_below_the_least_nor_above_what_there_is() -> None:
    clock, log = Clock(), []
    measure(
        [clock.task("slow", 1, log, least=8), clock.task("short", 1000, log, least=2, most=10)],
        seconds=3,
        clock=clock,
    )
    # What takes longer than its share is not run twice to warm up.
    assert [count for name, count in log if name == "slow"] == [8] * 4
    assert [count for name, count in log if name == "short"] == [2, 2, 10, 10, 10]


def test_only_what_is_optional_is_left_out() -> None:
    clock, log = Clock(), []

    def broken(count: int) -> Done:
        raise CarfixError("it is\nbroken")

    late_runs = itertools.count()

    def late(count: int) -> Done:
        if next(late_runs) == 3:
            raise RuntimeError("out of memory")
        clock.now += 1
        return Done(count)

    told: list[tuple[int, int, str]] = []
    measured = measure(
        [
            Task(name="broken", run=broken, optional=True),
            Task(name="late", run=late, optional=True),
            clock.task("whole", 10, log),
        ],
        seconds=3,
        clock=clock,
        progress=lambda *done: told.append(done),
    )
    assert measured.left_out == {"broken": "it is broken", "late": "RuntimeError: out of memory"}
    assert list(measured.rates) == ["whole"] and len(measured.rates["whole"].values) == 3
    assert [done for done, _, _ in told] == list(range(13)) and told[-1][:2] == (12, 12)
    with pytest.raises(CarfixError, match="broken"):
        measure([Task(name="broken", run=broken)], seconds=1, clock=clock)


def test_a_task_that_knows_its_own_seconds_is_believed() -> None:
    measured = measure([Task(name="own", run=lambda count: Done(30, 2.0))], seconds=0.01)
    assert measured.rates["own"].values == (15, 15, 15)


def test_a_quotient_is_the_median_of_the_rounds() -> None:
    # The machine was half as fast in the second round: a quotient of medians would say 3.
    assert Rate((6, 3, 8)).over(Rate((3, 1.5, 2))) == 2
    assert Rate((1, 2, 3)).times(4).values == (4, 8, 12)
