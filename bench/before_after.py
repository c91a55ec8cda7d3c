"""Draws docs/before_after.png: a compressed frame of the sample clip, restored, and the pristine one.

python bench/before_after.py [--model fast]
"""

import argparse
from pathlib import Path

import av
from PIL import Image, ImageDraw, ImageFont

from carfix.quality.methods import Restored, open_restored

ROOT = Path(__file__).resolve().parent.parent
DATA = ROOT / "tests" / "data"
FRAME = 40
#: Left, top, right, bottom of the part that is shown, and how much it is enlarged (nearest: pixels stay pixels).
CROP = (150, 0, 390, 130)
ZOOM = 2


def frame_of(path: Path) -> av.VideoFrame:
    with av.open(path) as container:
        for number, frame in enumerate(container.decode(video=0)):
            if number == FRAME:
                return frame
    raise SystemExit(f"{path} has fewer than {FRAME + 1} frames")


def restored_picture(path: Path, restored: Restored) -> Image.Image:
    frame = next(restored.frames(path, [FRAME]))
    assert frame.picture is not None
    planes = frame.picture.to_ndarray()
    planes[: frame.picture.height] = frame.luma
    return av.VideoFrame.from_ndarray(planes, format=frame.picture.format.name).to_image()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="fast")
    options = parser.parse_args()
    pictures = {
        "compressed, 78 kb/s": frame_of(DATA / "highway.mp4").to_image(),
        f"carfix restore -m {options.model}": restored_picture(
            DATA / "highway.mp4", open_restored(options.model)
        ),
        "pristine": frame_of(DATA / "highway_pristine.mp4").to_image(),
    }
    width, height = (CROP[2] - CROP[0]) * ZOOM, (CROP[3] - CROP[1]) * ZOOM
    sheet = Image.new("RGB", (width * len(pictures) + 4 * (len(pictures) - 1), height), "white")
    draw = ImageDraw.Draw(sheet)
    for column, (title, picture) in enumerate(pictures.items()):
        left = column * (width + 4)
        sheet.paste(picture.crop(CROP).resize((width, height), Image.Resampling.NEAREST), (left, 0))
        font = ImageFont.load_default(18)
        draw.rectangle(draw.textbbox((left + 8, height - 28), title, font=font), fill="black")
        draw.text((left + 8, height - 28), title, font=font, fill="white")
    sheet.save(ROOT / "docs" / "before_after.png", optimize=True)


if __name__ == "__main__":
    main()
