"""Measures which H.264 quantizer other codecs' quantizers stand for: `_OFFSETS` in carfix/video/quantizer.py.

    python bench/fit_scales.py data [-m tiny -m fast -m medium]

`data` is a dataset with training clips (never the clips that carfix is measured on). Each is encoded by other
codecs at several qualities. A codec's quantizer becomes the H.264 quantizer that the code has for it plus an offset,
from which the network's curve (carfix/restore/strength.json) gives the share of its correction: the table has
the mean gains in PSNR for every offset, and of the networks alone. The best should be at 0.
"""

import argparse
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from carfix.net.catalog import load_model
from carfix.quality.reader import read_frames
from carfix.quality.strength_fit import ROUNDING
from carfix.restore.engine import open_engine
from carfix.restore.strength import strength_of
from carfix.training.encoding import Encoding, encode
from carfix.training.sources import read_video
from carfix.video.manifest import read_manifest
from carfix.video.quantizer import told_quantizer

ENCODINGS = {
    "MPEG-4 Part 2": [Encoding(codec="mpeg4", qscale=q, preset=None, gop=25) for q in (2, 3, 5, 8, 16, 28)],
    "MPEG-2": [Encoding(codec="mpeg2video", qscale=q, preset=None, gop=15) for q in (2, 4, 8, 16, 28)],
    "HEVC": [Encoding(codec="libx265", crf=q, preset="veryfast", gop=50) for q in (16, 22, 28, 34, 40, 46)],
    "AV1": [Encoding(codec="libsvtav1", crf=q, preset="9", gop=50) for q in (14, 24, 34, 44, 54, 63)],
    "JPEG": [Encoding(codec="mjpeg", qscale=q, preset=None) for q in (2, 3, 5, 8, 16, 28)],
    "VP9": [Encoding(codec="libvpx-vp9", crf=q, preset=None, gop=50) for q in (15, 24, 34, 44, 54, 63)],
}
OFFSETS = range(-8, 13, 2)
FRAMES = 9  # encoded of each clip
LOOKED_AT = (2, 6)
SIDE = 256  # pixels of the part of a frame that is looked at
#: 8-bit codes as 16-bit ones, exactly: an engine then returns parts of a code.
FINE = 65535 // 255


def parts(path: Path, pristine: np.ndarray) -> Iterator[tuple[float, np.ndarray, np.ndarray]]:
    """The H.264 quantizer as the code has it, and parts of the decoded and of the pristine frames, in codes."""
    rng = np.random.default_rng(0)
    for frame in read_frames(path, quantizers=True):
        found = None if frame.picture is None else told_quantizer(frame.picture)
        if frame.index not in LOOKED_AT or found is None:
            continue
        top, left = (int(rng.integers(max(1, (size - SIDE) // 16 + 1))) * 16 for size in frame.luma.shape)
        part = np.s_[top : top + SIDE, left : left + SIDE]
        yield found.h264, frame.luma[part], pristine[frame.index][part]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("dataset", type=Path)
    parser.add_argument("-m", "--model", action="append")
    arguments = parser.parse_args()
    manifest = read_manifest(arguments.dataset)
    clips = [clip for split in ("train", "val") for clip in manifest.select(split) if not clip.still]
    models = [load_model(name) for name in arguments.model or ("tiny", "fast", "medium")]
    engines = [open_engine(model, device="cpu") for model in models]
    curves = [strength_of(model.description.sha256).curve for model in models]
    # By codec: rows of (offset from what the code has now, or None for the network alone), columns of networks.
    gains: dict[str, list[np.ndarray]] = {codec: [] for codec in ENCODINGS}
    with tempfile.TemporaryDirectory(prefix="carfix-") as folder:
        path = Path(folder) / "stream.mp4"
        for number, clip in enumerate(clips, 1):
            pristine, fps = read_video(
                arguments.dataset / clip.pristine, size=None, start=0, frames=min(FRAMES, clip.frames)
            )
            for codec, encodings in ENCODINGS.items():
                for encoding in encodings:
                    encode(path, pristine, fps, encoding)
                    for quantizer, decoded, wanted in parts(path, pristine):
                        missing = wanted.astype(np.float64) - decoded
                        error = float((missing**2).mean())
                        fine = decoded.astype(np.uint16) * FINE
                        table = np.zeros((1 + len(OFFSETS), len(models)))
                        for column, (engine, curve) in enumerate(zip(engines, curves, strict=True)):
                            assert curve is not None, "a network without a curve; see bench/fit_strength.py"
                            correction = (engine.restore(fine[None], 16)[0].astype(np.float64) - fine) / FINE
                            shares = [1.0, *(curve.at(quantizer + offset) for offset in OFFSETS)]
                            for row, share in enumerate(shares):
                                left = float(((missing - share * correction) ** 2).mean())
                                table[row, column] = 10 * np.log10((error + ROUNDING) / (left + ROUNDING))
                        gains[codec].append(table)
            print(f"{number}/{len(clips)} {clip.name}", flush=True)
    print("| codec | offset | " + " | ".join(model.description.name for model in models) + " |")
    print("| --- | ---: |" + " ---: |" * len(models))
    for codec, tables in gains.items():
        mean = np.mean(tables, axis=0)
        for label, row in zip(["alone", *(f"{offset:+d}" for offset in OFFSETS)], mean, strict=True):
            print(f"| {codec} | {label} | " + " | ".join(f"{value:+.3f}" for value in row) + " |")


if __name__ == "__main__":
    main()
