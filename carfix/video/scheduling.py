"""Encoders must not turn carfix into a realtime process."""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

_THREADS = Path("/proc/self/task")  # Linux alone has both this and the call that changes another thread


@contextlib.contextmanager
def kept_scheduling() -> Iterator[None]:
    """Give every thread the scheduling that the calling one had before: its own, and those made meanwhile.

    SVT-AV1, opened by root (as in most containers), makes its threads *and the one that opens it* SCHED_FIFO at
    priority 99. What that thread starts later inherits it. A network's OpenMP threads that spin for work then never
    give way to the thread that they wait for, and nothing else on the machine runs either: a hang.
    """
    if not hasattr(os, "sched_getscheduler") or not _THREADS.is_dir():
        yield
        return
    policy, parameters = os.sched_getscheduler(0), os.sched_getparam(0)
    known = thread_policies()
    try:
        yield
    finally:
        for thread, now in thread_policies().items():
            if now in (os.SCHED_FIFO, os.SCHED_RR) and now != known.get(thread, policy):
                with contextlib.suppress(OSError):  # the thread has ended
                    os.sched_setscheduler(thread, policy, parameters)


def thread_policies() -> dict[int, int]:
    """The scheduling policy of every thread of this process, by thread ID. Linux alone."""
    found: dict[int, int] = {}
    for entry in _THREADS.iterdir():
        with contextlib.suppress(OSError):  # the thread has ended
            found[int(entry.name)] = os.sched_getscheduler(int(entry.name))
    return found
