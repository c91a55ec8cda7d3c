"""Luma planes of frames as arrays, in and out, for every layout that keeps luma in a plane of its own."""

import dataclasses
from pathlib import Path

import numpy as np
from av.video.format import VideoFormat
from av.video.frame import VideoFrame
from numpy.typing import NDArray

from carfix.errors import CarfixError

Luma = NDArray[np.uint8] | NDArray[np.uint16]

#: What the names of semi-planar formats begin with that have the sample in the high bits of a 16-bit word.
_HIGH_BITS = ("p0", "p2", "p4")

#: Component bits outside of this range are floats or bit masks, never luma codes.
_DEPTHS = range(8, 17)


@dataclasses.dataclass(frozen=True)
class LumaFormat:
    """How a pixel format stores luma."""

    bit_depth: int
    dtype: np.dtype[np.uint8] | np.dtype[np.uint16]  # as stored, with its byte order
    shift: int  # the code stands this many bits above the lowest

    @property
    def native(self) -> np.dtype[np.uint8] | np.dtype[np.uint16]:
        """The type in this machine's byte order."""
        return self.dtype.newbyteorder("=")


def luma_format(pix_fmt: str, path: Path | None = None) -> LumaFormat:
    """How `pix_fmt`, of the video `path`, stores luma.

    Raises `CarfixError` naming the cure for RGB, palettes, and formats that mix luma and chroma in one plane.
    """
    format = VideoFormat(pix_fmt)
    component = format.components[0]
    whose = "the video's" if path is None else f"{path}: the video's"
    if format.is_rgb or format.has_palette or not component.is_luma:
        raise CarfixError(
            f"{whose} pixel format {pix_fmt} has no luma: carfix never converts from RGB by itself; "
            "name the format to convert to, e.g. -pix_fmt yuv444p"
        )
    shares_plane = any(other.plane == component.plane for other in format.components[1:])
    if (
        shares_plane
        or component.bits not in _DEPTHS
        or format.name.startswith(("gbr", "xyz"))
        or _is_float(pix_fmt)
    ):
        raise CarfixError(
            f"{whose} pixel format {pix_fmt} does not keep luma in a plane of its own; "
            "name a planar format to convert to, e.g. -pix_fmt yuv422p"
        )
    if component.bits == 8:
        return LumaFormat(8, np.dtype(np.uint8), 0)
    base = pix_fmt.removesuffix("le").removesuffix("be")
    shift = 16 - component.bits if base.startswith(_HIGH_BITS) or base.endswith("msb") else 0
    return LumaFormat(component.bits, np.dtype(">u2" if pix_fmt.endswith("be") else "<u2"), shift)


def _is_float(pix_fmt: str) -> bool:
    return "f16" in pix_fmt or "f32" in pix_fmt


def _view(frame: VideoFrame, format: LumaFormat) -> NDArray[np.uint8] | NDArray[np.uint16]:
    """The plane's own memory as `[H, W]`, in the stored type."""
    plane = frame.planes[0]
    rows = np.frombuffer(plane, format.dtype).reshape(plane.height, -1)  # type: ignore[call-overload]
    if plane.line_size < 0:  # stored bottom up; PyAV's buffer starts at the last row
        rows = rows[::-1]
    return rows[:, : plane.width]  # type: ignore[no-any-return]


def read_luma(frame: VideoFrame, format: LumaFormat) -> Luma:
    """A copy of the frame's luma codes, `[H, W]`, uint8 for 8 bits and uint16 above."""
    rows = _view(frame, format)
    if format.shift:
        return (rows >> format.shift).astype(np.uint16)
    return np.array(rows, dtype=format.native, order="C")  # type: ignore[return-value]


def write_luma(frame: VideoFrame, luma: Luma, format: LumaFormat) -> None:
    """Put luma codes `[H, W]` into the frame; its chroma, alpha and properties stay as they are.

    The frame is made writable first: a decoder may still hold it as a reference.
    """
    frame.make_writable()
    rows = _view(frame, format)
    rows[...] = luma << format.shift if format.shift else luma
