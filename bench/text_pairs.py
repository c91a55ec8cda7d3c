"""Text, lines and screens written into pristine frames and encoded: what cameras' pictures alone do not teach.

    python bench/text_pairs.py data texts.npz --sequences 600 [--split val] [--seed 1]

Each sequence is a clip or photograph of the dataset with a recorder's clock, names, boxes and lines drawn over it (or a
screen in its place), encoded by x264 at a drawn quality; in a third of them the picture below was encoded before, so
that crisp text stands on a coarse picture, as an export makes it. The file has the arrays `decoded` and `pristine`,
`[N, H, W]` uint8, all cut to one size, and `plain`, the number of sequences without such an encoding before.
"""

import argparse
import tempfile
from pathlib import Path

import numpy as np
from encoding_cost import luma
from numpy.typing import NDArray
from overlays import encode
from PIL import Image, ImageDraw, ImageFont

from carfix.training.patches import load_pairs

Codes = NDArray[np.uint8]

SIZE = (320, 480)
FRAMES, KEPT = 10, (2, 5, 8)
CRFS, CRFS_BEFORE, CRFS_AFTER = (15, 48), (28, 44), (15, 26)
SCREENS, AFTER = 0.12, 0.33  # shares of the sequences
FONT_SIZES = (9, 40)
FONTS = sorted(Path("/usr/share/fonts").rglob("*.ttf"))
WORDS = (
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


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("dataset", type=Path)
    parser.add_argument("output", type=Path)
    parser.add_argument("--sequences", type=int, default=600)
    parser.add_argument("--split", default="train")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    rng = np.random.default_rng(options.seed)
    sources = {pair.clip: pair.pristine for pair in load_pairs(options.dataset, options.split, frames=24)}
    sources = {
        name: planes
        for name, planes in sources.items()
        if planes.shape[1] >= SIZE[0] and planes.shape[2] >= SIZE[1]
    }
    names = sorted(sources)
    after = [number < AFTER * options.sequences for number in range(options.sequences)][::-1]
    decoded, pristine = [], []
    with tempfile.TemporaryDirectory(prefix="carfix-text-") as folder:
        for number, twice in enumerate(after):
            planes = excerpt(sources[names[number * 7919 % len(names)]], rng)
            if rng.random() < SCREENS:
                planes = np.repeat(screen(rng)[None], len(planes), 0)
            below = planes
            if twice:
                encode(first := Path(folder, "first.mp4"), planes, int(rng.integers(*CRFS_BEFORE)))
                below = luma(first).astype(np.uint8)
            drawn = Drawing(rng)
            source, target = drawn.over(below), drawn.over(planes)
            encode(
                video := Path(folder, "text.mp4"), source, int(rng.integers(*(CRFS_AFTER if twice else CRFS)))
            )
            shown = luma(video).astype(np.uint8)
            decoded.append(shown[list(KEPT)])
            pristine.append(target[list(KEPT)])
    np.savez(
        options.output,
        decoded=np.concatenate(decoded),
        pristine=np.concatenate(pristine),
        plain=len(KEPT) * after.count(False),
    )


def excerpt(planes: Codes, rng: np.random.Generator) -> Codes:
    """`FRAMES` frames, cut out at a multiple of 16; a photograph's short clip goes to and fro."""
    y, x = (
        int(rng.integers((side - size) // 16 + 1)) * 16
        for side, size in zip(planes.shape[1:], SIZE, strict=True)
    )
    order = np.arange(FRAMES) % (2 * len(planes) - 2)
    order = np.minimum(order, 2 * len(planes) - 2 - order)
    return np.ascontiguousarray(planes[order, y : y + SIZE[0], x : x + SIZE[1]])


def screen(rng: np.random.Generator) -> Codes:
    """A flat or graded ground with rectangles, as a display or a drawing has them."""
    image = Image.new("L", SIZE[::-1], int(rng.integers(16, 236)))
    if rng.random() < 0.4:
        ramp = np.linspace(rng.integers(16, 236), rng.integers(16, 236), SIZE[1])
        image = Image.fromarray(np.repeat(ramp[None], SIZE[0], 0).astype(np.uint8))
    draw = ImageDraw.Draw(image)
    for _ in range(int(rng.integers(2, 14))):
        x, y = int(rng.integers(SIZE[1])), int(rng.integers(SIZE[0]))
        corner = (x + int(rng.integers(6, 200)), y + int(rng.integers(4, 120)))
        draw.rectangle((x, y, *corner), fill=int(rng.integers(0, 256)), outline=int(rng.integers(0, 256)))
    return np.asarray(image)


class Drawing:
    """Lines of text, boxes and lines, the same over every frame but for a clock's seconds."""

    def __init__(self, rng: np.random.Generator) -> None:
        self._seed = int(rng.integers(1 << 31))
        self._turn = int(rng.integers(FRAMES))  # the frame from which on clocks show the next second

    def over(self, planes: Codes) -> Codes:
        return np.stack([self._one(plane, number >= self._turn) for number, plane in enumerate(planes)])

    def _one(self, plane: Codes, later: bool) -> Codes:
        rng = np.random.default_rng(self._seed)
        image = Image.fromarray(plane.copy())
        for _ in range(int(rng.integers(0, 4))):
            _line(image, rng)
        for _ in range(int(rng.integers(5, 14))):
            _text(image, rng, later)
        return np.asarray(image)


def _line(image: Image.Image, rng: np.random.Generator) -> None:
    draw = ImageDraw.Draw(image)
    x, y = int(rng.integers(SIZE[1])), int(rng.integers(SIZE[0]))
    ends = (x, y, x + int(rng.integers(4, 160)), y + int(rng.integers(4, 160)))
    ink, width = int(rng.choice((16, 235, 255, 0, 128))), int(rng.integers(1, 4))
    if rng.random() < 0.6:
        draw.rectangle(ends, outline=ink, width=width)
    else:
        draw.line(ends, fill=ink, width=width)


def _words(rng: np.random.Generator, later: bool) -> str:
    year, month, day, hour, minute, second = (int(number) for number in rng.integers(0, 60, 6))
    names = [str(rng.choice(WORDS)) for _ in range(int(rng.integers(1, 4)))]
    if rng.random() < 0.6:
        date = f"20{year:02}-{month % 12 + 1:02}-{day % 28 + 1:02}"
        return f"{date} {hour % 24:02}:{minute:02}:{(second + later) % 60:02}"
    return " ".join(names)


def _font(rng: np.random.Generator, size: int) -> ImageFont.FreeTypeFont:
    choice = int(rng.integers(-4, len(FONTS)))
    if choice < 0:
        font = ImageFont.load_default(size=size)
        assert isinstance(font, ImageFont.FreeTypeFont)
        return font
    return ImageFont.truetype(FONTS[choice], size)


def _text(image: Image.Image, rng: np.random.Generator, later: bool) -> None:
    low, high = FONT_SIZES
    size = round(low * (high / low) ** rng.random())
    text = _words(rng, later)
    place = (int(rng.integers(-20, SIZE[1] - 40)), int(rng.integers(-4, SIZE[0] - 10)))
    bright = bool(rng.random() < 0.75)
    ink = int(rng.integers(190, 256)) if bright else int(rng.integers(0, 50))
    edge = int(rng.integers(0, 45)) if bright else int(rng.integers(200, 256))
    style = str(rng.choice(("outline", "outline", "plain", "box", "pixels", "faint")))
    if style == "pixels":
        # A font of whole pixels, made larger, as recorders' own chips draw it.
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


if __name__ == "__main__":
    main()
