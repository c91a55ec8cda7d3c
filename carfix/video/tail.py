"""Whether a video's last frames decode, told from its end alone."""

from collections.abc import Sequence

from av.packet import Packet
from av.video.codeccontext import VideoCodecContext
from av.video.stream import VideoStream


class Tail:
    """The last packets of a video that is read from front to back: from its last keyframe but one on.

    GOPs may be open, as x265's are unless told and MPEG-2's with B-frames: what follows a keyframe and is shown before
    it is decoded from the GOP before, too, and is missing where decoding begins at that keyframe.
    """

    def __init__(self) -> None:
        self._before: list[Packet[VideoStream]] = []
        self._last: list[Packet[VideoStream]] = []

    def add(self, packet: "Packet[VideoStream]") -> None:
        """The next packet, in the order of decoding."""
        if packet.is_keyframe:
            self._before, self._last = self._last, []
        self._last.append(packet)

    def decodes(self, context: VideoCodecContext) -> bool:
        """Whether all frames from the last keyframe on can be decoded; raises what the decoder does."""
        wanted = len(self._last)
        if _count(context, self._last) >= wanted:
            return True
        return _count(context, [*self._before, *self._last]) - _count(context, self._before) >= wanted


def _count(context: VideoCodecContext, packets: "Sequence[Packet[VideoStream]]") -> int:
    context.flush_buffers()
    frames = sum(len(context.decode(packet)) for packet in packets)
    return frames + len(context.decode(None))
