"""The times of all frames of a stream, read without decoding, repaired and completed."""

import array
import dataclasses
import itertools
from fractions import Fraction

import numpy as np
from av.packet import Packet
from av.video.stream import VideoStream
from numpy.typing import NDArray

from carfix.errors import CarfixError
from carfix.video.access import is_clean_keyframe
from carfix.video.checksums import SliceChecksums
from carfix.video.clock import ClockRepair, Jump
from carfix.video.demux import demux
from carfix.video.faults import MEDIA_ERRORS, reason, unread
from carfix.video.guessed import delay_of, filled, mend, slots_of
from carfix.video.headers.h264 import SecondFields
from carfix.video.on_disk import checksum
from carfix.video.source import SourceInfo, open_input, video_of
from carfix.video.truncation import truncation
from carfix.video.userdata import UserData, UserDataSearch

#: With more than this part of the presentation times missing, the container keeps none (AVI, raw streams); with
#: fewer, packets were damaged.
MOST_MISSING = 0.1

#: What lasts less than this part of a frame is a field.
_HALF = 0.75

#: Share of frames that come at the rate of a video that has one: damage and recorders lose a few.
_STEADY = 0.99

#: Stands for a missing time in arrays of ticks.
NO_TIME = np.iinfo(np.int64).min


@dataclasses.dataclass(frozen=True)
class Timeline:
    """The packets of one video stream in decoding order, and when their frames are shown.

    Arrays have one entry a packet; times are in ticks of the input's time base.
    """

    pts: NDArray[np.int64]  # repaired presentation time
    raw_pts: NDArray[np.int64]  # as in the file; NO_TIME where missing
    raw_dts: NDArray[np.int64]
    sizes: NDArray[np.int64]  # bytes
    #: False for packets that only help to decode others (edit lists), for second fields, and for the unreachable.
    shown: NDArray[np.bool_]
    keyframes: NDArray[np.int64]  # indices of packets that FFmpeg calls keyframes
    clean: NDArray[np.int64]  # those of them from which decoding needs nothing that came before
    last_duration: int  # ticks
    rate: Fraction  # frames a second: FFmpeg may count fields that have times of their own
    ordinal: bool  # the file has no presentation times; frames take the slots in the order they are decoded
    jumps: tuple[Jump, ...]
    moved: int  # frames whose times did not ascend, and were moved
    stood: int  # packets that state the time of the one before: the clock stood still
    strays: int  # packets whose times were damaged and are guessed from their neighbours
    corrupt: int  # packets that the demuxer flags as damaged, or whose checksums are wrong
    truncated: str | None  # what is missing at the end of the file; None for a whole one
    user_data: UserData  # what rides along in any of the packets
    resized: int | None  # when a frame is shown that is not of the first one's size; H.264 alone tells
    unreachable: int = 0  # frames that are not shown, since the recording begins between two keyframes

    @property
    def presentation(self) -> NDArray[np.int64]:
        """Presentation times of the frames to expect, ascending.

        Of equal ones, as damage and careless recorders leave them, the later are moved as decoding moves them.
        """
        return _ascending(np.sort(self.pts[self.shown]))


def is_steady(times: NDArray[np.int64], rate: Fraction, time_base: Fraction) -> bool:
    """Whether frames shown at `times`, ascending, come at `rate`, as nearly as ticks say it, but for a few."""
    step = float(1 / (rate * time_base))
    near = np.abs(np.diff(times) - step) <= min(1, step / 4)
    return bool(near.all() or near.mean() >= _STEADY)


def scan(info: SourceInfo) -> Timeline:
    """Read every packet of the video stream once.

    Raises `CarfixError` if there is no packet with a frame, or if a disk or network does not give the file.
    """
    timeline, failure = _scanned(info)
    if not isinstance(failure, OSError):
        return timeline
    # FFmpeg says the same of files that end within a packet. What a disk or network has not given for a moment would
    # be missing in the output, and nobody would look for it.
    try:
        checksum(info.path)
    except OSError as error:
        raise CarfixError(f"cannot read {info.path}: {reason(error)}") from error
    again, failure = _scanned(info)
    if failure is not None and len(again.pts) != len(timeline.pts):
        raise CarfixError(f"cannot read {info.path} twice alike: {reason(failure)}")
    return again


def _scanned(info: SourceInfo) -> tuple[Timeline, BaseException | None]:
    """What `scan` gives, and what reading ended with if not with the file's end."""
    # Arrays rather than objects: a day of video has two and a half million packets.
    columns = [array.array("q") for _ in range(6)]
    keyframes = array.array("q")
    clean = array.array("q")
    corrupt = 0
    failure: BaseException | None = None
    size, other_size = None, None  # the first frame's, and the first packet whose frame has another one
    with open_input(info.path) as container:
        stream = video_of(container, info)
        extradata = stream.codec_context.extradata
        truncated: str | None = None
        search = UserDataSearch(info.codec, extradata)
        fields = SecondFields(extradata or b"") if info.codec == "h264" else None
        checksums = SliceChecksums()
        try:
            truncated = truncation(info.path, stream)
            for packet in demux(container, stream):
                if packet.size == 0:
                    continue
                if packet.is_keyframe:
                    keyframes.append(len(columns[0]))
                    if is_clean_keyframe(info.codec, bytes(packet), extradata):
                        clean.append(len(columns[0]))
                search.look(packet)
                checksums.look(packet)
                corrupt += packet.is_corrupt
                is_second = fields is not None and fields.look(packet)
                if fields is not None and fields.size != size:
                    if size is not None and other_size is None:
                        other_size = len(columns[0])
                    size = size or fields.size
                for column, value in zip(columns, (*_row(packet), is_second), strict=True):
                    column.append(value)
        except MEDIA_ERRORS as error:
            failure, truncated = error, unread(error)
    if not columns[0]:
        why = "" if failure is None else f": {truncated}"
        raise CarfixError(f"{info.path} has no video packets{why}")
    raw_pts, raw_dts, sizes, durations, shown_flags, second = (
        np.frombuffer(column, np.int64) for column in columns
    )
    repair = ClockRepair(
        info.time_base, format=info.format, step=max(1, round(1 / info.rate / info.time_base))
    )
    offsets, dts = _repaired(repair, raw_pts, raw_dts, durations)
    # Frames are what has times. A second field has that of its frame, whatever its packet says.
    first = second == 0
    frame_of = np.cumsum(first) - 1
    shown = shown_flags.astype(np.bool_) & first
    if not first.all():
        counts = first | (raw_dts != NO_TIME)
        durations = _of_frames(durations, frame_of, counts, float(info.rate * info.time_base))
    known_pts, known_dts = raw_pts[first] != NO_TIME, raw_dts[first] != NO_TIME
    step = _step(info, durations[durations > 0], timed=bool((known_pts | known_dts).any()))
    ordinal = float((~known_pts & shown[first]).sum()) > MOST_MISSING * float(shown.sum())
    dts = filled(dts[first], known_dts, step, round(info.start / info.time_base))
    repaired = raw_pts[first] + offsets[first]
    if ordinal:
        slots = slots_of(dts, step)
        # What is ahead of the first keyframe waits for frames that are not in the file.
        key = int(frame_of[keyframes[0]]) if keyframes else 0
        delay = delay_of(repaired[key:], known_pts[key:], slots[key:])
        pts, strays = slots[delay:][: len(dts)], repair.strays
    else:
        pts = np.where(known_pts, repaired, NO_TIME)
        strays = mend(pts, dts, known_pts, known_dts, info.time_base, step)
    moved = 0
    if not ordinal and (raw_pts[first] == raw_dts[first]).all() and (np.diff(dts) < 0).any():
        # Nothing is reordered: where the clock steps back a little, pictures keep their order. (Frames that VP8 and VP9
        # do not show share the time of the next.)
        pts = _ascending(dts)
        moved = int((pts != repaired).sum()) - strays
    pts = pts[frame_of]
    counts_fields = not first.all() and round(info.rate * step * info.time_base) == 2
    timeline = Timeline(
        pts=pts,
        raw_pts=raw_pts,
        raw_dts=raw_dts,
        sizes=sizes,
        shown=shown,
        keyframes=np.array(keyframes, np.int64),
        clean=np.array(clean, np.int64),
        last_duration=step,
        rate=info.rate / 2 if counts_fields else info.rate,
        ordinal=ordinal,
        jumps=tuple(repair.found),
        moved=moved,
        stood=repair.standing.count,
        strays=strays,
        corrupt=corrupt + checksums.wrong,
        truncated=truncated,
        user_data=search.found(info.user_data),
        resized=None if other_size is None else int(pts[other_size]),
    )
    return timeline, failure


def _ascending(times: NDArray[np.int64]) -> NDArray[np.int64]:
    """`times`, of which each that is not above all before it is a tick later than the last of them."""
    places = np.arange(len(times))
    moved: NDArray[np.int64] = np.maximum.accumulate(times - places) + places
    return moved


def _row(packet: "Packet[VideoStream]") -> tuple[int, int, int, int, bool]:
    pts = NO_TIME if packet.pts is None else packet.pts
    dts = NO_TIME if packet.dts is None else packet.dts
    return pts, dts, packet.size, packet.duration or 0, not packet.is_discard


def _of_frames(
    durations: NDArray[np.int64], frame_of: NDArray[np.int64], counts: NDArray[np.bool_], frames_a_tick: float
) -> NDArray[np.int64]:
    """Durations of frames from those of packets, which may be fields; `counts`: not those of fields without a time."""
    # FFmpeg states the whole frame's for both fields, or half of it for each.
    counts = counts | (durations * frames_a_tick < _HALF)
    found = np.bincount(frame_of, np.where(counts, durations, 0)).astype(np.int64)
    alone = found * frames_a_tick < _HALF  # a field that lost the other one
    return np.where(alone, 2 * found, found)


def _step(info: SourceInfo, stated: NDArray[np.int64], *, timed: bool) -> int:
    """How long a frame is shown, in ticks, where its own times do not tell; `stated` are durations of packets."""
    # Of raw H.264 without a rate FFmpeg states 1/25 s for the packets that it looks at first, a tick for the others.
    if len(stated) and (timed or (stated == stated[0]).all()):
        return int(stated[-1])
    return max(1, round(1 / info.rate / info.time_base))


def _repaired(
    repair: ClockRepair,
    raw_pts: NDArray[np.int64],
    raw_dts: NDArray[np.int64],
    durations: NDArray[np.int64],
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """For each packet what to add to its times, and its repaired decoding time (0 where it has none)."""
    offsets, repaired = array.array("q"), array.array("q")
    # Views give one number after the other, and lists of a day's frames take a quarter of a gigabyte.
    columns = raw_dts.data, durations.data, raw_pts.data
    following = (itertools.chain(times[1:].data, [NO_TIME]) for times in (raw_dts, raw_pts))
    for dts, duration, pts, after, after_pts in zip(*columns, *following, strict=True):
        offset, time = repair.repair(
            None if dts == NO_TIME else dts,
            duration,
            None if after == NO_TIME else after,
            None if pts == NO_TIME else pts,
            after_pts,
        )
        offsets.append(offset)
        repaired.append(time or 0)
    return np.frombuffer(offsets, np.int64), np.frombuffer(repaired, np.int64)
