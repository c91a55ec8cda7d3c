"""Frames from one pixel format to another with the luma's and chroma's codes kept where both formats have them."""

from av.video.frame import VideoFrame

from carfix.errors import CarfixError
from carfix.video.luma import LumaFormat, luma_format

#: AVCOL_RANGE_MPEG and AVCOL_RANGE_JPEG: limited and full range.
LIMITED_RANGE, FULL_RANGE = 1, 2
#: For every conversion whose codes matter. With more, swscale cuts the picture into slices, and a thread that writes a
#: few codes beyond its last row (the vector's length, where the width is no multiple of it) may do so after another has
#: written the row below: eight wrong codes in one of 200 frames (70 pixels wide, 10 bits, 4:2:2, on two cores).
SCALER_THREADS = 1


def convert(frame: VideoFrame, pix_fmt: str, colour_range: int) -> VideoFrame:
    """The frame in `pix_fmt`: itself where that is its format already.

    `colour_range` is the source's AVColorRange. Both sides are told the same range, or swscale would scale the
    codes between one that it assumes and another: yuvj formats are full range whatever is tagged.
    """
    if frame.format.name == pix_fmt:
        return frame
    range = (
        FULL_RANGE if any(name.startswith("yuvj") for name in (frame.format.name, pix_fmt)) else colour_range
    )
    if range == 0:
        return frame.reformat(format=pix_fmt, threads=SCALER_THREADS)
    return frame.reformat(
        format=pix_fmt, src_color_range=range, dst_color_range=range, threads=SCALER_THREADS
    )


def has_rgb(frame: VideoFrame) -> bool:
    """Whether the frame holds RGB, as itself or in a palette, and no luma."""
    return frame.format.is_rgb or frame.format.has_palette


def from_rgb(frame: VideoFrame, pix_fmt: str) -> VideoFrame:
    """A frame that `has_rgb` in the YCbCr format `pix_fmt`, in the limited range, as FFmpeg's program converts it.

    Unasked, swscale keeps the range that is tagged: some decoders call RGB full (PNG, FFV1, x264's), others call it
    nothing (QuickTime's, Ut Video), and the same pictures would give other codes.
    """
    return frame.reformat(
        format=pix_fmt, src_color_range=FULL_RANGE, dst_color_range=LIMITED_RANGE, threads=SCALER_THREADS
    )


def with_luma(frame: VideoFrame, pix_fmt: str) -> tuple[VideoFrame, LumaFormat]:
    """The frame and how it stores luma: itself where luma has a plane of its own, else in the YCbCr format `pix_fmt`.

    RGB and XYZ get the limited range. All other codes stay as they are, whatever range is tagged.
    """
    if has_rgb(frame) or frame.format.name.startswith("xyz"):
        frame = from_rgb(frame, pix_fmt)
    try:
        return frame, luma_format(frame.format.name)
    except CarfixError:  # luma shares its plane with chroma or alpha, or is floats
        return convert(frame, pix_fmt, FULL_RANGE), luma_format(pix_fmt)
