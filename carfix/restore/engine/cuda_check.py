"""Whether a precision, or a variant of the computation, keeps the picture: tried on the spot."""

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray

from carfix.restore.engine.cuda_program import EAGER, Batch, Builder, Program
from carfix.restore.engine.cuda_streams import COMPUTE

#: What is tried if a precision loses too much: the maps of fp16 may overflow, and bf16 has eight bits.
SAFER = {"fp16": ("fp16", "bf16", "fp32"), "bf16": ("bf16", "fp32"), "fp32": ("fp32",)}
#: Codes (of 8 bit) by which a precision or a variant may differ.
MOST_APART = 1
#: Side in pixels of the picture that is tried: a multiple of every cell, larger than what a pixel can see.
_SIDE = 192
#: Side of a block of H.264, on whose grid the artifacts lie.
_BLOCK = 8


def safe_precision(wanted: str, builder_of: Callable[[str], Builder]) -> str:
    """`wanted`, or the next of `SAFER` whose codes are within `MOST_APART` of those of fp32."""
    *candidates, last = SAFER[wanted]
    if not candidates:
        return last
    exact = tried(builder_of(last), EAGER)
    for precision in candidates:
        if agree(tried(builder_of(precision), EAGER), exact):
            return precision
    return last


def agree(one: NDArray[np.int64], other: NDArray[np.int64]) -> bool:
    """Whether two results are the same picture."""
    return int(np.abs(one - other).max()) <= MOST_APART


@torch.no_grad()
def tried(builder: Builder, variant: str) -> NDArray[np.int64]:
    """The codes that `variant` makes of a small picture. Raises what its backend raises."""
    return output_of(builder.build(variant, Batch(1, _SIDE, _SIDE, 8)), builder)


@torch.no_grad()
def output_of(program: Program, builder: Builder) -> NDArray[np.int64]:
    """The codes that a program for 8 bit makes of a picture, which stays in its input."""
    count, height, width = program.input.shape
    with builder.queues.on(COMPUTE):
        program.input.copy_(torch.from_numpy(picture(height, width)).expand(count, -1, -1))
        program()
    builder.queues.synchronize()
    return program.output.cpu().numpy().astype(np.int64)


def picture(height: int, width: int) -> NDArray[np.uint8]:
    """8-bit codes `[height, width]`: ramps, edges on the block grid, noise, and both ends of the range."""
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:height, :width]
    ramp = (x / width + y / height) * 127.5
    blocks = (height // _BLOCK + 1, width // _BLOCK + 1)
    steps = rng.integers(-24, 25, blocks).repeat(_BLOCK, 0).repeat(_BLOCK, 1)[:height, :width]
    noise = rng.normal(0, 8, ramp.shape) * (x > width // 2)
    codes: NDArray[np.uint8] = (ramp + steps + noise).clip(0, 255).astype(np.uint8)
    return codes
