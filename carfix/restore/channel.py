"""A bounded queue between two threads that ends cleanly when either side fails."""

import threading
from collections import deque
from collections.abc import Callable, Iterator
from typing import Generic, TypeVar

T = TypeVar("T")

#: Seconds after which an item that waits for room asks whether it is still wanted.
_PATIENCE = 1.0


class Closed(Exception):
    """The other side has gone: stop working, without a message of your own."""


class Channel(Generic[T]):
    """Items in order from one thread to another, at most `capacity` waiting."""

    def __init__(self, capacity: int, *, wanted: Callable[[], bool] = lambda: True) -> None:
        """`wanted` tells whether the other side may still take items; False is as `abandon`."""
        self._capacity = capacity
        self._wanted = wanted
        self._items: deque[T] = deque()
        self._changed = threading.Condition()
        self._finished = False  # no more items will come
        self._abandoned = False  # no one wants more, or what is waiting

    def put(self, item: T) -> None:
        """Wait for room and add `item`. Raises `Closed` if nobody will take it."""
        with self._changed:
            while not self._changed.wait_for(self._can_go_on, _PATIENCE):
                self._abandoned = not self._wanted()
            if self._abandoned:
                raise Closed
            self._items.append(item)
            self._changed.notify_all()

    def _can_go_on(self) -> bool:
        return self._abandoned or len(self._items) < self._capacity

    def is_empty(self) -> bool:
        """Whether nothing is waiting now."""
        return not self._items

    def finish(self) -> None:
        """Say that no more items will come."""
        with self._changed:
            self._finished = True
            self._changed.notify_all()

    def abandon(self) -> None:
        """Drop what is waiting and make both sides stop with `Closed`."""
        with self._changed:
            self._abandoned = True
            self._items.clear()
            self._changed.notify_all()

    def __iter__(self) -> Iterator[T]:
        """Items until `finish`. Raises `Closed` after `abandon`."""
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._abandoned or self._items or self._finished)
                if self._abandoned:
                    raise Closed
                if not self._items:
                    return
                item = self._items.popleft()
                self._changed.notify_all()
            yield item
