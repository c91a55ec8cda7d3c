"""Whether a recording's clock was set on the way, told from a few places of its file: FFmpeg takes the time from its
first packet to its last one for its duration, which then is that of its last part, or a pause that is longer than it.
"""

import itertools
from fractions import Fraction
from pathlib import Path
from typing import BinaryIO

import av
from av.container import InputContainer
from av.video.stream import VideoStream

from carfix.video.faults import MEDIA_ERRORS
from carfix.video.source import probe
from carfix.video.timeline import scan

#: Formats of packets that state their times and can be read from anywhere; files of others have an index.
_FORMATS = ("mpegts", "mpeg")
#: Places that are looked at. What is set back and made up for between two of them is not seen.
_PLACES = 16
#: Packets until one of the video comes, at most.
_PACKETS = 2000


class _Behind:
    """A file behind a place; it cannot be sought in, or FFmpeg would begin with its beginning."""

    def __init__(self, file: BinaryIO, offset: int) -> None:
        file.seek(offset)
        self._file = file

    def read(self, size: int) -> bytes:
        return self._file.read(size)


def is_set(path: Path, container: InputContainer, video: VideoStream) -> bool:
    """Whether decoding times of `video` of the opened `path` do not lie behind those of an earlier place, or leap ahead
    there by more than all the others do.
    """
    if container.format.name not in _FORMATS:
        return False
    size = path.stat().st_size
    with path.open("rb") as file:
        found = [
            _time_at(file, size * place // _PLACES, container.format.name, video.id)
            for place in range(_PLACES)
        ]
    times = [time for time in found if time is not None]
    steps = [after - before for before, after in itertools.pairwise(times)]
    return bool(steps) and (min(steps) <= 0 or max(steps) > sum(steps) / 2)


def counted(path: Path, stream: str | None) -> tuple[float, int]:
    """Seconds and frames of a video whose packets have to be read for that. Raises `CarfixError`."""
    info = probe(path, stream)
    timeline = scan(info)
    times = timeline.presentation
    return float((int(times[-1] - times[0]) + timeline.last_duration) * info.time_base), len(times)


def _time_at(file: BinaryIO, offset: int, format: str, number: int) -> Fraction | None:
    """Seconds on the clock of the first packet behind `offset` of the stream that the format calls `number`."""
    try:
        with av.open(_Behind(file, offset), "r", format=format, options={"probesize": "200000"}) as container:
            for packet in itertools.islice(container.demux(), _PACKETS):
                if packet.stream.id == number and packet.dts is not None:
                    return Fraction(packet.dts) * packet.time_base
    except MEDIA_ERRORS:
        pass
    return None
