"""Boxes with class names and scores, drawn into pictures."""

import colorsys
from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from carfix.quality.detection.boxes import Detections
from carfix.quality.detection.letterbox import Picture

#: Heights of a frame for the thickness of a line, and for the height of the letters; and the smallest letters that
#: can be read.
LINE_SHARE = 360
TEXT_SHARE = 40
SMALLEST_TEXT = 10
#: Pixels around a text.
MARGIN = 2

#: Steps of the golden ratio around the circle of hues keep neighbouring class numbers apart.
HUE_STEP = 0.618034

_DARK, _LIGHT = (0, 0, 0), (255, 255, 255)
#: Luminance (BT.601) of a colour from which dark letters read better on it.
_BRIGHT = 128


def drawn(frame: Picture, found: Detections, names: Sequence[str], caption: str) -> Picture:
    """A copy of an RGB picture `[H, W, 3]` with its detections, and `caption` in the top left corner."""
    image = Image.fromarray(frame)
    draw = ImageDraw.Draw(image)
    height = frame.shape[0]
    font = ImageFont.load_default(max(SMALLEST_TEXT, height // TEXT_SHARE))
    line = max(1, height // LINE_SHARE)
    # The best ones last, on top.
    for index in reversed(range(len(found))):
        number = int(found.classes[index])
        colour = class_colour(number)
        left, top, right, bottom = found.boxes[index].tolist()
        draw.rectangle((left, top, max(left, right - 1), max(top, bottom - 1)), outline=colour, width=line)
        _label(draw, font, left, top, f"{names[number]} {found.scores[index]:.2f}", colour)
    _label(draw, font, 0, 0, caption, _DARK)
    return np.asarray(image)


def class_colour(number: int) -> tuple[int, int, int]:
    """RGB of a class."""
    red, green, blue = colorsys.hsv_to_rgb(number * HUE_STEP % 1, 0.85, 1.0)
    return round(255 * red), round(255 * green), round(255 * blue)


def _label(
    draw: ImageDraw.ImageDraw,
    font: ImageFont.FreeTypeFont | ImageFont.ImageFont,
    left: float,
    bottom: float,
    text: str,
    colour: tuple[int, int, int],
) -> None:
    """A text on its colour, standing on `bottom`, moved into the picture where it would leave it."""
    _, _, width, height = draw.textbbox((0, 0), text, font=font)
    left = max(0, min(left, draw.im.size[0] - width - 2 * MARGIN))
    top = max(0, bottom - height - 2 * MARGIN)
    draw.rectangle((left, top, left + width + 2 * MARGIN, top + height + 2 * MARGIN), fill=colour)
    luminance = 0.299 * colour[0] + 0.587 * colour[1] + 0.114 * colour[2]
    ink = _DARK if luminance >= _BRIGHT else _LIGHT
    draw.text((left + MARGIN, top + MARGIN), text, fill=ink, font=font)
