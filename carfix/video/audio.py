"""Audio that is encoded anew (`-c:a ENCODER`): packets in, packets of another codec out."""

from collections.abc import Iterator
from fractions import Fraction
from typing import Any

from av.audio.frame import AudioFrame
from av.audio.resampler import AudioResampler
from av.audio.stream import AudioStream
from av.packet import Packet

from carfix.video.faults import MEDIA_ERRORS


class AudioEncoder:
    """Decodes packets of one stream and encodes them into another, sample for sample at the same times.

    Packets that do not decode are counted in `refused` and leave a gap; the sound after it keeps its time.
    """

    def __init__(self, source: AudioStream, target: AudioStream) -> None:
        self.refused = 0
        self._source = source
        self._target = target
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
        """What decoder, resampler and encoder still hold."""
        for frame in self._source.codec_context.decode(None):
            yield from self._encode_frame(frame)
        yield from self._encode_frame(None)
        yield from self._target.encode(None)

    def _encode_frame(self, frame: AudioFrame | None) -> Iterator["Packet[Any]"]:
        if self._resampler is None:
            if frame is None:
                return
            context = self._target.codec_context
            self._resampler = AudioResampler(
                format=context.format,
                layout=context.layout,
                rate=context.sample_rate,
                frame_size=context.frame_size or None,  # 0: the encoder takes frames of any length
            )
        if frame is not None and frame.pts is not None and frame.time_base is not None:
            # A clock that counts packets (MP3 in AVI) cannot tell where packets of another length begin.
            sample = Fraction(1, frame.sample_rate)
            frame.pts, frame.time_base = round(frame.pts * frame.time_base / sample), sample
        for part in self._resampler.resample(frame):
            if part.pts is not None and part.time_base is None:
                part.time_base = Fraction(1, part.sample_rate)
            yield from self._target.encode(part)
