"""Moving pictures made by arithmetic: enough structure for an encoder to damage, and the same every time."""

from fractions import Fraction
from pathlib import Path

import av
import numpy as np

from carfix.training.encoding import Luma, encode_lossless


def scene(frames: int = 6, height: int = 64, width: int = 96, seed: int = 0) -> Luma:
    """A drifting texture with edges, `[N, H, W]`."""
    rng = np.random.default_rng(seed)
    base = rng.normal(0, 1, (height + frames, width + 2 * frames))
    for _ in range(2):
        base = (base + np.roll(base, 1, 0) + np.roll(base, 1, 1) + np.roll(base, (1, 1), (0, 1))) / 4
    base = 128 + 90 * base / np.abs(base).max()
    base[:, ::24] = 220
    clip = np.stack([base[i : i + height, 2 * i : 2 * i + width] for i in range(frames)])
    codes: Luma = np.clip(np.rint(clip), 0, 255).astype(np.uint8)
    return codes


def write_scene(path: Path, frames: int = 6, seed: int = 0, *, height: int = 64, width: int = 96) -> Path:
    """Such a clip as a lossless video file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    encode_lossless(path, scene(frames, height, width, seed), Fraction(25))
    return path


def save_png(path: Path, codes: np.ndarray) -> Path:
    frame = av.VideoFrame.from_ndarray(np.repeat(codes[..., None], 3, axis=2), format="rgb24")
    path.parent.mkdir(parents=True, exist_ok=True)
    frame.save(str(path))
    return path
