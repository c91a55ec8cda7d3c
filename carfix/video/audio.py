"""Audio that is encoded anew (`-c:a ENCODER`): packets in, packets of another codec out."""

from collections.abc import Iterator
from fractions import Fraction
from typing import Any

from av.audio.frame import AudioFrame
from av.audio.resampler import AudioResampler
from av.audio.stream import AudioStream
from av.packet import Packet

from carfix.video.faults import MEDIA_ERRORS

#: Name of the sample format, name of the channels' layout, samples a second.
_Form = tuple[str, str, int]


class AudioEncoder:
    """Decodes packets of one stream and encodes them into another, sample for sample at the same times.

    Packets that do not decode are counted in `refused` and leave a gap; the sound after it keeps its time. Sound that
    changes on the way, as broadcasts do between stereo and 5.1, goes on as it began.
    """

    def __init__(self, source: AudioStream, target: AudioStream) -> None:
        self.refused = 0
        self._source = source
        self.target = target
        self._first: _Form | None = None
        self._form: _Form | None = None  # of the last frame
        self._back: AudioResampler | None = None  # from that to the first one's, where they differ
        self._resampler: AudioResampler | None = None

    def encode(self, packet: "Packet[Any]") -> Iterator["Packet[Any]"]:
        """Packets of the target's codec for one packet of the source, in the source's clock."""
        try:
            frames = self._source.codec_context.decode(packet)
        except MEDIA_ERRORS:
            self.refused += 1
            return
        for frame in frames:
            yield from self._encode_frame(frame)

    def finish(self) -> Iterator["Packet[Any]"]:
        """What decoder, resamplers and encoder still hold."""
        for frame in self._source.codec_context.decode(None):
            yield from self._encode_frame(frame)
        yield from self._end_change()
        yield from self._resampled(None)
        yield from self.target.encode(None)

    def _encode_frame(self, frame: AudioFrame) -> Iterator["Packet[Any]"]:
        form = frame.format.name, frame.layout.name, frame.sample_rate
        if form != self._form:
            yield from self._end_change()
            self._form, self._first = form, self._first or form
            if form != self._first:
                name, layout, rate = self._first
                self._back = AudioResampler(format=name, layout=layout, rate=rate)
        if self._back is None:
            yield from self._resampled(frame)
            return
        for part in self._back.resample(_on_own_clock(frame)):
            yield from self._resampled(part)

    def _end_change(self) -> Iterator["Packet[Any]"]:
        held = [] if self._back is None else self._back.resample(None)
        self._back = None
        for part in held:
            yield from self._resampled(part)

    def _resampled(self, frame: AudioFrame | None) -> Iterator["Packet[Any]"]:
        """A frame of the first one's form as the encoder takes it; None for what is held."""
        if self._resampler is None:
            if frame is None:
                return
            context = self.target.codec_context
            self._resampler = AudioResampler(
                format=context.format,
                layout=context.layout,
                rate=context.sample_rate,
                frame_size=context.frame_size or None,  # 0: the encoder takes frames of any length
            )
        for part in self._resampler.resample(None if frame is None else _on_own_clock(frame)):
            if part.pts is not None and part.time_base is None:
                part.time_base = Fraction(1, part.sample_rate)
            yield from self.target.encode(part)


def _on_own_clock(frame: AudioFrame) -> AudioFrame:
    """The frame with its time in samples: a clock that counts packets (MP3 in AVI) cannot tell where others begin."""
    if frame.pts is not None and frame.time_base is not None:
        sample = Fraction(1, frame.sample_rate)
        frame.pts, frame.time_base = round(frame.pts * frame.time_base / sample), sample
    return frame
