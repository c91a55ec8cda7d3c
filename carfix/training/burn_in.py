"""What is written into pictures: a recorder's clock, names, boxes and lines, or a screen in the picture's place.

Cameras' pictures alone do not teach a network to leave text alone: crisp strokes look like what it has to mend. A
drawing is found by its seed and is the same over every frame, but for the seconds of its clocks.
"""

import functools
import sys
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from carfix.training.encoding import Luma

#: What a change of the drawings raises: clips with older ones are made anew.
VERSION = 1

#: Share of the clips that show a screen instead of what was recorded.
SCREENS = 0.12
#: Sizes of letters in pixels, each as likely as its double; and lines of text a picture of `_AREA` has, at least and
#: below: a larger one has more of them.
FONT_SIZES = (9, 40)
_TEXTS, _LINES, _AREA = (5, 14), (0, 4), 480 * 320
#: Where systems keep their fonts. Without any there is still Pillow's own.
_FONT_FOLDERS = {"darwin": "/Library/Fonts", "win32": "C:/Windows/Fonts"}
_FONT_FOLDER = "/usr/share/fonts"
#: A machine for typesetting has thousands.
_MOST_FONTS = 200
#: Weights of Pillow's own font: recorders have plain letters.
_OWN_FONT = 4
_WORDS = (
    "CAM",
    "ENTRANCE",
    "NORTH",
    "GATE",
    "04",
    "PTZ",
    "Lobby",
    "Parking",
    "Kasse",
    "Ausfahrt",
    "Rue",
    "REC",
    "km/h",
    "FPS",
    "192.168",
    "A7-K",
    "Hof",
    "Tor",
    "Platform",
)


def screen(rng: np.random.Generator, height: int, width: int) -> Luma:
    """A flat or graded ground `[H, W]` with rectangles, as a display or a drawing has them."""
    image = Image.new("L", (width, height), int(rng.integers(16, 236)))
    if rng.random() < 0.4:
        ramp = np.linspace(rng.integers(16, 236), rng.integers(16, 236), width)
        image = Image.fromarray(np.repeat(ramp[None], height, 0).astype(np.uint8))
    draw = ImageDraw.Draw(image)
    for _ in range(int(rng.integers(2, 14))):
        x, y = int(rng.integers(width)), int(rng.integers(height))
        corner = (x + int(rng.integers(6, 200)), y + int(rng.integers(4, 120)))
        draw.rectangle((x, y, *corner), fill=int(rng.integers(0, 256)), outline=int(rng.integers(0, 256)))
    return np.asarray(image)


class Drawing:
    """Lines of text, boxes and lines for a clip of `frames` frames."""

    def __init__(self, rng: np.random.Generator, frames: int) -> None:
        self._seed = int(rng.integers(1 << 31))
        self._turn = int(rng.integers(frames))  # the frame from which on clocks show the next second

    def over(self, planes: Luma) -> Luma:
        """The drawing over each of the clip's frames `[N, H, W]`: the same ink, whatever is below."""
        return np.stack([self._one(plane, number >= self._turn) for number, plane in enumerate(planes)])

    def _one(self, plane: Luma, later: bool) -> Luma:
        rng = np.random.default_rng(self._seed)
        image = Image.fromarray(plane.copy())
        times = max(1, round(plane.size / _AREA))
        for _ in range(times * int(rng.integers(*_LINES))):
            _line(image, rng)
        for _ in range(times * int(rng.integers(*_TEXTS))):
            _text(image, rng, later)
        return np.asarray(image)


@functools.cache
def _fonts() -> tuple[Path, ...]:
    """This system's fonts. Which ones there are decides how letters look: datasets of two machines may differ."""
    folder = Path(_FONT_FOLDERS.get(sys.platform, _FONT_FOLDER))
    return tuple(sorted(folder.rglob("*.ttf"))[:_MOST_FONTS])


def _line(image: Image.Image, rng: np.random.Generator) -> None:
    draw = ImageDraw.Draw(image)
    x, y = int(rng.integers(image.width)), int(rng.integers(image.height))
    ends = (x, y, x + int(rng.integers(4, 160)), y + int(rng.integers(4, 160)))
    ink, thick = int(rng.choice((16, 235, 255, 0, 128))), int(rng.integers(1, 4))
    if rng.random() < 0.6:
        draw.rectangle(ends, outline=ink, width=thick)
    else:
        draw.line(ends, fill=ink, width=thick)


def _words(rng: np.random.Generator, later: bool) -> str:
    year, month, day, hour, minute, second = (int(number) for number in rng.integers(0, 60, 6))
    names = [str(rng.choice(_WORDS)) for _ in range(int(rng.integers(1, 4)))]
    if rng.random() < 0.6:
        date = f"20{year:02}-{month % 12 + 1:02}-{day % 28 + 1:02}"
        return f"{date} {hour % 24:02}:{minute:02}:{(second + later) % 60:02}"
    return " ".join(names)


def _font(rng: np.random.Generator, size: int) -> ImageFont.FreeTypeFont:
    choice = int(rng.integers(-_OWN_FONT, len(_fonts())))
    if choice >= 0:
        try:
            return ImageFont.truetype(_fonts()[choice], size)
        except OSError:
            pass  # a font that FreeType cannot read
    font = ImageFont.load_default(size=size)
    assert isinstance(font, ImageFont.FreeTypeFont)
    return font


def _text(image: Image.Image, rng: np.random.Generator, later: bool) -> None:
    low, high = FONT_SIZES
    size = round(low * (high / low) ** rng.random())
    text = _words(rng, later)
    place = (
        int(rng.integers(-20, max(image.width - 40, 1))),
        int(rng.integers(-4, max(image.height - 10, 1))),
    )
    bright = bool(rng.random() < 0.75)
    ink = int(rng.integers(190, 256)) if bright else int(rng.integers(0, 50))
    edge = int(rng.integers(0, 45)) if bright else int(rng.integers(200, 256))
    style = str(rng.choice(("outline", "outline", "plain", "box", "pixels", "faint")))
    if style == "pixels":
        _pixels(image, rng, text, place, ink, edge)
        return
    font, draw = _font(rng, size), ImageDraw.Draw(image)
    if style == "box":
        box = draw.textbbox(place, text, font=font)
        draw.rectangle((box[0] - 3, box[1] - 2, box[2] + 3, box[3] + 2), fill=edge)
    if style == "faint":
        layer = Image.new("L", image.size, 0)
        ImageDraw.Draw(layer).text(place, text, font=font, fill=int(rng.integers(60, 200)))
        image.paste(ink, (0, 0), layer)
        return
    stroke = int(rng.integers(1, 3)) if style == "outline" else 0
    draw.text(place, text, font=font, fill=ink, stroke_width=stroke, stroke_fill=edge)


def _pixels(
    image: Image.Image, rng: np.random.Generator, text: str, place: tuple[int, int], ink: int, edge: int
) -> None:
    """A font of whole pixels, made larger, as recorders' own chips draw it."""
    small = ImageFont.load_default(size=9) if rng.random() < 0.5 else _font(rng, 9)
    box = small.getbbox(text)
    mask = Image.new("1", (round(box[2]) + 3, round(box[3]) + 3))
    ImageDraw.Draw(mask).text((1, 1), text, font=small, fill=1)
    factor = int(rng.integers(1, 4))
    mask = mask.resize((mask.width * factor, mask.height * factor), Image.Resampling.NEAREST)
    if rng.random() < 0.6:
        for dx, dy in ((-1, 0), (1, 0), (0, -1), (0, 1)):
            image.paste(edge, (place[0] + dx, place[1] + dy), mask)
    image.paste(ink, place, mask)
