"""Frames from one pixel format to another with the luma's and chroma's codes kept where both formats have them."""

from av.video.frame import VideoFrame

#: AVCOL_RANGE_JPEG: full range.
FULL_RANGE = 2
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
