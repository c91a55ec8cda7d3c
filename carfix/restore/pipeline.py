"""Segments of one input through the three threads of `frames`, each into its own file."""

import dataclasses
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

from av.video.frame import VideoFrame

from carfix.restore.engine import Engine
from carfix.restore.frames import FramePipeline, Item
from carfix.restore.strength import Strength
from carfix.video.decode import Damage, decode_frames
from carfix.video.encoder import Encoding, flags_fields
from carfix.video.luma import write_luma
from carfix.video.segments import Segment
from carfix.video.sink import SegmentFile, SegmentWriter
from carfix.video.source import SourceInfo
from carfix.video.timeline import Timeline


@dataclasses.dataclass
class Tally:
    """What the pipeline did."""

    frames: int = 0  # restored and encoded
    repeated: int = 0  # of them, those equal to the frame before, for which nothing was computed
    unflagged: int = 0  # interlaced, but encoded as progressive ones, since the first frame was one
    damage: Damage = dataclasses.field(default_factory=Damage)

    def add(self, other: "Tally") -> None:
        """Sum up two runs."""
        self.frames += other.frames
        self.repeated += other.repeated
        self.unflagged += other.unflagged
        self.damage.add(other.damage)


def segment_frames(
    info: SourceInfo, timeline: Timeline, damage: Damage, segments: Sequence[Segment]
) -> Iterator[tuple[Segment, VideoFrame]]:
    """The decoded frames of `segments`, which follow each other without a gap, each with the one it lies in."""
    remaining = iter(segments)
    segment = next(remaining)
    for frame in decode_frames(info, timeline, damage, start=segment.start, end=segments[-1].end):
        assert frame.pts is not None
        while frame.pts >= segment.end:
            segment = next(remaining)
        yield segment, frame


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
        strength: Strength,
        folder: Path,
        on_segment: Callable[[Segment, SegmentFile | None], None],
        on_frame: Callable[[], None],
    ) -> None:
        self.tally = Tally()
        self._info = info
        self._timeline = timeline
        self._encoding = encoding
        self._flags = flags_fields(encoding, info)
        self._frames = FramePipeline(engine, encoding.pix_fmt, info.colour.range, strength)
        self._folder = folder
        self._on_segment = on_segment
        self._on_frame = on_frame
        self._damage: dict[int, Damage] = {}  # by the segment's index, when all of it is decoded

    def run(self, segments: Sequence[Segment]) -> None:
        """Restore `segments`, which follow each other without a gap.

        Raises whatever failed first in any of the threads, after all of them have ended.
        """
        self._frames.run(self._decoded(segments), lambda items: self._encode(items, segments))
        self.tally.repeated = self._frames.repeated

    def _decoded(self, segments: Sequence[Segment]) -> Iterator[tuple[Segment, VideoFrame]]:
        damage, before, current = self.tally.damage, Damage(), segments[0]
        for segment, frame in segment_frames(self._info, self._timeline, damage, segments):
            if segment is not current:
                self._damage[current.index] = damage.since(before)
                before, current = dataclasses.replace(damage), segment
            yield segment, frame
        self._damage[current.index] = damage.since(before)

    def _encode(self, restored: Iterable[Item], segments: Sequence[Segment]) -> None:
        items = _Lookahead(restored)
        for segment in segments:
            if items.peek() is None or items.peek().segment is not segment:  # type: ignore[union-attr]
                self._on_segment(segment, None)  # nothing in it could be decoded
                continue
            path = self._folder / f"{segment.index:06d}.seg"
            part = path.with_suffix(".part")
            unflagged = 0
            with SegmentWriter(part, self._info, self._encoding) as writer:
                while (item := items.peek()) is not None and item.segment is segment:
                    items.next()
                    write_luma(item.frame, item.luma, self._frames.luma)
                    writer.write(item.frame)
                    self.tally.frames += 1
                    unflagged += item.interlaced and not self._flags
                    self._on_frame()
                written = writer.finish()
            part.replace(path)
            self.tally.unflagged += unflagged
            damage = self._damage[segment.index]
            finished = dataclasses.replace(written, name=path.name, damage=damage, unflagged=unflagged)
            self._on_segment(segment, finished)


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
