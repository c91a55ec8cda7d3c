"""Processes that decode and encode beside each other: Python's threads would wait for one another between frames."""

import contextlib
import functools
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import BrokenExecutor, ProcessPoolExecutor, as_completed
from multiprocessing import active_children, get_context
from multiprocessing.connection import Connection
from typing import Protocol, TypeVar

import torch

from carfix.errors import CarfixError

#: Seconds in which a worker that ends at once has ended.
_PATIENCE = 10.0
#: Python's bound on Windows, which waits for so many things at once.
_MOST_ON_WINDOWS = 61

K = TypeVar("K")
T = TypeVar("T")


class Run(Protocol):
    """Calls a function with many arguments, each under a key."""

    def __call__(
        self, function: Callable[..., T], calls: Mapping[K, tuple[object, ...]], /
    ) -> Iterator[tuple[K, Callable[[], T]]]:
        """The keys as their calls come to an end, each with what returns or raises the call's outcome.

        Raises `CarfixError` if a process was ended from outside.
        """
        ...


@contextlib.contextmanager
def workers(jobs: int) -> Iterator[Run]:
    """A `Run` in `jobs` processes (on Windows in 61 at most), or in the calling thread if only one call runs at a time.

    An exception in the block, Ctrl-C among them, ends the processes at once, whatever they are doing; so does the end
    of this process.
    """
    if jobs == 1:
        yield _here
        return
    if sys.platform == "win32":
        jobs = min(jobs, _MOST_ON_WINDOWS)
    others = set(active_children())
    context = get_context("spawn")  # torch and FFmpeg hold threads that a fork would break
    # Nothing is ever sent. Its writing end closes when this process ends, even by SIGKILL: no worker holds a copy.
    ending, lifeline = context.Pipe(duplex=False)
    pool = ProcessPoolExecutor(jobs, mp_context=context, initializer=_begin, initargs=(ending,))
    try:
        yield functools.partial(_beside, pool)
    except BaseException:
        pool.shutdown(wait=False, cancel_futures=True)
        raise
    else:
        pool.shutdown()
    finally:
        lifeline.close()
        pool.shutdown()
        ending.close()
        # Until they are gone they may write what the caller then removes.
        for worker in set(active_children()) - others:
            worker.join(_PATIENCE)


def _here(
    function: Callable[..., T], calls: Mapping[K, tuple[object, ...]], /
) -> Iterator[tuple[K, Callable[[], T]]]:
    """In this thread, which Ctrl-C stops in the middle of a clip; a thread of a pool would be waited for."""
    for key, arguments in calls.items():
        yield key, functools.partial(function, *arguments)


def _beside(
    pool: ProcessPoolExecutor, function: Callable[..., T], calls: Mapping[K, tuple[object, ...]], /
) -> Iterator[tuple[K, Callable[[], T]]]:
    futures = {pool.submit(function, *arguments): key for key, arguments in calls.items()}
    for future in as_completed(futures):
        if isinstance(future.exception(), BrokenExecutor):
            raise CarfixError(
                "a process that decodes or encodes was ended from outside, perhaps for want of memory; "
                "run the command again, with fewer --jobs if it has them"
            )
        yield futures[future], future.result


def _begin(ending: Connection) -> None:
    """What a worker does first."""
    torch.set_num_threads(1)
    # A terminal sends Ctrl-C to all of its processes: the parent decides what becomes of this one.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, args=(ending,), name="carfix-lifeline", daemon=True).start()


def _end_with_parent(ending: Connection) -> None:
    with contextlib.suppress(EOFError, OSError):
        ending.recv_bytes()
    # At once: all that a worker writes lies under temporary names.
    os._exit(1)
