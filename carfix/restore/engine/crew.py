"""Threads that take windows from one queue, a core each.

All cores on one window would meet at a barrier behind every layer, and whoever holds one of them up (an encoder,
another program) holds up all: on a busy machine that costs several times the speed. It also lets no result depend on
how many cores there are.
"""

import itertools
import os
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import torch


def available_threads() -> int:
    """Threads that compute at once: as many as torch would use, and no more than this process has cores.

    torch heeds `OMP_NUM_THREADS` and `torch.set_num_threads`; containers and `taskset` give fewer cores than the
    machine has.
    """
    if hasattr(os, "sched_getaffinity"):
        cores = len(os.sched_getaffinity(0))
    else:
        cores = os.cpu_count() or 1
    return max(1, min(torch.get_num_threads(), cores))


class Crew:
    """So many threads, each with one torch thread; they start with the first work and end with `close`."""

    def __init__(self, count: int) -> None:
        self.count = count
        self._pool: ThreadPoolExecutor | None = None
        self._closing = threading.Event()

    def each(self, work: Callable[[int], None], count: int) -> None:
        """Call `work` with every number below `count`, in no order. Raises what a call raised, once all rest."""
        self.begin(work, count)()

    def begin(self, work: Callable[[int], None], count: int) -> Callable[[], None]:
        """Begin `each` behind what was begun before; the function returned waits for its end.

        A thread that finds nothing left of one goes on with the next: none waits for the others in between.
        """
        pool = self._pool = self._pool or _start(self.count)
        numbers = itertools.count()  # its `next` is one step of the interpreter: no number comes twice
        failed = threading.Event()
        closing = self._closing

        @torch.inference_mode()
        def take() -> None:
            while not (failed.is_set() or closing.is_set()) and (number := next(numbers)) < count:
                try:
                    work(number)
                except BaseException:
                    failed.set()
                    raise

        running = [pool.submit(take) for _ in range(min(self.count, count))]

        def wait() -> None:
            try:
                errors = [error for future in running if (error := future.exception()) is not None]
            except BaseException:  # Ctrl-C while waiting
                failed.set()
                raise
            if errors:
                raise errors[0]

        return wait

    def close(self) -> None:
        """End the threads and drop what nobody has waited for; later work would start new ones."""
        if self._pool is not None:
            self._closing.set()
            self._pool.shutdown()
            self._pool = None
            self._closing = threading.Event()


def _start(count: int) -> ThreadPoolExecutor:
    before = torch.get_num_threads()
    started = threading.Barrier(count + 1)

    def alone() -> None:
        torch.set_num_threads(1)  # of this thread, and of threads started later
        torch.get_num_threads()  # what a thread has not asked for by then, it would take from everyone's below
        started.wait()

    pool = ThreadPoolExecutor(count, thread_name_prefix="carfix-window", initializer=alone)
    for _ in range(count):
        pool.submit(int)
    started.wait()
    torch.set_num_threads(before)  # again as it was for everyone else
    return pool
