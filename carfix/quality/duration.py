"""How long a file lasts, how many frames a second it shows and how large it is, where its container's word, or the
disk's, cannot be taken for it."""

import contextlib
import os
from pathlib import Path

import av
from av.container import InputContainer
from av.video.stream import VideoStream

from carfix.video.breaks import ends_within_tag
from carfix.video.faults import MEDIA_ERRORS
from carfix.video.set_back import is_set
from carfix.video.source import MAX_RATE, open_input
from carfix.video.truncation import truncation

#: What MPEG-1 states for a bit rate that varies: 18 set bits, in units of 400 bit/s.
MPEG1_VARIABLE = 0x3FFFF * 400
#: FFmpeg's name of MPEG-1 and MPEG-2 without a container, for which it computes a duration from the stated rate.
MPEG_STREAM = "mpegvideo"
#: Frames that a file lasts at least, somewhat below one for times that are rounded.
SHORTEST = 0.5
#: Formats that state how long a file lasts (mkvmerge), or when it ends on a clock that may begin at any time (FFmpeg).
UNTIL_THE_END = ("matroska,webm", "nut")
#: The share of its duration that a file may begin late without anything being off that is shown.
SOON = 0.01
#: Bytes of zeros that are no part of a recording.
BLANK = 1 << 16


def rate_of(stream: VideoStream) -> float | None:
    """Frames a second. Of the two that FFmpeg tells, the smaller one that can be.

    The average is a clock's ticks in some containers (60000 in raw DV, 600 in an AVI made of an MP4) and missing in
    others (IVF, Ogg); the guess is the rate that would hold all times, of a variable one far more than there are.
    """
    rates = [float(rate) for rate in (stream.guessed_rate, stream.average_rate) if rate]
    return min((rate for rate in rates if 0 < rate <= MAX_RATE), default=None)


def recorded_size(path: Path) -> int:
    """Bytes of the file without the zeros at its end, if those are many: recorders set files aside and fill them up."""
    with path.open("rb") as file:
        size = file.seek(0, os.SEEK_END)
        while size > BLANK:
            file.seek(size - BLANK)
            if file.read(BLANK).strip(b"\0"):
                break
            size -= BLANK
    return size


def duration_of(path: Path, container: InputContainer, stream: VideoStream) -> float | None:
    """Seconds that the opened `path` lasts by its container, unless damage did that or FFmpeg made them up.

    A frame takes at least one of the file's bytes, and there is one.
    """
    if stream.bit_rate == MPEG1_VARIABLE and container.format.name == MPEG_STREAM:
        return None  # computed from that rate
    duration, fps = (container.duration or 0) / av.time_base, rate_of(stream)
    least = SHORTEST / fps if fps else 0
    if not (duration > 0 and least <= duration <= path.stat().st_size / (fps or 1)):
        return None
    start = (container.start_time or 0) / av.time_base
    if container.format.name in UNTIL_THE_END and start > SOON * duration:
        end = _end(path, stream.index, start + duration)
        duration = duration if end is None or end <= start else end - start
    return duration


def must_be_counted(path: Path, container: InputContainer, stream: VideoStream) -> bool:
    """Whether packets alone tell how long the opened `path` lasts.

    What is cut, or was never filled, still states the duration of the whole, where a clock is set FFmpeg knows one side
    alone, and what was written into a pipe, or until its recorder stopped at once, states none.
    """
    cut = (
        recorded_size(path) < path.stat().st_size
        or truncation(path, stream) is not None
        or ends_within_tag(path)
    )
    stopped = container.format.name in UNTIL_THE_END and not container.duration
    return cut or stopped or is_set(path, container, stream)


def _end(path: Path, number: int, latest: float) -> float | None:
    """When the last frame of a video ends on the file's clock, before `latest`; None if that cannot be read."""
    ends = []
    with contextlib.suppress(*MEDIA_ERRORS), open_input(path) as container:
        container.seek(int(latest * av.time_base), backward=True)
        for packet in container.demux(container.streams[number]):
            if packet.pts is not None and packet.time_base is not None:
                ends.append(float((packet.pts + (packet.duration or 0)) * packet.time_base))
    return max(ends, default=None)
