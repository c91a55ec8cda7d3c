"""Segment files: frames in, a finished file out; and the packets of many such files as one stream again."""

import dataclasses
from collections import deque
from collections.abc import Iterator, Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from av.codec.context import ThreadType
from av.container import OutputContainer
from av.packet import Packet
from av.video.frame import PictureType, VideoFrame
from av.video.stream import VideoStream
from numpy.typing import NDArray

from carfix.errors import CarfixError
from carfix.video.address import address
from carfix.video.decode import Damage
from carfix.video.encoder import Encoding, configure
from carfix.video.faults import MEDIA_ERRORS, reason
from carfix.video.on_disk import checksum, force_to_disk
from carfix.video.scheduling import kept_scheduling
from carfix.video.source import SourceInfo
from carfix.video.tail import Tail

#: Containers of segment files, best first. NUT keeps any time base and nearly any codec; Matroska rounds to
#: milliseconds and MP4 knows few codecs. MOV takes what NUT has no tag for (ProRes).
_SEGMENT_FORMATS = ("nut", "mov")
#: Longest delay between decoding and presentation, in frames, that a codec may ask for (H.264 and HEVC: 16).
_DELAY = 16
#: MOV picks its own clock unless told; the option takes the number of ticks a second.
_MOV_TIMESCALE = "video_track_timescale"


@dataclasses.dataclass(frozen=True, kw_only=True)
class SegmentFile:
    """A finished segment: what the journal says of it."""

    name: str  # of the file, within the state folder
    size: int  # bytes
    crc32: int | None = None  # of the whole file; None: an earlier carfix wrote it
    frames: int
    shift: int  # ticks that were added to every time, so that none is negative
    reorder: int  # how many packets a packet may come before its place in presentation order
    first: int  # presentation time of the first frame, ticks of the input's time base
    last: int
    damage: Damage = dataclasses.field(default_factory=Damage)  # that was met on the way to its frames
    unflagged: int = 0  # frames that are interlaced, but encoded as progressive ones


class SegmentWriter:
    """Encodes the frames of one segment into one file.

    Use as a context manager; `finish` returns what was written. Raises `CarfixError` when encoding or writing
    fails; what was written is gone then.
    """

    def __init__(self, path: Path, info: SourceInfo, encoding: Encoding) -> None:
        self._path = path
        self._info = info
        self._encoding = encoding
        self._times: list[int] = []  # of the frames written, in order
        self._coded: list[int] = []  # of the packets, in decoding order
        self._container, self._stream = _open_segment(path, info, encoding)
        self._delay = 0 if self._stream.codec_context.codec.intra_only else _DELAY

    def __enter__(self) -> "SegmentWriter":
        return self

    def __exit__(self, *exc: object) -> None:
        try:
            self._container.close()
        except MEDIA_ERRORS:
            if exc[0] is None:
                raise
        finally:
            if exc[0] is not None:
                self._path.unlink(missing_ok=True)

    def write(self, frame: VideoFrame) -> None:
        """Encode one frame, its `pts` in ticks of the input's time base and above that of the last."""
        assert frame.pts is not None
        self._times.append(frame.pts)
        if self._encoding.time_base is None:
            frame.pts = len(self._times) - 1
            frame.time_base = 1 / self._info.rate
        # The decoder's choice of I, P and B frames is not the encoder's.
        frame.pict_type = PictureType.NONE
        self._encode(frame)

    def _encode(self, frame: VideoFrame | None) -> None:
        try:
            for packet in self._stream.encode(frame):
                self._mux(packet)
        except MEDIA_ERRORS as error:
            raise CarfixError(f"cannot write {self._path}: {reason(error)}") from error

    def _mux(self, packet: "Packet[VideoStream]") -> None:
        assert packet.pts is not None
        pts = packet.pts if self._encoding.time_base is not None else self._times[packet.pts]
        # The encoder's own decoding times are not used: x265 makes them up when there are few frames. Frame
        # times from well before are in order and early enough.
        index = len(self._coded)
        if self._delay == 0:
            dts = pts
        else:
            dts = self._times[index - _DELAY] if index >= _DELAY else self._times[0] - _DELAY + index
        self._coded.append(pts)
        packet.pts, packet.dts = pts + self._shift, dts + self._shift
        packet.time_base = self._info.time_base
        self._container.mux(packet)

    @property
    def _shift(self) -> int:
        """Ticks to add so that the first decoding time is 0: NUT has no negative times."""
        return self._delay - self._times[0]

    def finish(self) -> SegmentFile:
        """Flush the encoder, close the file and force it to the disk."""
        self._encode(None)
        try:
            self._container.close()
            force_to_disk(self._path)
            crc32 = checksum(self._path)
        except MEDIA_ERRORS as error:
            raise CarfixError(f"cannot write {self._path}: {reason(error)}") from error
        if sorted(self._coded) != self._times:
            raise CarfixError(
                f"the encoder {self._encoding.codec} returned {len(self._coded)} frames for "
                f"{len(self._times)} or changed their times; use another encoder"
            )
        return SegmentFile(
            name=self._path.name,
            size=self._path.stat().st_size,
            crc32=crc32,
            frames=len(self._times),
            shift=self._shift,
            reorder=_reorder_depth(self._coded),
            first=self._times[0],
            last=self._times[-1],
        )


def _open_segment(path: Path, info: SourceInfo, encoding: Encoding) -> tuple[OutputContainer, VideoStream]:
    failure: BaseException | None = None
    for format in _SEGMENT_FORMATS:
        options = {"avoid_negative_ts": "disabled"}
        if format == "mov":
            options[_MOV_TIMESCALE] = str(info.time_base.denominator)
        try:
            container = av.open(address(path), "w", format=format, container_options=options)
        except MEDIA_ERRORS as error:
            raise CarfixError(f"cannot write {path}: {reason(error)}") from error
        try:
            stream = container.add_stream(encoding.codec, rate=info.rate, options=dict(encoding.options))
            assert isinstance(stream, VideoStream)
            configure(stream.codec_context, info, encoding)
            stream.time_base = info.time_base
            with kept_scheduling():
                container.start_encoding()
        except MEDIA_ERRORS as error:
            failure = error
            container.close()
            continue
        return container, stream
    assert failure is not None
    raise CarfixError(f"cannot write {path}: {reason(failure)}") from failure


def _reorder_depth(coded: Sequence[int]) -> int:
    """How far ahead of its place in presentation order a packet comes at most: B-frame delay in packets."""
    rank = {pts: i for i, pts in enumerate(sorted(coded))}
    return max((i - rank[pts] for i, pts in enumerate(coded)), default=0)


class JoinedSegments:
    """The packets of finished segments as one stream, with decoding times that ascend across the joins.

    Encoders delay the first packet by their own B-frame depth in every segment, so their decoding times would
    overlap at each join. New ones are taken from the presentation times in ascending order, moved back by the
    depth of the deepest segment: the arrangement that a single encoder would have made.
    """

    def __init__(
        self, folder: Path, segments: Sequence[SegmentFile], time_base: Fraction, last_duration: int
    ) -> None:
        self._folder = folder
        self._segments = segments
        self._time_base = time_base
        self._last_duration = last_duration
        self._delay = max((segment.reorder for segment in segments), default=0)

    @property
    def template(self) -> Path:
        """The first segment's file, whose codec parameters are those of all."""
        return self._folder / self._segments[0].name

    def times(self) -> NDArray[np.int64]:
        """Presentation times of all frames, ascending, in ticks of the input's time base."""
        return np.fromiter(
            (pts for segment in self._segments for pts in sorted(pts for pts, _ in self._read(segment))),
            np.int64,
        )

    def packets(self) -> Iterator["Packet[VideoStream]"]:
        """Every packet in decoding order, in the input's time base.

        Raises `CarfixError` if a segment's file does not hold what its journal entry says.
        """
        earlier: deque[int] = deque()  # presentation times that are yet to become decoding times
        for position, segment in enumerate(self._segments):
            coded = [pts for pts, _ in self._read(segment)]
            ascending = sorted(coded)
            following = self._segments[position + 1 :][:1]
            after = following[0].first if following else segment.last + self._last_duration
            durations = {
                pts: later - pts for pts, later in zip(ascending, [*ascending[1:], after], strict=True)
            }
            if position == 0:
                earlier.extend(self._before(ascending[0], min(durations.values())))
            earlier.extend(ascending)
            for pts, packet in self._read(segment):
                packet.pts, packet.dts, packet.duration = pts, earlier.popleft(), durations[pts]
                packet.time_base = self._time_base
                yield packet

    def _before(self, first: int, step: int) -> list[int]:
        """Decoding times ahead of the first presentation; not below 0, which FLV cannot say, where there is room."""
        step = max(1, step)
        if 0 < self._delay <= first < step * self._delay:
            step = first // self._delay
        return [first - step * (self._delay - i) for i in range(self._delay)]

    def _read(self, segment: SegmentFile) -> Iterator[tuple[int, "Packet[VideoStream]"]]:
        path = self._folder / segment.name
        count = 0
        try:
            with av.open(address(path)) as container:
                stream = container.streams.video[0]
                for packet in container.demux(stream):
                    if packet.size == 0 or packet.pts is None:
                        continue
                    assert packet.time_base is not None
                    pts = packet.pts * packet.time_base / self._time_base
                    count += 1
                    yield round(pts) - segment.shift, packet
        except MEDIA_ERRORS as error:
            raise CarfixError(f"cannot read the segment {path}: {reason(error)}") from error
        if count != segment.frames:
            raise CarfixError(f"the segment {path} holds {count} frames instead of {segment.frames}")


def check_segment(folder: Path, segment: SegmentFile) -> None:
    """Compare a finished segment with its checksum, and decode its first and last frames.

    Raises `CarfixError` if the file is not as its journal entry says, or they do not decode.
    """
    path = folder / segment.name
    if not path.is_file() or path.stat().st_size != segment.size:
        raise CarfixError(f"the segment {path} is missing or has another size than it was written with")
    try:
        if segment.crc32 not in (None, checksum(path)):
            raise CarfixError(f"the segment {path} was damaged since it was written")
    except OSError as error:
        raise CarfixError(f"cannot read the segment {path}: {reason(error)}") from error
    head: Packet[VideoStream] | None = None
    tail = Tail()
    count = 0
    try:
        with av.open(address(path)) as container:
            stream = container.streams.video[0]
            stream.codec_context.thread_type = ThreadType.AUTO
            for packet in container.demux(stream):
                if packet.size == 0:
                    continue
                count += 1
                head = head or packet
                tail.add(packet)
            if count != segment.frames or head is None or not head.is_keyframe:
                raise CarfixError(f"the segment {path} holds {count} frames, not {segment.frames}")
            if len(stream.codec_context.decode(head)) + len(stream.codec_context.decode(None)) != 1:
                raise CarfixError(f"the first frame of the segment {path} does not decode")
            if not tail.decodes(stream.codec_context):
                raise CarfixError(f"the last frames of the segment {path} do not decode")
    except MEDIA_ERRORS as error:
        raise CarfixError(f"the segment {path} does not decode: {reason(error)}") from error
