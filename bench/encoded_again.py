"""What `--strength auto` makes of video that its quantizers do not tell the truth of: encoded again, scaled, piped.

    python bench/encoded_again.py val -m fast [-m medium] [--frames 24]

`val` is a dataset of held-out clips with the paper's variants (`carfix dataset`). Each case is made of them by FFmpeg
(of the package `imageio-ffmpeg`), and restored with `auto`, by what streams tell alone, and with all of the
corrections; printed are dB over the decoded frames, means over the clips, and the clip that gained least.
"""

import argparse
import itertools
import tempfile
from collections.abc import Iterator
from pathlib import Path
from unittest import mock

import numpy as np
from through_ffmpeg import QUIET, Frames, encode, scaled

from carfix.net.catalog import load_model
from carfix.quality.methods import Restored
from carfix.quality.reader import read_frames, wanted_range
from carfix.restore import strength
from carfix.video.manifest import read_manifest

#: Frames that are encoded; fewer are restored.
LENGTH = 60
#: Variants that are encoded again, and at which CRFs.
AGAIN, CRFS = ("crf29-1000k", "crf35-1000k", "crf41-1000k"), (17, 23)
#: A width that the variants are scaled to.
NARROW = 384
LIVE = ("-deadline", "realtime", "-cpu-used", "6")

#: A name, the compressed file and the frames that it was made of.
Case = tuple[str, Path, Frames]


def luma(path: Path, count: int = LENGTH) -> Frames:
    """The first frames of a file."""
    return np.stack([frame.luma for frame in itertools.islice(read_frames(path), count)])


class Cases:
    """What is made of one clip, in a folder."""

    def __init__(self, pristine: Path, variants: dict[str, Path], folder: Path) -> None:
        self._pristine, self._variants, self._folder = luma(pristine), variants, folder

    def all(self) -> Iterator[Case]:
        """Every case."""
        pristine = self._pristine
        for name in (*AGAIN, "crf47-1000k"):
            yield f"{name}, as it is", self._variants[name], pristine
        for crf in (15, 19, 24):
            yield f"x264 CRF {crf}", self._encoded(pristine, "libx264", "-crf", crf), pristine
        for name, crf in itertools.product(AGAIN, CRFS):
            shown = luma(self._variants[name])
            again = self._encoded(shown, "libx264", "-crf", crf)
            yield f"{name}, then x264 CRF {crf}", again, pristine
        again = self._encoded(luma(self._variants["crf35-1000k"]), "libx265", "-crf", 18, *QUIET)
        yield "crf35-1000k, then x265 CRF 18", again, pristine
        small = self._scaled(pristine)
        shown = self._scaled(luma(self._variants["crf35-1000k"]))
        yield (
            f"crf35-1000k, {NARROW} wide, then x264 CRF 17",
            self._encoded(shown, "libx264", "-crf", 17),
            small,
        )
        for name in ("crf35-1000k", "crf47-1000k"):
            yield f"{name}, decoded", self._encoded(luma(self._variants[name]), "ffv1"), pristine
        shown = luma(self._encoded(pristine, "libx264", "-crf", 19))
        yield "x264 CRF 19, decoded", self._encoded(shown, "ffv1"), pristine
        for rate in (300, 1000):
            made = self._encoded(pristine, "libvpx", "-b:v", f"{rate}k", *LIVE, suffix="webm")
            yield f"VP8 at {rate} kb/s", made, pristine
        for crf in (20, 32):
            yield f"x265 CRF {crf}", self._encoded(pristine, "libx265", "-crf", crf, *QUIET), pristine
        for crf in (30, 50):
            made = self._encoded(pristine, "libvpx-vp9", "-crf", crf, "-b:v", 0, *LIVE, suffix="webm")
            yield f"VP9 CRF {crf}", made, pristine

    def _encoded(self, frames: Frames, codec: str, *options: object, suffix: str = "mkv") -> Path:
        path = self._folder / f"{len(list(self._folder.iterdir()))}.{suffix}"
        encode(frames, path, ["-c:v", codec, *map(str, options)])
        return path

    def _scaled(self, frames: Frames) -> Frames:
        height, width = frames.shape[1:]
        return scaled(frames, NARROW, round(NARROW * height / width / 2) * 2)


def psnr(shown: Frames, pristine: Frames) -> float:
    """In dB; identical frames count as 100."""
    error = float(((shown.astype(np.float64) - pristine) ** 2).mean())
    return min(100.0, 10 * np.log10(255**2 / max(error, 1e-9)))


class Blind:
    """In place of `Look`: pictures are not looked at."""

    def __call__(self, *_: object) -> None:
        """No estimate."""


def main() -> None:
    """See above."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("dataset", type=Path)
    parser.add_argument("-m", "--model", action="append", required=True)
    parser.add_argument("--frames", type=int, default=24)
    options = parser.parse_args()
    found: dict[tuple[str, str], list[list[float]]] = {}
    ways: list[tuple[str, float | None, object]] = [
        ("told", None, Blind),
        ("auto", None, strength.Look),
        ("all", 1.0, strength.Look),
    ]
    for clip in read_manifest(options.dataset).clips.values():
        variants = {name: options.dataset / variant.file for name, variant in clip.variants.items()}
        with tempfile.TemporaryDirectory() as folder:
            cases = Cases(options.dataset / clip.pristine, variants, Path(folder))
            for name, path, pristine in cases.all():
                decoded = luma(path, options.frames)
                before = [psnr(*pair) for pair in zip(decoded, pristine, strict=False)]
                for model in options.model:
                    row = []
                    for _, share, look in ways:
                        restored = Restored(load_model(model), device="cpu", strength=share)
                        with mock.patch.object(strength, "Look", look):
                            frames = [
                                frame.luma for frame in restored.frames(path, wanted_range(0, options.frames))
                            ]
                        restored.close()
                        after = [psnr(*pair) for pair in zip(frames, pristine, strict=False)]
                        row.append(float(np.mean(after) - np.mean(before)))
                    found.setdefault((model, name), []).append(row)
        print(f"{clip.name} done", flush=True)
    for (model, name), rows in found.items():
        values = np.array(rows)
        shown = ", ".join(
            f"{way} {values[:, n].mean():+.3f} ({values[:, n].min():+.3f})"
            for n, (way, _, _) in enumerate(ways)
        )
        print(f"{model}, {name}: {shown}")


if __name__ == "__main__":
    main()
