"""What the integers of 16 bits stand for: scales for inputs and weights of each product, from how large inputs become.

Nothing tells how large numbers within a network can become. So pictures are computed that make them larger than what
a camera records does: noise, chequers, stripes and edges from black to white, and blocks of waves as a very coarse
codec leaves them. The largest number that one of them makes of a product and channel has an integer, with room for
three quarters as much again. A window in which a number is larger yet is computed once more, in fp32
(`WinogradNet.instead`): of camera frames, with text on them or with noise, few or none are; ordered dither and frames
of twice the contrast may be.
"""

import itertools
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from carfix.net.checkpoint import Convolution, Model
from carfix.net.config import KERNEL, CarCnnConfig
from carfix.restore.engine.llvm.code_cache import made_once
from carfix.restore.engine.planes import Floats
from carfix.restore.engine.winograd.transforms import Transform

#: The largest integer.
LARGEST = 32767
#: What the weights of a product and output channel may add up to, so that sums of products stay below 2^31: with every
#: input the largest, and every weight rounded up.
MOST_WEIGHTS = 65500
#: What the largest number found is multiplied by. The coarsest frames of held-out clips need 1.2 (`fast`, `medium`;
#: 0.7 `tiny`); each tenth costs precision, a twentieth more codes differ from fp32. Without pictures as a codec leaves
#: them they would need 3: networks that know text have a few channels which no mere contrast wakes.
_ROOM = 1.75
#: A channel's inputs in a product have at least so much of the range of the channel with the largest: what none of the
#: pictures wakes, others might.
_LEAST = 1 / 64
#: No range is smaller: a scale must be a number, be the channel ever so quiet.
_SMALLEST = 1e-6
#: Ranges are rounded up to so many steps between powers of 2: CPUs add up in different orders.
_STEPS = 16
#: Cells along the side of a picture.
_SIDE = 32
#: Pictures computed at once: more take longer each, their maps leave the caches.
_AT_ONCE = 16
#: Sides of the blocks of pictures behind a coarse codec, how far their waves swing, how many a block has in the mean,
#: and pictures of each kind.
_BLOCKS, _SWINGS, _WAVES, _DECODED = (4, 8, 16), (0.25, 0.75), 3, 32


def ranges(model: Model, transform: Transform) -> list[Floats]:
    """`found_ranges`, found once for a model on a machine."""
    shapes = [(transform.products, layer.weight.shape[1]) for layer in model.convolutions[1:]]
    key = f"ranges {_ROOM} {_LEAST} {_BLOCKS} {_SWINGS} {_WAVES} {_DECODED} {transform!r} {model.sha256}"
    record = made_once(
        key, lambda: np.concatenate(found_ranges(model, transform), axis=1).tobytes(), suffix=".ranges"
    )
    together = np.frombuffer(record, np.float32).reshape(transform.products, -1)
    edges = np.cumsum([channels for _, channels in shapes])[:-1]
    return np.split(together, edges, axis=1)


def found_ranges(model: Model, transform: Transform) -> list[Floats]:
    """How large inputs of each product may be, `[products, channels]` of each layer behind the first."""
    padded = [np.pad(picture, model.config.scale) for picture in pictures(model.config.scale * _SIDE)]
    found: list[Floats] = []
    for start in range(0, len(padded), _AT_ONCE):
        inputs = _inputs(model, np.stack(padded[start : start + _AT_ONCE]))
        largest = [_largest(each, transform) for each in inputs]
        found = [np.maximum(*both) for both in zip(found, largest, strict=True)] if found else largest
    return [_rounded(_ROOM * largest) for largest in found]


def pictures(side: int) -> list[Floats]:
    """Pictures `[side, side]` in [-1, 1] of the hardest contrasts."""
    y, x = np.mgrid[:side, :side]
    rng = np.random.default_rng(0)

    def blocks(size: int) -> NDArray[np.int64]:
        coarse = rng.integers(0, 2, (-(-side // size), -(-side // size)))
        return coarse.repeat(size, 0).repeat(size, 1)[:side, :side]

    found: list[NDArray[Any]] = [blocks(size) for size in (1, 1, 2, 3, 4, 8)] + [rng.random((side, side))]
    for size in (1, 2, 3, 4):
        found += [(y // size + x // size) % 2, y // size % 2, x // size % 2, (y + x) // size % 2]
    found += [
        y > side // 2,
        x > side // 2,
        x + y > side,
        (y % 7 == 0) & (x % 7 == 0),
        (y % 7 > 0) | (x % 7 > 0),
    ]
    found += [np.zeros((side, side)), np.ones((side, side))]
    contrasts = [2 * np.asarray(picture, np.float32) - 1 for picture in found]
    return contrasts + [
        _decoded(side, block, swing, rng)
        for block, swing in itertools.product(_BLOCKS, _SWINGS)
        for _ in range(_DECODED)
    ]


def _decoded(side: int, block: int, swing: float, rng: np.random.Generator) -> Floats:
    """As a very coarse codec leaves a picture: a brightness and a few low waves a block, and edges between blocks."""
    count, low, row = -(-side // block), block // 2, np.arange(block)
    waves = np.cos(np.pi * (2 * row + 1) * row[:, None] / (2 * block))
    waves /= np.sqrt((waves * waves).sum(axis=1, keepdims=True))
    numbers = np.zeros((count, count, block, block))
    few = rng.random((count, count, low, low)) < _WAVES / low**2
    numbers[:, :, :low, :low] = few * rng.normal(0, swing * block, (count, count, low, low))
    numbers[:, :, 0, 0] = rng.uniform(-block, block, (count, count))
    blocks = (waves.T @ numbers @ waves).transpose(0, 2, 1, 3).reshape(count * block, count * block)
    return np.clip(blocks[:side, :side], -1, 1).astype(np.float32)


def _inputs(model: Model, padded: Floats) -> Iterator[Floats]:
    """What each layer behind the first is given, `[pictures, rows, columns, channels]`; all with a ring of zeros."""
    scale, slope = model.config.scale, model.config.negative_slope
    count, side = len(padded), padded.shape[1] // scale
    cells = padded.reshape(count, side, scale, side, scale).transpose(0, 1, 3, 2, 4)
    inside = np.zeros((side, side, 1), np.float32)
    inside[1:-1, 1:-1] = 1

    def through(layer: Convolution, x: Floats) -> Floats:
        # Cells behind each other, rings included: each tap of the kernel meets them all, so far apart.
        flat = x.reshape(count * side * side, -1)
        ring = side + 1
        y = np.full((len(flat), layer.weight.shape[0]), layer.bias, np.float32)
        for dy, dx in itertools.product(range(KERNEL), repeat=2):
            start = dy * side + dx
            y[ring:-ring] += flat[start : start + len(flat) - 2 * ring] @ layer.weight[:, :, dy, dx].T
        np.maximum(y, slope * y, out=y)
        return (y.reshape(count, side, side, -1) * inside).astype(np.float32, copy=False)

    first, *body, _ = model.convolutions
    wraps = isinstance(model.config, CarCnnConfig)
    x = through(first, cells)
    yield x
    if wraps:
        x = through(body[0], x)
        yield x
    blocks = body[1:-1] if wraps else body
    for one, other in zip(blocks[0::2], blocks[1::2], strict=True):
        inner = through(one, x)
        yield inner
        x = x + through(other, inner)
        yield x
    if wraps:
        yield through(body[-1], x)


def _largest(inputs: Floats, transform: Transform) -> Floats:
    """The largest of B^T d B over all tiles, `[products, channels]`."""
    step, size = transform.outputs, transform.size
    tiles = (inputs.shape[1] - 2) // step  # along a side
    matrix = transform.input_matrix()

    def combined(parts: list[Floats], row: Floats) -> Floats:
        terms = [number * part for number, part in zip(row, parts, strict=True) if number]
        total: Floats = sum(terms[1:], terms[0])
        return total

    rows = [inputs[:, start::step][:, :tiles] for start in range(size)]
    found = []
    for down in matrix:
        mixed = combined(rows, down)
        columns = [mixed[:, :, start::step][:, :, :tiles] for start in range(size)]
        found += [np.abs(combined(columns, across)).max(axis=(0, 1, 2)) for across in matrix]
    return np.stack(found)


def _rounded(largest: Floats) -> Floats:
    least = np.maximum(largest.max(axis=1, keepdims=True) * _LEAST, _SMALLEST)
    fraction, exponent = np.frexp(np.maximum(largest, least))
    rounded: Floats = np.ldexp(np.ceil(fraction * 2 * _STEPS) / (2 * _STEPS), exponent).astype(np.float32)
    return rounded


def integer_weights(weights: Floats, largest: Floats) -> tuple[NDArray[np.int16], Floats, Floats]:
    """Transformed weights `[products, inputs, outputs]`, for inputs of such ranges, as integers of 16 bits; the scales
    of inputs `[products, inputs]`; and the factors of results, `[outputs]`.
    """
    scales = (LARGEST / largest.astype(np.float64)).astype(np.float32)
    steps = weights.astype(np.float64) / scales[:, :, None]
    sums, most = np.abs(steps).sum(axis=1), np.abs(steps).max(axis=1)
    tiny = np.finfo(np.float32).tiny
    scale = np.minimum(MOST_WEIGHTS / np.maximum(sums, tiny), LARGEST / np.maximum(most, tiny)).min(axis=0)
    integers = np.rint(steps * scale).astype(np.int16)
    return integers, scales, np.where(sums.max(axis=0) > 0, 1 / scale, 0).astype(np.float32)
