"""Copies of streams that PyAV's list of a container's codecs leaves out, though its muxer writes them.

FFmpeg's muxers state the codecs that are standard in their container; PyAV refuses the others before it asks the
muxer. G.711 sound in Matroska, which half of all cameras record, is one of them. So a stream of a codec that is
on the list takes its place, and the parameters of the real one are put into it; what the muxer cannot write it
refuses itself when it writes the header.
"""

import io
import wave

import av
from av.bitstream import BitStreamFilterContext
from av.container import OutputContainer
from av.stream import Stream

#: Lets the muxer choose its own tag for the codec.
_NO_TAG = "\0\0\0\0"
#: Codecs that stand in for one that FFmpeg has no decoder for, by type of stream.
_STAND_INS = {
    "audio": ("pcm_s16le", "aac", "mp2"),
    "subtitle": ("dvb_subtitle", "subrip", "mov_text", "ass"),
    "video": ("h264", "mpeg4", "rawvideo"),
}


def add_unlisted_copy(output: OutputContainer, stream: Stream) -> Stream:
    """Add a stream with the parameters of `stream`. Raises `ValueError` where nothing can stand in for it."""
    copy = _stand_in(output, stream)
    copy.time_base = stream.time_base
    BitStreamFilterContext("null", in_stream=stream, out_stream=copy)
    if copy.codec_context is not None:
        copy.codec_context.codec_tag = _NO_TAG
    return copy


def _stand_in(output: OutputContainer, stream: Stream) -> Stream:
    if stream.type == "audio" and stream.codec_context is not None:
        # Taken from a file, so that PyAV knows that nothing is to be encoded.
        with av.open(_silence()) as silence:
            try:
                return output.add_stream_from_template(silence.streams.audio[0])
            except ValueError:  # which names the silence's codec
                raise ValueError(f"{output.format.name!r} format does not support it") from None
    for name in _STAND_INS.get(stream.type, ()):
        try:
            return output.add_mux_stream(name)
        except ValueError:
            continue
    raise ValueError(f"{output.format.name!r} format does not support it")


def _silence() -> io.BytesIO:
    buffer = io.BytesIO()
    with wave.open(buffer, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(8000)
        file.writeframes(bytes(2 * 800))
    buffer.seek(0)
    return buffer
