"""Times of frames whose encoder only counts them, such as MPEG-2 with its few frame rates, through a pipe."""

from collections.abc import Iterable, Iterator

from av.packet import Packet
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from carfix.video.source import SourceInfo

#: How many frames' times are kept: more than encoders hold back.
_KEPT = 256


class CountedFrames:
    """Gives the encoder numbers for times, and the packets their frames' times again."""

    def __init__(self, info: SourceInfo) -> None:
        self._time_base = info.time_base
        self._rate = info.rate
        self._step = max(1, round(1 / info.rate / info.time_base))
        #: Of the last frames, by their numbers, in ticks of the input's time base.
        self._times: dict[int, int] = {}
        self._count = 0
        self._first = 0

    def number(self, frame: VideoFrame) -> None:
        """Put the frame's number, the next one, in the place of its time."""
        assert frame.pts is not None
        if not self._count:
            self._first = frame.pts
        self._times[self._count] = frame.pts
        self._times.pop(self._count - _KEPT, None)
        frame.pts, frame.time_base = self._count, 1 / self._rate
        self._count += 1

    def timed(self, packets: Iterable["Packet[VideoStream]"]) -> Iterator["Packet[VideoStream]"]:
        """The packets of numbered frames, in the order of decoding, at the frames' times."""
        for packet in packets:
            assert packet.pts is not None
            packet.pts = self._time(packet.pts)
            packet.dts = packet.pts if packet.dts is None else self._time(packet.dts)
            packet.duration = self._step
            packet.time_base = self._time_base
            yield packet

    def _time(self, number: int) -> int:
        """Encoders decode their first frames ahead of the first one's time, at numbers below 0."""
        return self._first + number * self._step if number < 0 else self._times[number]
