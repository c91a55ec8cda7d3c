"""Quantizers read from a stream's own headers, where its decoder exports none."""

from typing import Protocol

from carfix.video.headers.av1 import Av1Headers
from carfix.video.headers.h264 import H264Headers
from carfix.video.headers.hevc import HevcHeaders
from carfix.video.headers.jpeg import JpegHeaders


class Headers(Protocol):
    """Follows a stream packet by packet, in decoding order."""

    def quantizer(self, packet: bytes) -> float | None:
        """The quantizer of the frame that the packet shows; None if it cannot be told."""


def headers_of(codec: str, extradata: bytes) -> Headers | None:
    """What reads the headers of a stream; None for codecs (by FFmpeg's canonical name) that are not read."""
    match codec:
        case "h264":
            return H264Headers(extradata)
        case "hevc":
            return HevcHeaders(extradata)
        case "av1":
            return Av1Headers(extradata)
        case "mjpeg":
            return JpegHeaders()
    return None
