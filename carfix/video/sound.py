"""Sound that is encoded anew: the stream that takes it, and whether encoder and container can."""

import io
from fractions import Fraction
from typing import Any

import av
from av.audio.format import AudioFormat
from av.audio.layout import AudioLayout
from av.audio.stream import AudioStream
from av.codec import Codec
from av.container import OutputContainer
from av.stream import Stream

from carfix.video.faults import MEDIA_ERRORS, captured_log, reason, said
from carfix.video.flash import FLV, flash_refusal
from carfix.video.muxer import kept_tags, muxer_options, without_statistics
from carfix.video.unnamed import ask, unnamed

#: FFmpeg's layouts for numbers of channels.
_USUAL_LAYOUTS = {1: "mono", 2: "stereo", 3: "2.1", 4: "4.0", 5: "5.0", 6: "5.1", 7: "6.1", 8: "7.1"}
#: Whom to name where a container cannot hold the input's sound: every container for video holds one of these.
_USUAL_ENCODERS = ("aac", "libopus", "ac3", "mp2", "pcm_s16le")


def named_layout(layout: AudioLayout) -> AudioLayout:
    """`layout`, or where a file tells only the number of channels (PCM in AVI), FFmpeg's usual one for it."""
    if not layout.name.endswith(" channels"):
        return layout
    return AudioLayout(_USUAL_LAYOUTS.get(layout.nb_channels, layout.name))


def is_known(stream: Stream) -> bool:
    """Whether this FFmpeg has a decoder for the stream's codec; without one PyAV knows nothing of its form."""
    context: Any = stream.codec_context  # which PyAV's stubs take for given
    return context is not None


def rate_for(encoder: str, rate: int) -> int:
    """Of the sampling rates in Hz that `encoder` takes, the nearest to `rate`, as FFmpeg chooses it."""
    return min(Codec(encoder, "w").audio_rates or [rate], key=lambda other: (abs(other - rate), -other))


def format_for(encoder: str, format: AudioFormat) -> AudioFormat:
    """Of the sample formats that `encoder` takes, the one that keeps most of `format`, as FFmpeg chooses it."""

    def cost(other: AudioFormat) -> int:
        lost = format.bytes - other.bytes
        kept = _is_float(format) == _is_float(other)
        planes = format.is_planar != other.is_planar
        return (100 * lost if lost > 0 else -10 * lost) + (0 if kept else 2) + planes

    return min(Codec(encoder, "w").audio_formats or [format], key=cost)


def _is_float(format: AudioFormat) -> bool:
    """Whether samples are floating point: as integers of as many bytes they lose next to nothing."""
    return format.name.startswith(("flt", "dbl"))


def add_encoded_audio(
    output: OutputContainer, stream: AudioStream, encoder: str, bitrate: str | None = None
) -> AudioStream:
    """Add a stream for `stream` encoded by `encoder`, with its rate or the nearest, channels, tags and dispositions.

    `bitrate` is bits a second as FFmpeg takes them ("128k"); None leaves them to the encoder.
    """
    rate = rate_for(encoder, stream.codec_context.sample_rate)
    encoded = output.add_stream(encoder, rate=rate, options={} if bitrate is None else {"b": bitrate})
    assert isinstance(encoded, AudioStream)
    # PyAV takes the first of the encoder's: eight bits for WavPack.
    encoded.codec_context.format = format_for(encoder, stream.codec_context.format)
    encoded.codec_context.layout = named_layout(stream.codec_context.layout)
    encoded.time_base = Fraction(1, rate)
    encoded.metadata.update(without_statistics(kept_tags(stream.metadata)))
    encoded.disposition = stream.disposition
    return encoded


def try_encoded(stream: AudioStream, encoder: str, format: str, bitrate: str | None = None) -> str | None:
    """Why `format` cannot hold `stream` encoded by `encoder`, or that does not take it; None if both can."""
    if not is_known(stream):
        return "this FFmpeg has no decoder for it"
    with captured_log() as log:
        try:
            with av.open(
                io.BytesIO(), "w", format=format, container_options=muxer_options(format, {})
            ) as output:
                encoded = add_encoded_audio(output, stream, encoder, bitrate)
                if format == FLV and (refusal := flash_refusal(encoded.codec_context)):
                    return refusal
                output.start_encoding()
                ask(output, encoded)
        except MEDIA_ERRORS as error:
            return next(iter(said(log)), reason(error))
    return unnamed(log)


def encoder_for(stream: AudioStream, format: str) -> str | None:
    """An encoder whose sound `format` can hold; None if it holds none."""
    if not is_known(stream) or not stream.codec_context.sample_rate:
        return None
    return next((name for name in _USUAL_ENCODERS if try_encoded(stream, name, format) is None), None)
