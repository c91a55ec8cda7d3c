"""Four letters of videos: of some codecs they alone say what the packets hold."""

from av.stream import Stream
from av.video.codeccontext import VideoCodecContext
from av.video.stream import VideoStream

#: Whose letters say the pixel format or, of ProRes, the profile, by which editors and FFmpeg's own decoder go. All
#: others say it in their headers, and the containers' own letters for them are best.
_TOLD_BY_TAG = ("utvideo", "magicyuv", "rawvideo", "prores")


def keep_letters(copy: Stream, stream: Stream) -> None:
    """Give the `copy` of `stream` its letters, if it needs them: PyAV drops all, and muxers guess.

    AVI and NUT made planes of red, green and blue of any UT Video, MOV made HQ of any ProRes. A copy that has no
    context keeps them in its header.
    """
    if (
        isinstance(stream, VideoStream)
        and stream.codec_context.name in _TOLD_BY_TAG
        and isinstance(copy.codec_context, VideoCodecContext)
    ):
        copy.codec_context.codec_tag = stream.codec_context.codec_tag
