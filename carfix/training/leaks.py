"""Frames of a held-out clip that turn up in training: the numbers measured on it would be too good.

Clips are split by name, but one scene can come under two names: cut from the same recording, scaled, or a photograph
in two collections. Frames are compared as thumbnails, so that scaling and compression do not hide a copy.
"""

import dataclasses
from collections.abc import Iterable, Mapping

import torch
from torch import Tensor
from torch.nn import functional

from carfix.training.encoding import Luma

#: Rows and columns of a thumbnail: fine enough to tell pictures apart, coarse enough to outlast compression.
THUMBNAIL = (18, 32)
#: Correlation of two thumbnails from which on they show the same frame. A photograph in two collections, one of them
#: compressed, reached 0.99999; the most alike of 280 unrelated photographs and 19 clips 0.94, smooth skies all.
SAME = 0.985
#: Thumbnails with less contrast (standard deviation in 8-bit codes) are near black or flat: alike without a leak.
LEAST_CONTRAST = 4.0
#: Frames reduced at a time.
_CHUNK = 32


@dataclasses.dataclass(frozen=True)
class Leak:
    """A held-out clip that shares a frame with a training clip."""

    held_out: str
    training: str
    correlation: float


def thumbnails(luma: Luma) -> Tensor:
    """Frames `[N, H, W]` as unit vectors `[M, 576]` that correlate by a product; flat frames are left out."""
    parts = []
    for first in range(0, len(luma), _CHUNK):
        chunk = torch.from_numpy(luma[first : first + _CHUNK].copy()).float()[:, None]
        parts.append(functional.adaptive_avg_pool2d(chunk, THUMBNAIL).flatten(1))
    small = torch.cat(parts)
    small = small - small.mean(dim=1, keepdim=True)
    length = small.norm(dim=1, keepdim=True)
    lively = length[:, 0] >= LEAST_CONTRAST * small.shape[1] ** 0.5
    lively_ones: Tensor = small[lively] / length[lively]
    return lively_ones


def find_leaks(training: Mapping[str, Tensor], held_out: Mapping[str, Tensor]) -> list[Leak]:
    """Pairs of clips that share a frame, by clip name and thumbnails; mirrored copies count, too."""
    leaks = []
    for name, frames in held_out.items():
        mirrored = frames.view(-1, *THUMBNAIL).flip(-1).flatten(1)
        both = torch.cat([frames, mirrored])
        for other, others in training.items():
            if len(both) and len(others) and (most := float((both @ others.T).max())) >= SAME:
                leaks.append(Leak(name, other, most))
    return leaks


def by_clip(frames: Iterable[tuple[str, Luma]]) -> dict[str, Tensor]:
    """Thumbnails of each clip's pristine frames; a clip that comes again (another variant) is passed over."""
    found: dict[str, Tensor] = {}
    for clip, luma in frames:
        if clip not in found:
            found[clip] = thumbnails(luma)
    return found
