"""Whether readers would know a video in a container, for what goes through a pipe and is not read back."""

import io
from fractions import Fraction

import av
from av.codec import Codec

from carfix.video.encoder import Encoding, configure
from carfix.video.encoder_settings import RAW
from carfix.video.faults import MEDIA_ERRORS, captured_log
from carfix.video.muxer import BARE
from carfix.video.rehearsal import trial_frames
from carfix.video.scheduling import kept_scheduling
from carfix.video.source import SourceInfo

#: The container that takes any video.
_TAKES_ANY = "mpegts"
#: Frames that are tried.
_FRAMES = 3


def unknown_to_readers(format: str, info: SourceInfo, encoding: Encoding) -> str | None:
    """What readers would not know of the video in `format`; None if they would.

    MPEG-TS takes any video, under no name or without its headers, and some containers take raw pictures that they
    cannot describe. What cannot be written at all is said by who writes it.
    """
    if format in BARE or (format != _TAKES_ANY and encoding.codec != RAW):
        return None
    with captured_log():
        try:
            written = _written(format, info, encoding)
        except (*MEDIA_ERRORS, ValueError):
            return None
        try:
            with av.open(io.BytesIO(written), "r") as container:
                frame = next(container.decode(video=0))
                known = [(container.streams.video[0].codec_context.codec.canonical_name, frame.format.name)]
        except (*MEDIA_ERRORS, IndexError, StopIteration, AttributeError):  # no video, or none that is known
            known = []
    codec = Codec(encoding.codec, "w").canonical_name
    if codec not in [name for name, _ in known]:
        return "readers would not know what it is"
    if codec == RAW and (codec, encoding.pix_fmt) not in known:
        return f"it has no name for {encoding.pix_fmt}"
    return None


def _written(format: str, info: SourceInfo, encoding: Encoding) -> bytes:
    buffer = io.BytesIO()
    with av.open(buffer, "w", format=format) as output:
        video = output.add_stream(encoding.codec, rate=info.rate, options=dict(encoding.options))
        assert isinstance(video, av.VideoStream)
        configure(video.codec_context, info, encoding)
        with kept_scheduling():
            output.start_encoding()
        for number, frame in enumerate(trial_frames(info, encoding, _FRAMES)):
            frame.pts, frame.time_base = number, Fraction(1) / info.rate
            output.mux(video.encode(frame))
        output.mux(video.encode(None))
    return buffer.getvalue()
