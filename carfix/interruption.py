"""What a process does when it is told to end: it winds up, and ends in any case a few seconds later.

Python hands a signal to the main thread between two of its steps, be it amid a lock's operations or the start of a
thread, and whoever that leaves waiting waits for ever. Nothing is lost where a process ends at once (what is finished
lies on the disk, nothing else under a final name), so none may hang.
"""

import contextlib
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn

from carfix.errors import EXIT_INTERRUPTED

#: What asks a program to end: Ctrl-C, `kill` and the system's shutdown, a terminal that goes away.
ENDING = [number for name in ("SIGINT", "SIGTERM", "SIGHUP") if (number := getattr(signal, name, None))]
#: Seconds for winding up: a batch of windows of the full network on two cores takes as long.
PATIENCE = 5.0
#: Seconds after which a second signal is somebody who does not want to wait, not the same one sent twice (as `timeout`
#: and a batch's parent both do).
IMPATIENT = 1.0
#: Seconds that the main thread may wait for others in one go: of a signal that comes just before it falls asleep,
#: Python hears when it wakes.
A_WHILE = 1.0


def was_interrupted(error: BaseException | None) -> bool:
    """Whether it is an interruption or came of one: a signal amid a lock's operations leaves Python's own not held,
    "cannot release un-acquired lock".
    """
    while error is not None and not isinstance(error, KeyboardInterrupt):
        error = error.__context__
    return error is not None


@contextlib.contextmanager
def ending_on(*signals: signal.Signals, last: Callable[[], None] = lambda: None) -> Iterator[None]:
    """The first of `signals` raises `KeyboardInterrupt` in the main thread, which must be the caller's.

    If the process is still there `PATIENCE` later, or meets another signal, it calls `last` and ends with exit code
    130, also behind the block. What is ignored, as a shell has it for what runs in the background, stays so.
    """
    ending = _Ending(last)
    before = {number: signal.getsignal(number) for number in signals}
    for number, handler in before.items():
        if handler != signal.SIG_IGN:
            signal.signal(number, ending)
    try:
        yield
    finally:
        if not ending.began:  # else the process ends now, and a second signal must not end it otherwise
            for number, handler in before.items():
                signal.signal(number, handler)


_unfinished: set[Path] = set()


@contextlib.contextmanager
def unfinished(path: Path) -> Iterator[None]:
    """Whatever ends the block, also a process that is ended in it: `path` is not there behind it."""
    _unfinished.add(path)
    try:
        yield
    finally:
        # Windows removes no open file, and a muxer that failed may hold it: what it failed for is what is to be told.
        with contextlib.suppress(PermissionError):
            path.unlink(missing_ok=True)
        _unfinished.discard(path)


@contextlib.contextmanager
def undisturbed() -> Iterator[None]:
    """Signals that would end the process come behind the block: for starting threads and processes, which half
    started nobody would wait for. What is started in it never meets them, or not before it `heed`s them.
    """
    if not hasattr(signal, "pthread_sigmask"):  # Windows
        yield
        return
    came: list[int] = []
    handlers: dict[signal.Signals, Callable[[int, FrameType | None], Any]] = {}
    if threading.current_thread() is threading.main_thread():
        # What it blocks another thread takes (numpy has some), and Python still calls handlers in the main thread.
        handlers = {number: found for number in ENDING if callable(found := signal.getsignal(number))}
    before = signal.pthread_sigmask(signal.SIG_BLOCK, ())
    try:
        for number in handlers:
            signal.signal(number, lambda number, _: came.append(number))
        signal.pthread_sigmask(signal.SIG_BLOCK, ENDING)
        yield
    finally:
        try:
            for number, handler in handlers.items():
                signal.signal(number, handler)
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
        if came:
            signal.raise_signal(came[0])


def heed(number: signal.Signals) -> None:
    """Let this thread meet a signal that `undisturbed` kept from it."""
    if hasattr(signal, "pthread_sigmask"):
        signal.pthread_sigmask(signal.SIG_UNBLOCK, [number])


def end_soon(last: Callable[[], None] = lambda: None) -> None:
    """End this process `PATIENCE` from now if it is still there, as `ending_on` does."""
    threading.Thread(target=_watch, args=(last,), name="carfix-ending", daemon=True).start()


def _watch(last: Callable[[], None]) -> None:
    time.sleep(PATIENCE)
    _end(last)


def _end(last: Callable[[], None]) -> NoReturn:
    try:
        for path in tuple(_unfinished):
            path.unlink(missing_ok=True)
        last()
    finally:
        os._exit(EXIT_INTERRUPTED)


class _Ending:
    def __init__(self, last: Callable[[], None]) -> None:
        self._last = last
        self.began: float | None = None

    def __call__(self, signum: int, frame: FrameType | None) -> None:
        if self.began is None:
            self.began = time.monotonic()
            end_soon(self._last)
            raise KeyboardInterrupt
        if time.monotonic() - self.began > IMPATIENT:
            _end(self._last)
