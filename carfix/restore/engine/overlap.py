"""What some engines can and others need not: plan ahead, and begin a batch before the one before it is done."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import Protocol, TypeVar, runtime_checkable

from carfix.restore.engine import Engine, Planes, Strengths, WantedParts

T = TypeVar("T")


class Pending(Protocol):
    """A batch under way."""

    def result(self) -> Planes:
        """Its restored planes, waited for."""
        ...


@runtime_checkable
class Overlapping(Protocol):
    """What an engine has that computes while its caller prepares the next batch."""

    @property
    def depth(self) -> int:
        """Batches under way at once that keep it busy; it may change with the size of the planes."""
        ...

    def submit(self, planes: Planes, bit_depth: int, strengths: Strengths | None = None) -> Pending:
        """Begin `Engine.restore`, with the same result; `planes` stay as they are until it is there."""
        ...


@runtime_checkable
class Selective(Protocol):
    """What an engine has that can leave out what nobody will look at."""

    def submit_parts(
        self, planes: Planes, bit_depth: int, strengths: Strengths | None, wanted: WantedParts
    ) -> Pending:
        """As `Overlapping.submit`; pixels that are not `wanted` may come out as anything."""
        ...


@runtime_checkable
class Planning(Protocol):
    """What an engine has that finds out, once, how frames of a size are computed fastest."""

    def plan(self, height: int, width: int) -> object:
        """Find it, or know it already."""
        ...


def prepare(engine: Engine, height: int, width: int) -> None:
    """Let an engine plan for a frame size before anyone looks at a clock: timing candidates is nobody's speed."""
    if isinstance(engine, Planning):
        engine.plan(height, width)


def depth_of(engine: Engine) -> int:
    """Batches that may be under way at once; 1 for an engine that computes while it is called."""
    return engine.depth if isinstance(engine, Overlapping) else 1


def begin(
    engine: Engine,
    planes: Planes,
    bit_depth: int,
    strengths: Strengths | None = None,
    wanted: WantedParts | None = None,
) -> Callable[[], Planes]:
    """Begin restoring `planes`; the function returned waits for the result. Either may raise as `restore` does.

    Where only parts are `wanted`, other pixels may come out as anything.
    """
    if wanted is not None and isinstance(engine, Selective) and any(part is not None for part in wanted):
        return engine.submit_parts(planes, bit_depth, strengths, wanted).result
    if isinstance(engine, Overlapping):
        return engine.submit(planes, bit_depth, strengths).result
    restored = engine.restore(planes, bit_depth, strengths)
    return lambda: restored


def in_order(
    engine: Engine, begun: Iterable[Callable[[], T]], *, idle: Callable[[], bool] = lambda: False
) -> Iterator[T]:
    """What the functions in `begun` return, in order: asking for one begins a batch, calling it waits for its end.

    As many are under way as the engine likes, so `begun` runs ahead of the results; but none is asked for while `idle`
    tells that there is nothing to begin yet.
    """
    under_way: deque[Callable[[], T]] = deque()
    for wait in begun:
        under_way.append(wait)
        while under_way and (len(under_way) >= depth_of(engine) or idle()):
            yield under_way.popleft()()
    while under_way:
        yield under_way.popleft()()
