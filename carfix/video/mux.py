"""The final file: restored segments joined without encoding again, everything else of the input beside."""

from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
from av.bitstream import BitStreamFilterContext
from av.container import InputContainer
from av.packet import Packet
from av.video.stream import VideoStream

from carfix.errors import CarfixError
from carfix.video.address import address
from carfix.video.copying import other_packets
from carfix.video.faults import MEDIA_ERRORS, reason
from carfix.video.muxed import Muxed
from carfix.video.muxer import MOV_FORMATS, WITHOUT_HEADERS, Y4M
from carfix.video.output import OutputFile, OutputPlan
from carfix.video.sink import JoinedSegments
from carfix.video.source import open_input

#: Dolby's codecs, and what each of their packets begins with.
_AC3, _SYNC = ("ac3", "eac3"), b"\x0b\x77"


def write_output(
    target: Path, plan: OutputPlan, joined: JoinedSegments, progress: Callable[[int], None]
) -> Muxed:
    """Write the final file to `target`: the joined video, and the other streams of the input.

    `progress` is called with the number of video packets written so far, and may raise to stop. Raises `CarfixError`.
    """
    try:
        with open_input(plan.info.path) as source, av.open(address(joined.template)) as segment:
            output = OutputFile(target, plan, source, segment.streams.video[0])
            with output.container:
                output.container.start_encoding()
                muxed = _interleave(output, source, with_headers(joined, segment, plan.format), progress)
            output.complete(target)
            return muxed
    except MEDIA_ERRORS as error:
        raise CarfixError(f"cannot write {target}: {reason(error)}") from error


def with_headers(
    joined: JoinedSegments, template: InputContainer, format: str
) -> Iterator["Packet[VideoStream]"]:
    """The packets of `joined`, with the parameter sets of `template` among them where `format` needs them there."""
    if format not in WITHOUT_HEADERS:
        yield from joined.packets()
        return
    headers = BitStreamFilterContext("dump_extra=freq=keyframe", template.streams.video[0])
    for packet in joined.packets():
        time_base = packet.time_base  # the filter takes everything out of the packet
        for complete in headers.filter(packet):
            complete.time_base = time_base
            yield complete


def _interleave(
    output: OutputFile,
    source: InputContainer,
    packets: Iterator["Packet[VideoStream]"],
    progress: Callable[[int], None],
) -> Muxed:
    muxed, plan = Muxed.of(output), output.plan
    video = VideoPackets(output, packets, progress)
    for time, packet in other_packets(output, source):
        video.write_until(time)
        if _is_dropped(packet, muxed, plan.format):
            muxed.refused += 1
            continue
        try:
            output.container.mux(packet)
        except av.error.InvalidDataError:
            # As of AAC whose header is destroyed, which MP4 and Matroska store otherwise.
            muxed.refused += 1
        else:
            muxed.count(packet)
    video.write_until(None)
    muxed.refused += sum(encoder.refused for encoder in output.encoders.values())
    return muxed


def _is_dropped(packet: "Packet[Any]", muxed: Muxed, format: str) -> bool:
    """Whether MP4's muxer drops the packet without a word: AC-3 ahead of the first that begins as it has to."""
    context = packet.stream.codec_context
    if format not in MOV_FORMATS or context is None or context.name not in _AC3 or bytes(packet)[:2] == _SYNC:
        return False
    copied = muxed.audio.get(packet.stream_index)
    return copied is not None and not copied.packets


class VideoPackets:
    """Feeds the muxer with video up to where the other streams are, so that it need not buffer."""

    def __init__(
        self,
        output: OutputFile,
        packets: Iterator["Packet[VideoStream]"],
        progress: Callable[[int], None] = lambda count: None,
    ) -> None:
        self._output = output
        self._packets = packets
        self._next = next(self._packets, None)
        self._progress = progress
        self._count = 0
        self._shift = output.plan.shift_ticks

    def write_until(self, time: Fraction | None) -> None:
        """Write what is decoded up to `time`, in seconds on the output's clock; None: all that is left."""
        while (packet := self._next) is not None:
            assert packet.pts is not None and packet.dts is not None and packet.time_base is not None
            if time is not None and (packet.dts - self._shift) * packet.time_base > time:
                return
            packet.pts -= self._shift
            packet.dts -= self._shift
            if self._output.plan.format == Y4M:
                packet.pts = packet.dts = self._count
                packet.time_base = self._output.plan.info.frame_seconds
            packet.stream = self._output.video
            self._output.container.mux(packet)
            self._count += 1
            self._progress(self._count)
            self._next = next(self._packets, None)
