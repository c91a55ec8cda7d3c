"""How feature maps and weights lie in a Hopper GPU's memory, so that the copy engine moves them as they are.

A map is `[frames, height + 2, pitch, 64]` in 16 bit, with a row of zeros above and below and a column of zeros on the
left; on the right zeros fill the last strip and one column more. Pixels outside the frame are then read like others.
A pixel's 64 channels are 128 bytes: eight chunks of 16. Tensor cores read eight pixels at a time, and so that these
come from eight banks of shared memory, chunk c of column s lies where chunk c ^ (s % 8) would ("128-byte swizzle").
"""

import math

import torch
from torch import Tensor

#: What the kernels are written for.
CHANNELS = 64
#: Columns that a block of threads computes at a time.
STRIP = 128
#: Channels of a chunk, and the pixels (or outputs, of weights) after which the swizzle repeats.
CHUNK, PATTERN = 8, 8


def pitch(width: int) -> int:
    """Columns of a map for frames of this width, zeros included."""
    return math.ceil(width / STRIP) * STRIP + 2


def map_shape(frames: int, height: int, width: int) -> tuple[int, int, int, int]:
    """The shape of a map."""
    return frames, height + 2, pitch(width), CHANNELS


def swizzled(x: Tensor) -> Tensor:
    """`[..., rows, 64]` with the chunks of each row where the hardware looks for them; its own inverse."""
    rows = torch.arange(x.shape[-2], device=x.device)[:, None] % PATTERN
    chunks = torch.arange(CHANNELS // CHUNK, device=x.device)[None] ^ rows
    split = x.reshape(*x.shape[:-1], CHANNELS // CHUNK, CHUNK)
    places = chunks[..., None].expand(split.shape)
    return torch.gather(split, -2, places).flatten(-2)


def packed_map(x: Tensor) -> Tensor:
    """`[N, 64, H, W]` as a map."""
    frames, _, height, width = x.shape
    spread = torch.zeros(map_shape(frames, height, width), dtype=x.dtype, device=x.device)
    spread[:, 1:-1, 1 : width + 1] = x.permute(0, 2, 3, 1)
    return swizzled(spread)


def unpacked_map(x: Tensor, width: int) -> Tensor:
    """A map as `[N, 64, H, W]`."""
    return swizzled(x)[:, 1:-1, 1 : width + 1].permute(0, 3, 1, 2)


def packed_weights(weight: Tensor) -> Tensor:
    """`[64, 64, 3, 3]` (outputs, inputs, rows, columns) as the kernel wants them: `[9, 64 outputs, 64 inputs]`."""
    return swizzled(weight.permute(2, 3, 0, 1).flatten(0, 1)).contiguous()
