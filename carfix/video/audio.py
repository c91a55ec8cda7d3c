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

    Packets that do not decode are counted in `refused` and leave a gap; the sound after it keeps its time. Its form
    may change on the way, as broadcasts change between stereo and 5.1.
    """

    def __init__(self, source: AudioStream, target: AudioStream) -> None:
        self.refused = 0
        self.target = target
        self._source = source
        self._form: _Form | None = None  # of the last frame
        self._converter: AudioResampler | None = None  # from that to the target's
        # Lengths that the encoder takes; 0: any.
        self._cutter = AudioResampler(frame_size=target.codec_context.frame_size or None)

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
        yield from self._converted(None)
        yield from self._cut(None)
        yield from self.target.encode(None)

    def _encode_frame(self, frame: AudioFrame) -> Iterator["Packet[Any]"]:
        form = frame.format.name, frame.layout.name, frame.sample_rate
        if form != self._form:
            yield from self._converted(None)
            context = self.target.codec_context
            self._converter = AudioResampler(
                format=context.format, layout=context.layout, rate=context.sample_rate
            )
            self._form = form
        yield from self._converted(frame)

    def _converted(self, frame: AudioFrame | None) -> Iterator["Packet[Any]"]:
        """Packets of a frame of the present form; None for what is held of it."""
        if self._converter is not None:
            for part in self._converter.resample(None if frame is None else _on_own_clock(frame)):
                yield from self._cut(part)

    def _cut(self, frame: AudioFrame | None) -> Iterator["Packet[Any]"]:
        for part in self._cutter.resample(None if frame is None else _on_own_clock(frame)):
            if part.pts is not None and part.time_base is None:
                part.time_base = Fraction(1, part.sample_rate)
            yield from self.target.encode(part)


def _on_own_clock(frame: AudioFrame) -> AudioFrame:
    """The frame with its time in samples: a clock that counts packets (MP3 in AVI) cannot tell where others begin."""
    if frame.pts is not None:
        sample = Fraction(1, frame.sample_rate)
        frame.pts, frame.time_base = round(frame.pts * (frame.time_base or sample) / sample), sample
    return frame
