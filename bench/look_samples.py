"""Samples for `bench/fit_look.py`: parts of pictures that were encoded once, twice, scaled in between, or not at all.

    python bench/look_samples.py data ../shared/data/photos samples-1.npz --seed 1 [--split train] [--part 0 --parts 2]

`data` is a dataset (`carfix dataset`) whose pristine clips are taken, never those that carfix is measured on. Of each
clip, photograph and drawing several parts are kept as they come out of random encoders (FFmpeg's, of the package
`imageio-ffmpeg`), with what the stream tells of its level and with what shares of each fast network's correction do
to them. A quarter of an hour on two cores, in two processes.
"""

import argparse
import dataclasses
import random
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont
from through_ffmpeg import QUIET, Frames, encode, scaled

from carfix.net.catalog import load_model
from carfix.quality.reader import read_frames
from carfix.quality.strength_fit import sample_of
from carfix.restore.engine import Engine, open_engine
from carfix.restore.strength import Level
from carfix.training.sources import read_video
from carfix.video.manifest import read_manifest

NETWORKS = ("tiny", "fast", "medium")
#: Frames of a clip, encodings of a clip and of a still, parts of each encoding of a clip.
FRAMES, OF_A_CLIP, OF_A_STILL, PARTS = 40, 44, 8, 3
#: Stills among the photographs, and drawings, which the networks know nothing of.
PHOTOGRAPHS, DRAWINGS = 170, 40
#: Side of a part; smaller frames give less, none of less than half.
SIDE = 256
#: What becomes of the size between two encoders, of a quarter of the videos.
FACTORS = (0.5, 0.6, 0.667, 0.75, 0.8, 0.9, 1.125, 1.25, 1.333, 1.5, 2.0)


@dataclasses.dataclass(frozen=True)
class How:
    """An encoder of FFmpeg's: its options, and the suffix of its container."""

    options: tuple[str, ...]
    suffix: str


class Maker:
    """Random encodings of frames."""

    def __init__(self, seed: int, engines: list[Engine]) -> None:
        self.random = random.Random(seed)
        self.engines = engines
        self.folder = Path(tempfile.mkdtemp())

    def samples(self, frames: Frames, encodings: int, parts: int) -> Iterator[dict[str, Any]]:
        """Parts of so many encodings of `frames`."""
        for _ in range(encodings):
            source = self._with_text(frames) if self.random.random() < 0.12 else frames
            try:
                yield from self._encoded(source, parts)
            except subprocess.CalledProcessError as error:
                print(f"left out: {' '.join(error.cmd[-12:])}", flush=True)

    def _encoded(self, pristine: Frames, parts: int) -> Iterator[dict[str, Any]]:
        draw = self.random
        first = self._first()
        shown, told, levels = pristine, [None] * len(pristine), None
        is_scaled = first is not None and draw.random() < 0.25
        if first is not None:
            shown, told = self._through(pristine, first)
            levels = told
        if is_scaled:
            factor = draw.choice(FACTORS)
            width, height = (int(side * factor) // 2 * 2 for side in pristine.shape[:0:-1])
            if min(width, height) < SIDE // 2:
                return
            shown, pristine = (scaled(frames, width, height) for frames in (shown, pristine))
            levels = None
        second = self._second()
        if second is not None:
            shown, told = self._through(shown, second)
        elif is_scaled or draw.random() < 0.4:  # as it comes out of a pipe
            told = [None] * len(shown)
        if len(shown) != len(pristine):
            return
        for number in sorted(draw.sample(range(len(shown)), min(len(shown), parts))):
            top, left = (draw.randint(0, max(0, side - SIDE)) for side in shown.shape[1:])
            part = np.s_[number, top : top + SIDE, left : left + SIDE]
            if min(shown[part].shape) < SIDE // 2:
                continue
            # The coarser of two encoders at one size is the level that is to be seen.
            known = [value for value in (levels and levels[number], told[number]) if value is not None]
            unscaled = not is_scaled and (first is None or levels is not None)
            yield self._sample(
                shown[part], pristine[part], told[number], max(known) if known and unscaled else None
            )

    def _sample(
        self, decoded: Frames, pristine: Frames, told: float | None, level: float | None
    ) -> dict[str, Any]:
        found = [sample_of(engine, 0.0, decoded.copy(), pristine) for engine in self.engines]
        return {
            "decoded": decoded.copy(),
            "told": np.nan if told is None else told,
            "level": np.nan if level is None else level,
            "error": found[0].error,
            "gain": [sample.gain for sample in found],
            "power": [sample.power for sample in found],
        }

    def _first(self) -> How | None:
        draw, chance = self.random, self.random.random()
        if chance < 0.18:
            return None
        if chance < 0.66:
            preset = draw.choice(["ultrafast", "veryfast", "faster", "medium", "medium", "slow"])
            options = [
                *_options("libx264", crf=draw.randint(12, 48), g=draw.choice([25, 50, 250])),
                "-preset",
                preset,
            ]
            options += ["-profile:v", "baseline"] if draw.random() < 0.2 else []
            options += ["-tune", "zerolatency"] if draw.random() < 0.2 else []
            return How(tuple(options), "mp4")
        if chance < 0.69:
            live = ("-deadline", "realtime", "-cpu-used", "6", "-b:v", "0")
            return How((*_options("libvpx-vp9", crf=draw.randint(20, 60)), *live), "webm")
        if chance < 0.72:
            return How(_options("libsvtav1", crf=draw.randint(20, 60), preset=11), "mkv")
        if chance < 0.80:
            return How((*_options("libx265", crf=draw.randint(18, 44), preset="fast"), *QUIET), "mp4")
        if chance < 0.88:
            return How(_options("mpeg4", q=draw.randint(2, 26), g=draw.choice([12, 100])), "avi")
        if chance < 0.94:
            return How(_options("mpeg2video", q=draw.randint(2, 26), bf=2), "mpg")
        return How(_options("mjpeg", q=draw.randint(2, 24)), "avi")

    def _second(self) -> How | None:
        draw, chance = self.random, self.random.random()
        if chance < 0.35:
            return None
        if chance < 0.85:
            preset = draw.choice(["ultrafast", "veryfast", "medium"])
            return How(
                _options("libx264", crf=draw.randint(8, 26), preset=preset, g=draw.choice([25, 250])), "mp4"
            )
        if chance < 0.95:
            return How((*_options("libx265", crf=draw.randint(12, 26), preset="veryfast"), *QUIET), "mp4")
        return How(_options("mjpeg", q=draw.randint(1, 4)), "avi")

    def _through(self, frames: Frames, how: How) -> tuple[Frames, list[float | None]]:
        """Frames encoded and decoded, and the level that a restore would read off each."""
        path = self.folder / f"encoded.{how.suffix}"
        encode(frames, path, how.options, "yuvj420p" if "mjpeg" in how.options else "yuv420p")
        level, shown, levels = Level(), [], []
        for frame in read_frames(path, quantizers=True):
            shown.append(frame.luma.astype(np.uint8))
            levels.append(None if frame.picture is None else level(frame.picture))
        return np.stack(shown), levels

    def _with_text(self, frames: Frames) -> Frames:
        """As a recorder writes its clock."""
        draw, result = self.random, frames.copy()
        font = ImageFont.load_default(draw.choice([12, 16, 20, 28]))
        place = draw.randint(2, 60), draw.choice([4, frames.shape[1] - 30])
        outlined = draw.choice([0, 1])
        for number, frame in enumerate(result):
            image = Image.fromarray(frame)
            text = f"2026-11-{draw.randint(10, 28)} 08:{number:02d}:31 CAM"
            ImageDraw.Draw(image).text(
                place, text, fill=235, font=font, stroke_width=outlined, stroke_fill=16
            )
            frame[:] = np.asarray(image)
        return result

    def drawing(self, photographs: list[Path]) -> Frames:
        """Text and shapes on a flat or graded ground or a photograph."""
        draw = self.random
        width, height = draw.choice([(640, 360), (512, 384), (720, 480)])
        chance = draw.random()
        if chance < 0.4:
            image = Image.new("L", (width, height), draw.choice([16, 40, 128, 200, 235]))
        elif chance < 0.7:
            ramp = np.linspace(draw.randint(16, 120), draw.randint(120, 235), width).astype(np.uint8)
            image = Image.fromarray(np.tile(ramp, (height, 1)))
        else:
            image = Image.open(draw.choice(photographs)).convert("L").resize((width, height))
        canvas = ImageDraw.Draw(image)
        for _ in range(draw.randint(4, 40)):
            x, y = draw.randint(0, width), draw.randint(0, height)
            code, kind = draw.choice([16, 235, draw.randint(16, 235)]), draw.random()
            if kind < 0.6:
                text = "".join(draw.choices("abcdefghijklmnopqrstuvwxyz 0123456789:-", k=draw.randint(3, 30)))
                font = ImageFont.load_default(draw.choice([10, 12, 14, 18, 24, 40]))
                canvas.text((x - 60, y), text, fill=code, font=font)
            elif kind < 0.75:
                far = x + draw.randint(5, 150), y + draw.randint(5, 100)
                canvas.rectangle((x, y, *far), outline=code, fill=draw.choice([None, code]))
            elif kind < 0.9:
                end = draw.randint(0, width), draw.randint(0, height)
                canvas.line((x, y, *end), fill=code, width=draw.randint(1, 4))
            else:
                canvas.ellipse((x, y, x + draw.randint(5, 90), y + draw.randint(5, 90)), outline=code)
        return np.asarray(image)[None]


def _options(codec: str, **values: object) -> tuple[str, ...]:
    names = {"q": "-q:v"}
    pairs = [(names.get(name, f"-{name}"), str(value)) for name, value in values.items()]
    return ("-c:v", codec, *(text for pair in pairs for text in pair))


def photograph(path: Path, factor: float) -> Frames:
    """Its luma, scaled so that its own compression does not count."""
    image = Image.open(path).convert("L")
    size = [int(side * factor) // 2 * 2 for side in image.size]
    return np.asarray(image.resize((size[0], size[1]), Image.Resampling.LANCZOS))[None]


def main() -> None:
    """See above."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("dataset", type=Path)
    parser.add_argument("photographs", type=Path)
    parser.add_argument("output", type=Path)
    parser.add_argument("--split", default="train")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--part", type=int, default=0)
    parser.add_argument("--parts", type=int, default=1)
    options = parser.parse_args()
    maker = Maker(
        options.seed * 1000 + options.part, [open_engine(load_model(name), device="cpu") for name in NETWORKS]
    )
    clips = [clip for clip in read_manifest(options.dataset).select(options.split) if not clip.still]
    # Kodak's are held out of every training.
    photographs = sorted(path for path in options.photographs.rglob("*.jp*g") if "kodak" not in path.parts)
    random.Random(options.seed).shuffle(photographs)
    stills = photographs[:PHOTOGRAPHS] if options.split == "train" else []
    drawings = range(DRAWINGS if options.split == "train" else 0)
    work = [*clips, *stills, *drawings][options.part :: options.parts]
    found: list[dict[str, Any]] = []
    for number, item in enumerate(work, 1):
        if isinstance(item, Path):
            frames = photograph(item, maker.random.choice([0.5, 0.6, 0.7, 0.8]))
            found += maker.samples(frames, OF_A_STILL, 1) if min(frames.shape[1:]) >= SIDE // 2 else []
        elif isinstance(item, int):
            found += maker.samples(maker.drawing(photographs), OF_A_STILL, 1)
        else:
            frames, _ = read_video(options.dataset / item.pristine, size=None, start=0, frames=FRAMES)
            found += maker.samples(np.asarray(frames), OF_A_CLIP, PARTS)
        print(f"{number}/{len(work)}: {len(found)} parts", flush=True)
    decoded = np.stack([_filled(sample.pop("decoded")) for sample in found])
    numbers = {name: np.array([sample[name] for sample in found], np.float32) for name in found[0]}
    np.savez_compressed(options.output, decoded=decoded, **numbers)


def _filled(part: Frames) -> Frames:
    """`[SIDE, SIDE]`, mirrored where a frame was smaller."""
    return np.pad(part, [(0, SIDE - side) for side in part.shape], mode="reflect")


if __name__ == "__main__":
    main()
