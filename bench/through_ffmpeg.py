"""Luma through FFmpeg's encoders and scaler, by the program that the package `imageio-ffmpeg` brings."""

import subprocess
from collections.abc import Sequence
from pathlib import Path

import imageio_ffmpeg
import numpy as np
from numpy.typing import NDArray

Frames = NDArray[np.uint8]  # [N, H, W]

#: x265 writes its settings to stderr otherwise.
QUIET = ("-x265-params", "log-level=error")


def encode(frames: Frames, path: Path, options: Sequence[str], layout: str = "yuv420p") -> None:
    """Encode frames, whose chroma is gray, at 25 a second. Raises `subprocess.CalledProcessError`."""
    count, height, width = frames.shape
    chroma = np.full((count, height * width // 2), 128, np.uint8)
    data = np.concatenate([frames.reshape(count, -1), chroma], axis=1).tobytes()
    _ffmpeg([*_raw(frames, layout), "-r", "25", "-i", "-", *options, str(path)], data)


def scaled(frames: Frames, width: int, height: int) -> Frames:
    """Frames of another size, bicubic."""
    scaler = f"scale={width}:{height}:flags=bicubic"
    output = ["-i", "-", "-vf", scaler, "-pix_fmt", "gray", "-f", "rawvideo", "-"]
    made = _ffmpeg([*_raw(frames, "gray"), *output], frames.tobytes())
    return np.frombuffer(made, np.uint8).reshape(-1, height, width)


def _raw(frames: Frames, layout: str) -> list[str]:
    height, width = frames.shape[1:]
    return ["-f", "rawvideo", "-pix_fmt", layout, "-s", f"{width}x{height}"]


def _ffmpeg(arguments: list[str], data: bytes) -> bytes:
    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-y", "-v", "error", *arguments]
    return subprocess.run(command, input=data, capture_output=True, check=True).stdout
