"""Decode, infer and encode at the same time: three threads, bounded queues between them, frames in order."""

import dataclasses
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from av.video.frame import VideoFrame

from carfix.restore.channel import Channel, Closed
from carfix.restore.engine import Engine, Planes
from carfix.restore.engine.overlap import begin, depth_of
from carfix.restore.fields import restore_fields
from carfix.video.decode import Damage, decode_frames
from carfix.video.encoder import Encoding
from carfix.video.luma import Luma, LumaFormat, luma_format, read_luma, write_luma
from carfix.video.segments import Segment
from carfix.video.sink import SegmentFile, SegmentWriter
from carfix.video.source import SourceInfo
from carfix.video.timeline import Timeline

#: Frames that may wait between two threads, in batches of the engine: one in work, one ready.
_BATCHES_WAITING = 2
#: AVCOL_RANGE_JPEG: full range.
_FULL_RANGE = 2


@dataclasses.dataclass
class Tally:
    """What the pipeline did."""

    frames: int = 0  # restored and encoded
    repeated: int = 0  # of them, those equal to the frame before, for which nothing was computed
    damage: Damage = dataclasses.field(default_factory=Damage)

    def add(self, other: "Tally") -> None:
        """Sum up two runs."""
        self.frames += other.frames
        self.repeated += other.repeated
        self.damage.packets += other.damage.packets
        self.damage.frames += other.damage.frames
        self.damage.times += other.damage.times


@dataclasses.dataclass
class Item:
    """A frame on its way through."""

    segment: Segment
    frame: VideoFrame
    luma: Luma  # decoded, later restored; [H, W]
    interlaced: bool


class FramePipeline:
    """Three threads around an engine: frames in, the same frames with restored luma out, in order."""

    def __init__(self, engine: Engine, pix_fmt: str, colour_range: int) -> None:
        self.repeated = 0
        self.luma: LumaFormat = luma_format(pix_fmt)
        self._engine = engine
        self._pix_fmt = pix_fmt
        self._range = colour_range
        capacity = _BATCHES_WAITING * max(engine.batch, 2)
        self._decoded: Channel[Item] = Channel(capacity)
        self._restored: Channel[Item] = Channel(capacity)
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
            threading.Thread(target=self._guard, args=(consume, self._restored), name="carfix-encode"),
        ]
        for thread in threads:
            thread.start()
        try:
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
        for segment, frame in frames:
            interlaced = frame.interlaced_frame
            converted = self._converted(frame)
            self._decoded.put(Item(segment, converted, read_luma(converted, self.luma), interlaced))
        self._decoded.finish()

    def _converted(self, frame: VideoFrame) -> VideoFrame:
        """The frame in the encoder's pixel format: itself, but for what `-pix_fmt` asks for."""
        if frame.format.name == self._pix_fmt:
            return frame
        range = self._range or (_FULL_RANGE if frame.format.name.startswith("yuvj") else 0)
        if range == 0:
            return frame.reformat(format=self._pix_fmt)
        return frame.reformat(format=self._pix_fmt, src_color_range=range, dst_color_range=range)

    def _infer(self) -> None:
        before: Item | None = None  # the frame before, and its luma as decoded
        decoded: Luma | None = None
        under_way: deque[Callable[[], None]] = deque()
        depth = depth_of(self._engine)
        for batch in _batches(self._decoded, self._engine.batch):
            fresh: list[Item] = []
            repeats: list[tuple[Item, Item]] = []
            for item in batch:
                if before is not None and decoded is not None and _repeats(item, before, decoded):
                    repeats.append((item, before))
                else:
                    fresh.append(item)
                before, decoded = item, item.luma
            under_way.append(self._begin(batch, fresh, repeats))
            while len(under_way) >= depth:
                under_way.popleft()()
        while under_way:
            under_way.popleft()()
        self._restored.finish()

    def _begin(
        self, batch: Sequence[Item], fresh: Sequence[Item], repeats: Sequence[tuple[Item, Item]]
    ) -> Callable[[], None]:
        """Begin to restore the `fresh` items of a batch; the function returned waits and passes the batch on.

        A repeat takes what became of its original, which may be in the batch before: they end in order.
        """
        begun = [
            (alike, self._begin_planes(alike))
            for interlaced in (False, True)
            if (alike := [item for item in fresh if item.interlaced == interlaced])
        ]

        def finish() -> None:
            for alike, result in begun:
                for item, luma in zip(alike, result(), strict=True):
                    item.luma = luma
            for item, original in repeats:
                item.luma = original.luma
            self.repeated += len(repeats)
            for item in batch:
                self._restored.put(item)

        return finish

    def _begin_planes(self, items: Sequence[Item]) -> Callable[[], Planes]:
        planes: Planes = np.stack([item.luma for item in items])  # type: ignore[assignment]
        if items[0].interlaced:
            restored = restore_fields(planes, self._restore_planes)
            return lambda: restored
        return begin(self._engine, planes, self.luma.bit_depth)

    def _restore_planes(self, planes: Planes) -> Planes:
        return self._engine.restore(planes, self.luma.bit_depth)


class Pipeline:
    """Restores neighbouring segments of one input, each into its own file.

    `folder` receives the segment files; `on_segment` is called, in order, when one is complete and on the
    disk (with None if no frame of it could be decoded); `on_frame` after every encoded frame. Both run in
    another thread than the caller's.
    """

    def __init__(
        self,
        *,
        info: SourceInfo,
        timeline: Timeline,
        encoding: Encoding,
        engine: Engine,
        folder: Path,
        on_segment: Callable[[Segment, SegmentFile | None], None],
        on_frame: Callable[[], None],
    ) -> None:
        self.tally = Tally()
        self._info = info
        self._timeline = timeline
        self._encoding = encoding
        self._frames = FramePipeline(engine, encoding.pix_fmt, info.colour.range)
        self._folder = folder
        self._on_segment = on_segment
        self._on_frame = on_frame

    def run(self, segments: Sequence[Segment]) -> None:
        """Restore `segments`, which follow each other without a gap.

        Raises whatever failed first in any of the threads, after all of them have ended.
        """
        self._frames.run(self._decode(segments), lambda items: self._encode(items, segments))
        self.tally.repeated = self._frames.repeated

    def _decode(self, segments: Sequence[Segment]) -> Iterator[tuple[Segment, VideoFrame]]:
        remaining = iter(segments)
        segment = next(remaining)
        for frame in decode_frames(
            self._info, self._timeline, self.tally.damage, start=segment.start, end=segments[-1].end
        ):
            assert frame.pts is not None
            while frame.pts >= segment.end:
                segment = next(remaining)
            yield segment, frame

    def _encode(self, restored: Iterable[Item], segments: Sequence[Segment]) -> None:
        items = _Lookahead(restored)
        for segment in segments:
            if items.peek() is None or items.peek().segment is not segment:  # type: ignore[union-attr]
                self._on_segment(segment, None)  # nothing in it could be decoded
                continue
            path = self._folder / f"{segment.index:06d}.seg"
            part = path.with_suffix(".part")
            with SegmentWriter(part, self._info, self._encoding) as writer:
                while (item := items.peek()) is not None and item.segment is segment:
                    items.next()
                    write_luma(item.frame, item.luma, self._frames.luma)
                    writer.write(item.frame)
                    self.tally.frames += 1
                    self._on_frame()
                written = writer.finish()
            part.replace(path)
            self._on_segment(segment, dataclasses.replace(written, name=path.name))


def _repeats(item: Item, before: Item, decoded: Luma) -> bool:
    """Whether the frame is a repeat of the one before it in its segment: the result is the same too."""
    if item.segment is not before.segment or item.interlaced != before.interlaced:
        return False
    return np.array_equal(item.luma, decoded)


class _Lookahead:
    """The items of a channel, with a look at the next one."""

    def __init__(self, items: Iterable[Item]) -> None:
        self._items = iter(items)
        self._next: Item | None = None
        self._started = False

    def peek(self) -> Item | None:
        if not self._started:
            self.next()
        return self._next

    def next(self) -> None:
        self._started = True
        self._next = next(self._items, None)


def _batches(items: Iterable[Item], size: int) -> Iterator[list[Item]]:
    """Lists of at most `size` items, never across segments.

    So a segment is computed in the same batches whether the run began with it or long before: backends may
    round differently for other batch sizes, and a resumed run must give the same file.
    """
    batch: list[Item] = []
    for item in items:
        if batch and (len(batch) == size or item.segment is not batch[0].segment):
            yield batch
            batch = []
        batch.append(item)
    if batch:
        yield batch


def _join(thread: threading.Thread, fail: Callable[[BaseException], None]) -> None:
    """Wait for the thread's end; Ctrl-C meanwhile ends the threads instead of leaving them behind."""
    while thread.is_alive():
        try:
            thread.join()
        except BaseException as error:  # noqa: BLE001 - raised by the caller once the threads have ended
            fail(error)
