"""Threads that take windows from one queue: nothing twice, nothing lost, no waiting for each other."""

import multiprocessing
import threading
import time
from multiprocessing.connection import Connection

import pytest
import torch

from carfix.errors import CarfixError
from carfix.restore.engine.crew import Crew
from carfix.restore.engine.fused_engine import TorchCrew
from carfix.restore.engine.planes import OutOfMemory

pytestmark = pytest.mark.usefixtures("one_torch_thread")


def test_crew_takes_every_number_once_and_leaves_torch_its_threads() -> None:
    torch.set_num_threads(2)
    crew = TorchCrew(3)
    taken: list[int] = []
    inside: list[int] = []

    def work(number: int) -> None:
        inside.append(torch.get_num_threads())
        taken.append(number)

    crew.each(work, 100)
    crew.each(work, 1)
    crew.close()
    assert sorted(taken) == sorted([*range(100), 0])
    assert set(inside) == {1}
    assert torch.get_num_threads() == 2


def test_crew_passes_on_what_a_thread_raised_and_stops() -> None:
    crew = Crew(2)
    taken: list[int] = []

    def work(number: int) -> None:
        taken.append(number)
        if number == 3:
            raise OutOfMemory("no room")

    with pytest.raises(OutOfMemory, match="no room"):
        crew.each(work, 10**6)
    assert len(taken) < 10**6
    crew.close()


def test_a_thread_without_work_goes_on_with_what_was_begun_next() -> None:
    """Nothing meets at the end of a batch: the first one's last window is held up until the second one is done."""
    crew = Crew(2)
    second_done = threading.Event()

    def first(number: int) -> None:
        if number == 2:
            assert second_done.wait(timeout=60)

    wait_first = crew.begin(first, 3)
    crew.begin(lambda number: None, 5)()
    second_done.set()
    wait_first()
    crew.close()


def test_closing_does_not_wait_for_what_nobody_waits_for() -> None:
    crew = Crew(1)
    began, go = threading.Event(), threading.Event()
    taken: list[int] = []

    def work(number: int) -> None:
        taken.append(number)
        began.set()
        go.wait(timeout=60)

    crew.begin(work, 1000)
    began.wait(timeout=60)
    closer = threading.Thread(target=crew.close)
    closer.start()
    while not crew._closing.is_set():
        time.sleep(0.001)
    go.set()
    closer.join(timeout=60)
    assert taken == [0]
    crew.each(lambda number: taken.append(number), 2)  # a crew that was closed may begin anew
    assert sorted(taken) == [0, 0, 1]
    crew.close()


def test_what_a_close_cuts_short_is_no_result() -> None:
    crew, begun = Crew(2), threading.Event()

    def work(number: int) -> None:
        begun.set()
        time.sleep(0.05)

    wait = crew.begin(work, 20)
    begun.wait(10)
    crew.close()
    with pytest.raises(CarfixError, match="was closed"):
        wait()
    crew.each(work, 2)  # later work starts it again
    crew.close()


def _computed(crew: Crew, connection: Connection) -> None:
    found: list[int] = []
    crew.each(found.append, 4)
    connection.send(sorted(found))


@pytest.mark.skipif("fork" not in multiprocessing.get_all_start_methods(), reason="no forks here")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_fork_has_threads_of_its_own() -> None:
    crew = Crew(2)
    crew.each(lambda number: None, 4)
    ours, theirs = multiprocessing.Pipe()
    child = multiprocessing.get_context("fork").Process(target=_computed, args=(crew, theirs))
    child.start()
    assert ours.poll(30) and ours.recv() == [0, 1, 2, 3]
    child.join(30)
    crew.close()
