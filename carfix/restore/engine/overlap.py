"""Beginning a batch before the one before it is done, with engines that can, and with those that cannot."""

from collections.abc import Callable
from typing import Protocol, runtime_checkable

from carfix.restore.engine import Engine, Planes


class Pending(Protocol):
    """A batch under way."""

    def result(self) -> Planes:
        """Its restored planes, waited for."""
        ...


@runtime_checkable
class Overlapping(Protocol):
    """What an engine has that computes while its caller prepares the next batch."""

    #: Batches that may be under way at once.
    depth: int

    def submit(self, planes: Planes, bit_depth: int) -> Pending:
        """Begin `Engine.restore`, with the same result; `planes` may be overwritten at once."""
        ...


def depth_of(engine: Engine) -> int:
    """Batches that may be under way at once; 1 for an engine that computes while it is called."""
    return engine.depth if isinstance(engine, Overlapping) else 1


def begin(engine: Engine, planes: Planes, bit_depth: int) -> Callable[[], Planes]:
    """Begin restoring `planes`; the function returned waits for the result. Either may raise as `restore` does."""
    if isinstance(engine, Overlapping):
        return engine.submit(planes, bit_depth).result
    restored = engine.restore(planes, bit_depth)
    return lambda: restored
