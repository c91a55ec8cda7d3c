"""Frames as a detector sees them: RGB pictures of a frame's luma alone, or with its colour."""

import dataclasses

import numpy as np

from carfix.quality.detection.letterbox import Picture
from carfix.quality.reader import LumaFrame, luma_of
from carfix.quality.report.pictures import colorspace_of, rgb
from carfix.restore.engine import Planes

#: 8-bit codes of black and white in the limited range (BT.601 and BT.709).
BLACK, WHITE = 16, 235


def gray_picture(luma: Planes, bit_depth: int) -> Picture:
    """Luma codes `[H, W]` of the limited range as a gray picture: what no colour is known of."""
    codes = luma.astype(np.float32) / (1 << (bit_depth - 8))
    full = np.rint((codes - BLACK) * (255 / (WHITE - BLACK))).clip(0, 255).astype(np.uint8)
    return np.repeat(full[:, :, None], 3, axis=2)


def colour_picture(frame: LumaFrame) -> Picture:
    """The frame in colour with the luma that it shows, by the matrix that it states."""
    picture: Picture = rgb(frame, colorspace_of(frame)).to_ndarray()  # type: ignore[assignment]  # rgb24
    return picture


def as_decoded(frame: LumaFrame) -> LumaFrame:
    """A restored frame with the luma that was decoded: its picture still has it until it is shown."""
    assert frame.picture is not None
    luma, bit_depth = luma_of(frame.picture)
    return dataclasses.replace(frame, luma=luma, bit_depth=bit_depth)
