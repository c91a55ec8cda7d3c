"""Clips from photographs: what a slowly drifting camera with a noisy sensor would make of them."""

import hashlib
from pathlib import Path

import numpy as np
import torch
from torch.nn import functional

from carfix.errors import CarfixError
from carfix.training.encoding import Luma
from carfix.training.sources import Size, fitted, full_range_luma, prepared, resized, rounded_codes

#: What a clip from a photograph looks like. The camera drifts by up to this many pixels a frame ...
STILL_DRIFT = 0.7
#: ... and its sensor adds Gaussian noise of a standard deviation (8-bit codes) between these: never noise-free.
STILL_NOISE = (0.3, 1.5)
#: Pixels kept free around the moving crop.
STILL_BORDER = 16


def scaled_photo(path: Path, size: Size | None) -> Luma:
    """Luma of a picture in the full range that JPEG files have, `[H, W]`, both even, scaled for `animate`."""
    luma = rounded_codes(full_range_luma(path))
    return prepared(luma, None if size is None else still_size(size, luma))


def animate(photo: Luma, *, size: Size | None, frames: int, seed: str) -> Luma:
    """A short clip `[N, H, W]` from a photograph: a slowly drifting camera with a noisy sensor.

    The same `seed` gives the same clip.
    """
    rng = np.random.default_rng(int.from_bytes(hashlib.sha256(seed.encode()).digest()[:8], "big"))
    border = 2 * STILL_BORDER
    if size is not None:
        photo = resized(photo, still_size(size, photo))
    height, width = photo.shape
    out_height, out_width = (height - border) // 2 * 2, (width - border) // 2 * 2
    if min(out_height, out_width) < 64:
        raise CarfixError(f"a photograph of {width}x{height} is too small to be animated")
    still = rng.random() < 0.3  # fixed cameras move not at all
    velocity = np.zeros(2) if still else rng.normal(0, STILL_DRIFT / 2, 2)
    noise = rng.uniform(*STILL_NOISE)
    source = torch.from_numpy(photo.astype(np.float32))[None, None]
    position = np.zeros(2)
    clip = np.empty((frames, out_height, out_width), np.uint8)
    for index in range(frames):
        moved = _shifted(source, position, out_height, out_width).numpy()
        noisy = moved + rng.normal(0, noise, moved.shape)
        clip[index] = np.clip(np.rint(noisy), 0, 255).astype(np.uint8)
        velocity = np.clip(
            0.9 * velocity + (0 if still else rng.normal(0, 0.1, 2)), -STILL_DRIFT, STILL_DRIFT
        )
        position = np.clip(position + velocity, -STILL_BORDER + 2, STILL_BORDER - 2)
    return clip


def still_size(size: Size, photo: Luma) -> Size:
    """Width and height that a photograph is scaled to: `size` and the border in which the camera moves."""
    width, height = fitted(size, photo.shape[1], photo.shape[0])
    return width + 2 * STILL_BORDER, height + 2 * STILL_BORDER


def _shifted(source: torch.Tensor, offset: np.ndarray, height: int, width: int) -> torch.Tensor:
    """The crop of `[1, 1, H, W]` at `STILL_BORDER` + `offset` (y, x; fractions of pixels), bicubic."""
    ys = (torch.arange(height) + STILL_BORDER + float(offset[0])) * 2 / (source.shape[2] - 1) - 1
    xs = (torch.arange(width) + STILL_BORDER + float(offset[1])) * 2 / (source.shape[3] - 1) - 1
    grid = torch.stack([xs.expand(height, width), ys[:, None].expand(height, width)], dim=-1)[None].float()
    return functional.grid_sample(source, grid, mode="bicubic", padding_mode="border", align_corners=True)[
        0, 0
    ]
