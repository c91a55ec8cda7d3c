"""Decode, infer and encode at the same time: three threads, bounded queues between them, frames in order."""

import dataclasses
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import numpy as np
from av.video.frame import VideoFrame

from carfix.interruption import A_WHILE, undisturbed
from carfix.restore.channel import Channel, Closed
from carfix.restore.engine import Engine, Planes, Wanted
from carfix.restore.engine.overlap import in_order
from carfix.restore.fields import begin_pictures, prepare_pictures
from carfix.restore.hold import Hold, Moves
from carfix.restore.strength import Strength, as_strengths
from carfix.restore.trust import Bounds, Trust
from carfix.video.convert import convert
from carfix.video.luma import Luma, LumaFormat, luma_format, read_luma
from carfix.video.segments import Segment

#: Frames that may wait between two threads, in batches of the engine: one in work, one ready.
_BATCHES_WAITING = 2


@dataclasses.dataclass
class Item:
    """A frame on its way through."""

    segment: Segment
    frame: VideoFrame
    decoded: Luma  # [H, W]
    luma: Luma  # decoded, later restored, then as it is shown
    moving: Wanted | None  # where it does not repeat the frame before it; None: everywhere
    interlaced: bool
    strength: float  # the share of the network's correction that it takes
    bounds: Bounds | None  # up to which corrections are trusted; None: all


class FramePipeline:
    """Three threads around an engine: frames in, the same frames with restored luma out, in order."""

    def __init__(
        self, engine: Engine, pix_fmt: str, colour_range: int, strength: Strength, *, live: bool = False
    ) -> None:
        """`live` says that the next frame may be long in coming: none that is there waits for it."""
        self.repeated = 0
        self._strength = strength
        self.luma: LumaFormat = luma_format(pix_fmt)
        self._engine = engine
        self._trust = Trust()
        self._pix_fmt = pix_fmt
        self._range = colour_range
        capacity = _BATCHES_WAITING * max(engine.batch, 2)
        self._decoded: Channel[Item] = Channel(capacity)
        self._restored: Channel[Item] = Channel(capacity)
        self._idle: Callable[[], bool] = self._decoded.is_empty if live else lambda: False
        self._failure: BaseException | None = None
        self._failing = threading.Lock()

    def run(
        self, frames: Iterable[tuple[Segment, VideoFrame]], consume: Callable[[Iterable[Item]], None]
    ) -> None:
        """Take `frames` in one thread, compute in the caller's, and let `consume` have the results in a third.

        Raises whatever failed first in any of the threads, after all of them have ended.
        """
        threads = [
            threading.Thread(target=self._guard, args=(self._decode, frames), name="carfix-decode"),
            threading.Thread(target=self._guard, args=(consume, self._shown()), name="carfix-encode"),
        ]
        try:
            with undisturbed():
                for thread in threads:
                    thread.start()
            self._infer()
        except Closed:
            pass  # another thread failed; its reason is raised below
        except BaseException as error:  # noqa: BLE001 - raised again once the other threads have ended
            self._fail(error)
        finally:
            for thread in threads:
                _join(thread, self._fail)
        if self._failure is not None:
            raise self._failure

    def goes_on(self) -> bool:
        """Whether nothing has failed, and nobody has interrupted it."""
        return self._failure is None

    def _guard(self, work: Callable[[Any], None], argument: object) -> None:
        try:
            work(argument)
        except Closed:
            pass
        except BaseException as error:  # noqa: BLE001 - raised again in the caller's thread
            self._fail(error)

    def _fail(self, error: BaseException) -> None:
        with self._failing:
            if self._failure is None:
                self._failure = error
        self._decoded.abandon()
        self._restored.abandon()

    def _decode(self, frames: Iterable[tuple[Segment, VideoFrame]]) -> None:
        before: Segment | None = None
        shares, moves = self._strength.follow(), Moves()
        for segment, frame in frames:
            if segment is not before:
                shares, moves = self._strength.follow(), Moves()  # anew: a resumed run begins at one
                before = segment
            interlaced = frame.interlaced_frame
            converted = convert(frame, self._pix_fmt, self._range)
            luma = read_luma(converted, self.luma)
            # Of the frame as decoded: converting one loses what stands beside it.
            strength = shares(frame, luma, self.luma.bit_depth)
            bounds = shares.bounds and shares.bounds.at(self.luma.bit_depth)
            self._decoded.put(Item(segment, converted, luma, luma, moves(luma), interlaced, strength, bounds))
        self._decoded.finish()

    def _infer(self) -> None:
        for done in in_order(self._engine, self._begun(), idle=self._idle):
            for item in done:
                self._restored.put(item)
        self._restored.finish()

    def _begun(self) -> Iterator[Callable[[], Sequence[Item]]]:
        before: Item | None = None
        for batch in _batches(self._decoded, self._engine.batch, self._idle):
            if before is None:
                height, width = batch[0].decoded.shape
                prepare_pictures(self._engine, height, width, interlaced=batch[0].interlaced)
            fresh: list[Item] = []
            repeats: list[tuple[Item, Item]] = []
            for item in batch:
                if before is not None and _repeats(item, before):
                    repeats.append((item, before))
                else:
                    fresh.append(item)
                before = item
            yield self._begin(batch, fresh, repeats)

    def _begin(
        self, batch: Sequence[Item], fresh: Sequence[Item], repeats: Sequence[tuple[Item, Item]]
    ) -> Callable[[], Sequence[Item]]:
        """Begin to restore the `fresh` items of a batch; the function returned waits and has the whole batch.

        A repeat takes what became of its original, which may be in the batch before: they end in order.
        """
        begun = [
            (alike, self._begin_planes(alike))
            for interlaced in (False, True)
            if (alike := [item for item in fresh if item.interlaced == interlaced])
        ]

        def finish() -> Sequence[Item]:
            for alike, result in begun:
                for item, luma in zip(alike, result(), strict=True):
                    item.luma = luma
            for item in fresh:
                item.luma = self._trust(
                    item.moving, item.decoded, item.luma, item.bounds, interlaced=item.interlaced
                )
            for item, original in repeats:
                item.luma = original.luma
            self.repeated += len(repeats)
            return batch

        return finish

    def _begin_planes(self, items: Sequence[Item]) -> Callable[[], Planes]:
        planes: Planes = np.stack([item.decoded for item in items])  # type: ignore[assignment]
        strengths = as_strengths([item.strength for item in items])
        if strengths is not None and not strengths.any():
            return lambda: planes
        return begin_pictures(
            self._engine,
            planes,
            self.luma.bit_depth,
            strengths,
            interlaced=items[0].interlaced,
            wanted=[item.moving for item in items],
        )

    def _shown(self) -> Iterator[Item]:
        """The restored items with what stands still held."""
        hold = Hold()
        for item in self._restored:
            item.luma = hold(item.moving, item.luma)
            yield item


def _repeats(item: Item, before: Item) -> bool:
    """Whether the frame is a repeat of the one before it in its segment: the result is the same too."""
    return item.moving is not None and item.interlaced == before.interlaced and not item.moving.any()


def _batches(items: Iterable[Item], size: int, idle: Callable[[], bool]) -> Iterator[list[Item]]:
    """Lists of at most `size` items, never across segments, and of fewer where `idle` tells that no other is there yet.

    So a segment of a file is computed in the same batches whether the run began with it or long before: backends may
    round differently for other batch sizes, and a resumed run must give the same file.
    """
    batch: list[Item] = []
    for item in items:
        if batch and item.segment is not batch[0].segment:
            yield batch
            batch = []
        batch.append(item)
        if len(batch) == size or idle():
            yield batch
            batch = []
    if batch:
        yield batch


def _join(thread: threading.Thread, fail: Callable[[BaseException], None]) -> None:
    """Wait for the thread's end; Ctrl-C meanwhile ends the threads instead of leaving them behind."""
    while thread.is_alive():  # one that was not started is not
        try:
            thread.join(A_WHILE)
        except BaseException as error:  # noqa: BLE001 - raised by the caller once the threads have ended
            fail(error)
