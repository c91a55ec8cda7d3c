"""Threads that take windows from one queue, a core each.

All cores on one window would meet at a barrier behind every layer, and whoever holds one of them up (an encoder,
another program) holds up all: on a busy machine that costs several times the speed. It also lets no result depend on
how many cores there are.
"""

import contextlib
import itertools
import os
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from carfix.errors import CarfixError
from carfix.interruption import undisturbed


class Crew:
    """So many threads; they start with the first work and end with `close`."""

    def __init__(self, count: int) -> None:
        self.count = count
        self._pool: ThreadPoolExecutor | None = None
        self._closing = threading.Event()
        self._owner = os.getpid()

    def each(self, work: Callable[[int], None], count: int) -> None:
        """Call `work` with every number below `count`, in no order. Raises what a call raised, once all rest."""
        self.begin(work, count)()

    def begin(self, work: Callable[[int], None], count: int) -> Callable[[], None]:
        """Begin `each` behind what was begun before; the function returned waits for its end, and raises
        `CarfixError` if `close` came before it.

        A thread that finds nothing left of one goes on with the next: none waits for the others in between.
        """
        if self._owner != os.getpid():  # a fork has the pool, and none of its threads
            self._pool, self._closing, self._owner = None, threading.Event(), os.getpid()
        pool = self._pool = self._pool or self._start()
        numbers = itertools.count()  # its `next` is one step of the interpreter: no number comes twice
        failed = threading.Event()
        closing = self._closing
        done: list[int] = []

        def take() -> None:
            while not (failed.is_set() or closing.is_set()) and (number := next(numbers)) < count:
                try:
                    work(number)
                    done.append(number)
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
            if len(done) < count:
                raise CarfixError("the engine was closed while it computed")

        return wait

    def close(self) -> None:
        """End the threads and drop what nobody has waited for; later work would start new ones."""
        if self._pool is not None:
            self._closing.set()
            self._pool.shutdown()
            self._pool = None
            self._closing = threading.Event()

    def _start(self) -> ThreadPoolExecutor:
        return self.pool(lambda: None)

    def pool(self, prepare: Callable[[], None]) -> ThreadPoolExecutor:
        """Its threads, running, behind `prepare` in each of them."""
        started = threading.Barrier(self.count + 1)

        def alone() -> None:
            prepare()
            with contextlib.suppress(threading.BrokenBarrierError):  # nobody waits any more
                started.wait()

        pool = ThreadPoolExecutor(self.count, thread_name_prefix="carfix-window", initializer=alone)
        try:
            with undisturbed():
                for _ in range(self.count):
                    pool.submit(int)
                started.wait()
        except BaseException:  # threads that have come this far would wait for the others for ever
            started.abort()
            pool.shutdown(wait=False)
            raise
        return pool
