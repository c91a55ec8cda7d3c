"""The packets of the streams that are copied, with their clocks repaired and shifted."""

import math
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from fractions import Fraction
from typing import Any

from av.audio.codeccontext import AudioCodecContext
from av.container import InputContainer
from av.format import Flags
from av.packet import Packet
from av.stream import Stream
from av.video.codeccontext import VideoCodecContext

from carfix.errors import CarfixError
from carfix.video.choice import codec_of, is_attached_picture
from carfix.video.clock import LARGEST_GAP, ClockRepair
from carfix.video.demux import demux
from carfix.video.faults import MEDIA_ERRORS, reason
from carfix.video.one_clock import stamp
from carfix.video.output import OutputFile, OutputPlan
from carfix.video.preroll import PreRoll
from carfix.video.text import rewriting

#: Containers that count so coarsely take equal times.
_MILLISECOND = Fraction(1, 1000)
#: Seconds by which other streams may go on while a packet waits for the next one of its stream. The muxers put in order
#: what is ten seconds apart.
_PATIENCE = Fraction(1)
#: Sound that cannot be decoded from any packet on, as video. Readers leave out what comes before such a one.
_WITH_KEYFRAMES = ("truehd", "mlp")
#: Containers whose packets say when they are decoded and when they are shown, so that damage may change either alone.
_TELL_BOTH_TIMES = ("mpegts", "mpeg")

#: Packets on either side of a pause: enough for encoders whose packets are longer than the input's.
_AROUND = 4

#: What is to be written of a copied stream, now that one more of its packets has come.
Change = Callable[["Packet[Any]"], list["Packet[Any]"]]


def change_of(stream: Stream, format: str) -> Change:
    """What becomes of the packets of a stream that is copied into the container `format`."""
    return rewriting(format, stream) or PreRoll(stream, format)


def other_packets(
    output: OutputFile, source: InputContainer
) -> Iterator[tuple[Fraction | None, "Packet[Any]"]]:
    """Packets for the output in the input's order, each with its time in seconds on the output's clock.

    Raises `CarfixError` if the input cannot be read, though it could be when it was examined.
    """
    plan = output.plan
    indices = [*output.copies, *output.encoders]
    if not indices:
        return
    streams = [source.streams[index] for index in indices]
    clocks = {stream.index: _Clock(stream, output.copies.get(stream.index), plan) for stream in streams}
    # Where sound steps back by less than a clock that was set, so does what an encoder makes of it.
    ascending = {
        index: Ascending(encoder.target, encoder.target) for index, encoder in output.encoders.items()
    }
    changes = {index: change_of(source.streams[index], plan.format) for index in output.copies}
    for packet, following in _with_following(_changed(_packets_to_the_end(source, streams, plan), changes)):
        index = packet.stream_index
        if not clocks[index].set_times(packet, following):
            continue
        if index in output.encoders:
            for encoded in output.encoders[index].encode(packet):
                ascending[index].set_times(encoded)
                yield _time(encoded), encoded
        else:
            packet.stream = output.copies[index]
            yield _time(packet), packet
    for index, encoder in output.encoders.items():
        for encoded in encoder.finish():
            ascending[index].set_times(encoded)
            yield _time(encoded), encoded


def around_pauses(
    plan: OutputPlan, source: InputContainer, indices: Sequence[int]
) -> dict[int, list["Packet[Any]"]]:
    """Of each stream of sound some packets around its longest pause, at their times on the output's clock."""
    streams = [source.streams[index] for index in indices]
    clocks = {stream.index: _Clock(stream, None, plan) for stream in streams}
    longest = dict.fromkeys(indices, 0)
    latest: dict[int, deque[Packet[Any]]] = {index: deque(maxlen=_AROUND) for index in indices}
    found: dict[int, list[Packet[Any]]] = {index: [] for index in indices}
    for packet, following in _with_following(_packets_to_the_end(source, streams, plan)):
        index = packet.stream_index
        if not clocks[index].set_times(packet, following):
            continue
        before = latest[index]
        step = _ticks(packet) - _ticks(before[-1]) if before else 0
        if step > longest[index]:
            longest[index], found[index] = step, [*before, packet]
        elif len(found[index]) < 2 * _AROUND:
            found[index].append(packet)
        before.append(packet)
    return found


def _ticks(packet: "Packet[Any]") -> int:
    return packet.dts or 0


def _changed(packets: Iterator["Packet[Any]"], changes: Mapping[int, Change]) -> Iterator["Packet[Any]"]:
    for packet in packets:
        change = changes.get(packet.stream_index)
        yield from [packet] if change is None else change(packet)


def _with_following(
    packets: Iterator["Packet[Any]"],
) -> Iterator[tuple["Packet[Any]", "Packet[Any] | None"]]:
    """Each packet with the next one of its stream, when that is known and not far away."""
    waiting: dict[int, Packet[Any]] = {}
    for packet in packets:
        before = waiting.pop(packet.stream_index, None)
        if before is not None:
            yield before, packet
        for late in [other for other in waiting.values() if _is_left_behind(other, packet)]:
            yield waiting.pop(late.stream_index), None
        waiting[packet.stream_index] = packet
    for packet in waiting.values():
        yield packet, None


def _is_left_behind(waiting: "Packet[Any]", packet: "Packet[Any]") -> bool:
    """Whether a subtitle waits, which may be minutes ahead of the next one: players look for it where it is shown."""
    then, now = _time(waiting), _time(packet)
    return _is_sparse(waiting.stream) and then is not None and now is not None and now - then > _PATIENCE


def _is_sparse(stream: Stream) -> bool:
    return stream.type not in ("audio", "video")


def _packets_to_the_end(
    source: InputContainer, streams: Sequence[Stream], plan: OutputPlan
) -> Iterator["Packet[Any]"]:
    try:
        for packet in demux(source, *streams):
            if packet.size:
                yield packet
    except MEDIA_ERRORS as error:
        if not plan.cut_short:  # else the scan met the same end, and it is told
            raise CarfixError(
                f"cannot read {plan.info.path} for what is copied from it: {reason(error)}"
            ) from error


def _time(packet: "Packet[Any]") -> Fraction | None:
    time = stamp(packet, video=False)
    return None if time is None or packet.time_base is None else time * packet.time_base


class _Clock:
    """Repairs and shifts one stream's times; `copy` is the output's, if it is copied."""

    def __init__(self, stream: Stream, copy: Stream | None, plan: OutputPlan) -> None:
        assert stream.time_base is not None
        self._plan = plan
        self._time_base = Fraction(stream.time_base)
        self._repair = ClockRepair(
            self._time_base, plan.jumps, format=plan.info.format, sparse=_is_sparse(stream)
        )
        self._shift = round(plan.shift / self._time_base)
        self._ascending = Ascending(stream, copy)
        self._video = stream.type == "video" and not is_attached_picture(stream)
        # Elsewhere one is made of the other, and in a time lapse they are far apart.
        self._tells_both = plan.info.format in _TELL_BOTH_TIMES
        # What comes before its first keyframe cannot be decoded once what is before that is cut away.
        self._waits = plan.start is not None and (self._video or codec_of(stream) in _WITH_KEYFRAMES)

    def set_times(self, packet: "Packet[Any]", following: "Packet[Any] | None") -> bool:
        """Give the packet its output times; False if it lies outside of the wanted range."""
        after = None if following is None else stamp(following, video=self._video)
        before = stamp(packet, video=self._video)
        after_pts = None if following is None else following.pts
        offset, dts = self._repair.repair(before, packet.duration, after, packet.pts, after_pts)
        pts = None if packet.pts is None else packet.pts + offset
        if pts is not None and before is not None and dts is not None:
            if not self._tells_both:
                pts += dts - before - offset  # what was damaged is in both
            elif self._far(pts, dts):
                pts = dts
        if self._outside(pts, dts) or (self._waits and not packet.is_keyframe):
            return False
        self._waits = False
        packet.dts = None if dts is None else dts - self._shift
        packet.pts = None if pts is None else pts - self._shift
        self._ascending.set_times(packet)
        return True

    def _far(self, pts: int, dts: int) -> bool:
        return abs(pts - dts) * self._time_base > LARGEST_GAP

    def _outside(self, pts: int | None, dts: int | None) -> bool:
        shown = dts if pts is None else pts
        # A video is cut where decoding is: frames that are left would lack the later ones that they are decoded from.
        last = shown if dts is None or not self._video else dts
        start, end = self._plan.start, self._plan.end
        if shown is not None and start is not None and shown * self._time_base < start:
            return True
        return last is not None and end is not None and last * self._time_base >= end


def _takes_equal_times(copy: Stream) -> bool:
    flags: Any = copy.container.format.flags  # a number, whatever PyAV's stubs say
    return copy.type in ("subtitle", "data") or bool(flags & Flags.ts_nonstrict.value)


def _usual_length(stream: Stream) -> int:
    """How many ticks the packets of a codec are apart that has as many samples in each; 0 for others."""
    context = stream.codec_context
    if not isinstance(context, AudioCodecContext) or not context.sample_rate or stream.time_base is None:
        return 0
    return round(Fraction(context.frame_size, context.sample_rate) / Fraction(stream.time_base))


class Ascending:
    """Gives one stream's packets decoding times that ascend, which muxers insist on, where they have none or do not."""

    def __init__(self, stream: Stream, copy: Stream | None) -> None:
        self._copy = copy
        self._time_base = None if stream.time_base is None else Fraction(stream.time_base)
        context = stream.codec_context
        # Matroska's first frames have no decoding times, as many as are reordered: below the presentation of all.
        self._lead = context.reorder_depth if isinstance(context, VideoCodecContext) else 0
        self._last: int | None = None
        self._sound = copy is not None and copy.type == "audio"
        # Of sound that begins damaged, FFmpeg states a time for the first packet alone of what it looks at in a pipe.
        self._lasts = _usual_length(stream) if self._sound else 0

    def set_times(self, packet: "Packet[Any]") -> None:
        """Complete the times of `packet`, the next one."""
        self._count_finer(packet)
        pts, dts = packet.pts, packet.dts
        step = self._step()
        if dts is None:
            dts = (pts or 0) - self._lead if self._last is None else self._last + max(1, step, self._lasts)
        if self._last is not None and dts < self._last + step:
            dts = self._last + step
        if self._last is not None and self._sound and not packet.duration:
            # NUT states none, and in MP4 sound ends with its last packet's: readers would drop that one.
            packet.duration = dts - self._last
        self._last = dts
        packet.dts = dts
        # Nothing is shown before it is decoded: what was moved here, or by damage.
        packet.pts = dts if pts is None else max(pts, dts)

    def _count_finer(self, packet: "Packet[Any]") -> None:
        """Put sound on the output's clock where that is finer and takes no time twice.

        Of TrueHD's 1200 packets a second two lie in one of Matroska's milliseconds. Moved by whole milliseconds until
        none shares its own, they would fall ever farther behind the picture.
        """
        copy = self._copy
        if copy is None or not self._sound or _takes_equal_times(copy):
            return
        clock, own = copy.time_base, self._time_base
        if clock is None or own is None or clock >= own:
            return
        ratio = own / Fraction(clock)
        packet.pts = None if packet.pts is None else round(packet.pts * ratio)
        packet.dts = None if packet.dts is None else round(packet.dts * ratio)
        packet.duration = round((packet.duration or 0) * ratio)
        packet.time_base = Fraction(clock)

    def _step(self) -> int:
        """Ticks that make one of the output's clock, which it has from its header on; 0 where times may be equal.

        So those of subtitles often are, and of sound whose packets are shorter than a millisecond (TrueHD).
        """
        if self._copy is not None and _takes_equal_times(self._copy):
            return 0
        clock = None if self._copy is None else self._copy.time_base
        if clock is None or self._time_base is None or clock >= _MILLISECOND:
            return 1
        return max(1, math.ceil(clock / self._time_base))
