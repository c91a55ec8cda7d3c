"""Gains on streams from encoders that no network was trained on, on other codecs, and on a nearly clean input.

    python bench/generalise.py [../shared/data/val] [--photos ../shared/data/photos/kodak] [--models fast,medium]
        [--frames 24] [--json]

Each held-out clip is scaled to 512 pixels of width, encoded at two qualities by each encoder, decoded, restored and
measured on luma. What counts is the last column: a gain must be positive, and a clean input (x264 at CRF 15) not worse
by more than 0.05 dB. Clips were compressed once before they were scaled; photographs, which become clips of a drifting
camera with a noisy sensor, were not: they are what shows whether truly clean input suffers.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator
from fractions import Fraction
from pathlib import Path

import imageio_ffmpeg
import numpy as np

from carfix.net.ssim import psnr_from_mse
from carfix.quality.methods import open_restored
from carfix.training.encoding import Encoding, Luma, encode
from carfix.training.sources import STILL_FPS, read_photo, read_video
from carfix.training.stills import animate
from carfix.video.suffixes import VIDEO_SUFFIXES

WIDTH = 512
#: Name in the table, two encodings each from good to bad; those above the line were in the training draws.
ENCODERS: dict[str, tuple[Encoding, ...]] = {
    "x264, nearly clean": (Encoding(crf=15), Encoding(crf=18)),
    "HEVC (x265)": (Encoding(codec="libx265", crf=30), Encoding(codec="libx265", crf=38)),
    "MPEG-4 Part 2": tuple(Encoding(codec="mpeg4", qscale=q, preset=None, gop=50) for q in (6, 14)),
    "Motion JPEG": tuple(Encoding(codec="mjpeg", qscale=q, preset=None) for q in (8, 18)),
    # Never seen in training:
    "MPEG-2": tuple(Encoding(codec="mpeg2video", qscale=q, preset=None, gop=15) for q in (6, 14)),
    "VP9": tuple(Encoding(codec="libvpx-vp9", crf=q, preset=None, gop=50) for q in (38, 52)),
    "AV1 (SVT)": tuple(Encoding(codec="libsvtav1", crf=q, preset="8", gop=50) for q in (45, 58)),
}
#: x264's CRFs for the photographs.
PHOTO_CRFS = (12, 15, 18, 29, 41)
#: OpenH264 has no constant quality: bits a pixel.
OPENH264 = (0.08, 0.03)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("clips", type=Path, nargs="?")
    parser.add_argument("--photos", type=Path)
    parser.add_argument("--models", default="fast")
    parser.add_argument("--frames", type=int, default=24)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    paths = (
        sorted(path for path in options.clips.iterdir() if path.suffix in VIDEO_SUFFIXES)
        if options.clips
        else []
    )
    if not paths and not options.photos:
        sys.exit("give a folder of clips, or --photos")
    restorers = {name: open_restored(name) for name in options.models.split(",")}
    gains: dict[str, dict[str, dict[str, float]]] = {}

    def measure(clip: str, pristine: Luma, found: Iterable[tuple[str, Path]]) -> None:
        print(clip, file=sys.stderr)
        for name, path in found:
            before = quality(decode(path, len(pristine)), pristine)
            row = gains.setdefault(name, {}).setdefault(clip, {"decoded": before})
            for model, restore in restorers.items():
                restored = np.stack([frame.luma for frame in restore.frames(path)])
                row[model] = quality(restored, pristine) - before

    for path in paths:
        pristine, fps = read_video(path, size=(WIDTH, -2), start=0, frames=options.frames)
        measure(path.stem, pristine, streams(pristine, fps))
    for path in sorted(options.photos.iterdir()) if options.photos else ():
        pristine = animate(read_photo(path), size=(WIDTH, -2), frames=options.frames, seed=path.name)
        measure(path.name, pristine, photo_streams(pristine))
    if options.json:
        print(json.dumps(gains, indent=1))
        return
    print("| stream | decoded | " + " | ".join(f"{model}, mean (smallest)" for model in restorers) + " |")
    print("| --- | ---: |" + " ---: |" * len(restorers))
    for name, clips in gains.items():
        cells = [f"{np.mean([row['decoded'] for row in clips.values()]):.1f} dB"]
        for model in restorers:
            values = [row[model] for row in clips.values()]
            cells.append(f"{np.mean(values):+.2f} ({min(values):+.2f})")
        print(f"| {name} | " + " | ".join(cells) + " |")


def streams(pristine: Luma, fps: Fraction) -> Iterator[tuple[str, Path]]:
    """Every encoder's file of a clip; it is gone when the next one is asked for."""
    with tempfile.TemporaryDirectory(prefix="carfix-") as folder:
        for encoder, encodings in ENCODERS.items():
            for encoding in encodings:
                path = Path(folder) / "stream.mp4"
                encode(path, pristine, fps, encoding)
                level = f"CRF {encoding.crf}" if encoding.crf is not None else f"q {encoding.qscale}"
                yield f"{encoder}, {level}", path
        for bits in OPENH264:
            path = openh264(Path(folder), pristine, fps, bits)
            yield f"OpenH264, {bits} bits a pixel", path


def photo_streams(pristine: Luma) -> Iterator[tuple[str, Path]]:
    """x264's files of a clip made of a photograph, one after another."""
    with tempfile.TemporaryDirectory(prefix="carfix-") as folder:
        for crf in PHOTO_CRFS:
            path = Path(folder) / "stream.mp4"
            encode(path, pristine, STILL_FPS, Encoding(crf=crf))
            yield f"photographs, x264, CRF {crf}", path


def decode(path: Path, frames: int) -> Luma:
    decoded, _ = read_video(path, size=None, start=0, frames=frames)
    assert len(decoded) == frames, f"{path.name} lost frames"
    return decoded


def openh264(folder: Path, pristine: Luma, fps: Fraction, bits: float) -> Path:
    """Encode with OpenH264, which PyAV lacks and imageio-ffmpeg's executable has."""
    path = folder / "openh264.mp4"
    _, height, width = pristine.shape
    chroma = np.full((height // 2, width), 128, np.uint8)
    raw = b"".join(np.concatenate([plane, chroma]).tobytes() for plane in pristine)
    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-v", "error", "-y", "-f", "rawvideo", "-pix_fmt", "yuv420p"]
    command += [
        "-s",
        f"{width}x{height}",
        "-r",
        str(fps),
        "-i",
        "-",
        "-c:v",
        "libopenh264",
        "-allow_skip_frames",
        "0",
    ]
    command += ["-b:v", str(round(bits * width * height * fps)), "-g", "50", str(path)]
    subprocess.run(command, input=raw, check=True)
    return path


def quality(shown: Luma, pristine: Luma) -> float:
    """Mean luma PSNR over the frames, dB."""
    import torch

    error = torch.from_numpy(shown).double() - torch.from_numpy(pristine).double()
    return float(psnr_from_mse(error.square().mean(dim=(1, 2)), 255.0).mean())


if __name__ == "__main__":
    main()
