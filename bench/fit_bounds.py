"""Up to which size corrections should be trusted by `--strength auto`: in general, and at steep edges.

    python bench/fit_bounds.py data -m fast [-m medium] [--frames 12] [--stills 10]

`data` is a dataset for training (`bench/corpus.sh`). Its clips, and some of its photographs, are encoded by x264 with
and without text: once (`T>26`), twice with the text in both (`T>35>17`), with text written between the two
(`35>T>17`), and without any (`35>17`). Corrections are computed once and taken by several bounds. Printed are gains in
dB over the decoded frames, of whole frames and of the text with what surrounds it, and the smallest of a clip.
"""

import argparse
import itertools
import tempfile
import zlib
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple
from unittest import mock

import numpy as np
from encoded_again import Frames, luma
from numpy.typing import NDArray
from scipy.ndimage import binary_dilation
from through_ffmpeg import encode

from carfix.net.catalog import load_model
from carfix.quality.methods import Restored
from carfix.quality.reader import wanted_range
from carfix.restore import strength, trust
from carfix.restore.hold import Hold
from carfix.restore.trust import Bounds, bounds_of, trusted
from carfix.training.burn_in import Drawing
from carfix.video.luma import Luma
from carfix.video.manifest import read_manifest

TWICE = ((29, 17), (35, 17), (35, 23), (41, 20))
ONCE = (20, 26, 32, 38)
#: `STEPS` and `STEEP_STEPS`; None: no bounds.
RULES = ((1, 1), (1, 2), (1, 4), (1, 6), (1, 1e9), (1.5, 6), (2, 6), None)
#: Pixels around text that count as its surroundings.
AROUND = 8
#: The smallest mean squared error that gains are measured over.
LEAST = 0.01


class Corrected(NamedTuple):
    """A frame, its whole correction, and the levels that its bounds come from."""

    decoded: Luma
    restored: Luma
    level: float
    told: float | None


class Case(NamedTuple):
    """A video, what it should be, and where its text is; None: it has none."""

    name: str
    path: Path
    wanted: Frames
    text: NDArray[np.bool_] | None


class Levels(NamedTuple):
    """In place of `Bounds`: what they come from."""

    level: float
    told: float | None

    def at(self, _: int) -> "Levels":
        """The same at every bit depth."""
        return self


def cases(pristine: Frames, seed: int, folder: Path) -> Iterator[Case]:
    """Every way to encode a clip."""
    drawing = Drawing(np.random.default_rng(seed), len(pristine))
    written = drawing.over(pristine)
    text = binary_dilation((written != pristine).any(axis=0), iterations=AROUND)

    def encoded(frames: Frames, crf: int) -> Path:
        path = folder / f"{len(list(folder.iterdir()))}.mkv"
        encode(frames, path, ["-c:v", "libx264", "-crf", str(crf)])
        return path

    for crf in ONCE:
        yield Case(f"{crf}", encoded(pristine, crf), pristine, None)
        yield Case(f"T>{crf}", encoded(written, crf), written, text)
    for first, crf in TWICE:
        shown = luma(encoded(pristine, first), len(pristine))
        yield Case(f"{first}>{crf}", encoded(shown, crf), pristine, None)
        yield Case(f"{first}>T>{crf}", encoded(drawing.over(shown), crf), written, text)
        shown = luma(encoded(written, first), len(pristine))
        yield Case(f"T>{first}>{crf}", encoded(shown, crf), written, text)


def corrected(path: Path, model: str, count: int) -> list[Corrected]:
    """The frames of a video as `auto` corrects them without bounds."""
    found, hold = [], Hold()

    def record(
        _: object, moving: object, decoded: Luma, restored: Luma, levels: Levels, **__: object
    ) -> Luma:
        found.append(Corrected(decoded.copy(), hold(moving, restored).copy(), *levels))  # type: ignore[arg-type]
        return restored

    restored = Restored(load_model(model), device="cpu", strength=None)
    with mock.patch.object(trust.Trust, "__call__", record), mock.patch.object(strength, "bounds_of", Levels):
        for _ in restored.frames(path, wanted_range(0, count)):
            pass
    restored.close()
    return found


def taken(frame: Corrected, rule: tuple[float, float] | None) -> Luma:
    """A frame by a rule."""
    if rule is None:
        return frame.restored
    with mock.patch.multiple(trust, STEPS=rule[0], STEEP_STEPS=rule[1]):
        bounds: Bounds = bounds_of(frame.level, frame.told)
    return trusted(frame.decoded, frame.restored, bounds)


def gain(decoded: Luma, restored: Luma, wanted: Luma) -> float:
    """In dB."""
    before, after = (
        float(((plane.astype(np.float32) - wanted) ** 2).mean()) for plane in (decoded, restored)
    )
    return 10 * float(np.log10(max(before, LEAST) / max(after, LEAST)))


def main() -> None:
    """See above."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("dataset", type=Path)
    parser.add_argument("-m", "--model", action="append", required=True)
    parser.add_argument("--frames", type=int, default=12)
    parser.add_argument("--stills", type=int, default=10, help="photographs of the validation split")
    options = parser.parse_args()
    clips = read_manifest(options.dataset).clips.values()
    stills = [clip for clip in clips if clip.still and clip.split == "val"]
    gains: dict[tuple[str, str], list[list[tuple[float, float]]]] = defaultdict(list)
    for clip in itertools.chain((clip for clip in clips if not clip.still), stills[: options.stills]):
        pristine = luma(options.dataset / clip.pristine, options.frames)
        with tempfile.TemporaryDirectory() as folder:
            for case in cases(pristine, zlib.crc32(clip.name.encode()), Path(folder)):
                for model in options.model:
                    frames = corrected(case.path, model, options.frames)
                    gains[model, case.name].append(
                        [_means(frames, [taken(frame, rule) for frame in frames], case) for rule in RULES]
                    )
        print(f"{clip.name} done", flush=True)
    for (model, name), rows in sorted(gains.items()):
        print(f"{model}, {name}")
        for rule, values in zip(RULES, np.array(rows).transpose(1, 2, 0), strict=True):
            whole, text = (f"{part.mean():+.3f} ({part.min():+.2f})" for part in values)
            print(f"  {rule or 'no bounds'!s:12}  frames {whole}" + (f"  text {text}" if "T" in name else ""))


def _means(frames: list[Corrected], shown: list[Luma], case: Case) -> tuple[float, float]:
    """Gain of whole frames and of their text (0 without any)."""
    pairs = list(zip(frames, shown, case.wanted, strict=False))
    whole = np.mean([gain(frame.decoded, plane, wanted) for frame, plane, wanted in pairs])
    if case.text is None or not case.text.any():
        return float(whole), 0.0
    where = case.text
    parts = [gain(frame.decoded[where], plane[where], wanted[where]) for frame, plane, wanted in pairs]
    return float(whole), float(np.mean(parts))


if __name__ == "__main__":
    main()
