"""What AVI wants otherwise: sound whose packets FFmpeg's readers give a size, or a length, that they do not have."""

from av.audio.stream import AudioStream
from av.container import OutputContainer
from av.stream import Stream

from carfix.video.muxer import AVI

_AC3 = "ac3"
#: Containers that give sound a block size of their own.
_COUNTING = ("avi", "asf")
#: Sound that comes back four to a hundred times too fast, with FFmpeg's own copies, too: its packets are of several
#: lengths, or counted by a block size that is wrong. From containers that count so themselves, and from all others.
_SQUEEZED_FROM_COUNTING = ("aac", "vorbis")
_SQUEEZED_FROM_OTHERS = ("vorbis", "eac3", "dts", "adpcm_g722")
#: The same the other way round: a phone's speech comes back sixteen times too slow.
_STRETCHED = ("amr_nb",)


def avi_refusal(stream: AudioStream) -> str | None:
    """Why AVI cannot hold a copy of such sound; None if it can, or its muxer says so itself."""
    counting = stream.container.format.name in _COUNTING
    squeezed = _SQUEEZED_FROM_COUNTING if counting else _SQUEEZED_FROM_OTHERS
    codec = stream.codec_context.codec.canonical_name
    if codec in squeezed:
        return "it would be played far too fast"
    return "it would be played far too slowly" if codec in _STRETCHED else None


def add_counted_copy(output: OutputContainer, stream: Stream) -> AudioStream | None:
    """Add a stream for the packets of `stream` that has no block size, where AVI would count by it; None elsewhere.

    AVI files give AC-3 a block of 3840 bytes, and FFmpeg's writer takes that for the size of each packet: all sound
    would lie in the first tenth of the file. FFmpeg's own program takes it away. PyAV cannot, but its encoders' streams
    have none; nothing is encoded.
    """
    if output.format.name != AVI or not isinstance(stream, AudioStream) or stream.codec_context.name != _AC3:
        return None
    context = stream.codec_context
    copy = output.add_stream(_AC3, rate=context.sample_rate, layout=context.layout.name)
    assert isinstance(copy, AudioStream)
    if context.bit_rate:
        copy.codec_context.bit_rate = context.bit_rate
    return copy
