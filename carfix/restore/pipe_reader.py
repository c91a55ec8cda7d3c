"""What comes out of a pipe: frames in the order of presentation, and other streams' packets as they arrive."""

import contextlib
import heapq
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from av.container import InputContainer
from av.packet import Packet
from av.video.frame import VideoFrame

from carfix.errors import CarfixError
from carfix.video.choice import find_video
from carfix.video.concealment import conceal
from carfix.video.demux import demux
from carfix.video.faults import MEDIA_ERRORS
from carfix.video.quantizer import export_quantizers
from carfix.video.segments import Segment
from carfix.video.source import SourceInfo, describe

#: What stands for standard input and output on the command line.
PIPE = Path("-")
#: How many frames wait so that damage cannot put them out of order; see `carfix.video.decode`.
_REORDERED = 8
#: The whole of a pipe is one piece.
_WHOLE = Segment(index=0, start=0, end=0, frames=0)


class PipeReader:
    """Frames in order from a container that cannot be rewound; packets of other streams wait in `others`."""

    def __init__(self, container: InputContainer, path: Path, wanted: str | None) -> None:
        self.container = container
        self.video = find_video(container, path, wanted)
        self.others: deque[Packet[Any]] = deque()
        self.refused = 0
        self._packets: Iterator[Packet[Any]] = demux(container)
        self._decoded: Iterator[VideoFrame] = self._decode()
        first = next(self._decoded, None)
        if first is None:
            why = ""
            if path == PIPE and "mp4" in container.format.name:
                why = "; through a pipe, MP4 needs its index in front (FFmpeg's -movflags +faststart)"
            raise CarfixError(f"{path}: not a single frame of its video could be decoded{why}")
        self._first = first
        self.info: SourceInfo = describe(container, self.video, first, path)

    def _decode(self) -> Iterator[VideoFrame]:
        context = self.video.codec_context
        conceal(context)
        note = export_quantizers(context)
        with contextlib.suppress(*MEDIA_ERRORS):  # a pipe that breaks off ends there
            for packet in self._packets:
                if packet.size and packet.stream_index != self.video.index:
                    self.others.append(packet)
                elif packet.size:
                    note(packet)
                    try:
                        yield from context.decode(packet)
                    except MEDIA_ERRORS:
                        self.refused += 1
        yield from context.decode(None)

    def frames(self) -> Iterator[tuple[Segment, VideoFrame]]:
        """Frames with strictly ascending `pts`, in the order of presentation."""
        waiting: list[tuple[int, int, VideoFrame]] = []
        step = max(1, round(1 / self.info.rate / self.info.time_base))
        latest, last = -step, None
        for number, frame in enumerate(self._all()):
            latest = latest + step if frame.pts is None else frame.pts
            heapq.heappush(waiting, (latest, number, frame))
            while len(waiting) > _REORDERED:
                last, frame = _next(waiting, last)
                yield _WHOLE, frame
        while waiting:
            last, frame = _next(waiting, last)
            yield _WHOLE, frame

    def _all(self) -> Iterator[VideoFrame]:
        yield self._first
        for frame in self._decoded:
            if (frame.width, frame.height, frame.format.name) != (
                self.info.width,
                self.info.height,
                self.info.pix_fmt,
            ):
                raise CarfixError(
                    f"the video changes to {frame.width}x{frame.height} {frame.format.name} on the way"
                )
            yield frame


def _next(waiting: list[tuple[int, int, VideoFrame]], last: int | None) -> tuple[int, VideoFrame]:
    pts, _, frame = heapq.heappop(waiting)
    frame.pts = pts if last is None or pts > last else last + 1
    frame.dts = None
    return frame.pts, frame
