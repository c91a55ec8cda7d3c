"""How coarsely a picture looks quantized, whatever its stream says: the level of video that was encoded again.

What was compressed hard and then encoded anew at good quality (exports of recorders, transcoded archives), scaled
afterwards, or decoded before a pipe, keeps its artifacts, and none of its quantizers tell of them. A small
convolutional network looks at parts of a frame, and at the level that the stream tells, and estimates the level by
which shares of corrections gain most (`carfix.restore.strength`). It is computed in numpy: to load torch takes longer
than a short clip. `bench/fit_look.py` trained it.
"""

import dataclasses
import functools
import hashlib
from collections.abc import Mapping
from importlib import resources

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray
from safetensors.numpy import load

from carfix.video.luma import Luma

FILE_NAME = "look.safetensors"
#: Side in pixels of a part that is looked at, and of the smallest frame that is.
SIDE = 128
#: Parts of a segment's first frame, and of later ones.
FIRST_PARTS, PARTS = 24, 6
#: Frames from one that is looked at to the next, behind the first few, all of which are.
EVERY, FIRST_FRAMES = 6, 4
#: Looks over which the estimate is a plain mean; later ones it follows as a running mean of that many.
MEMORY = 12
#: Differences of neighbours in 8-bit codes: down to a fourth, and cut off where an edge is steeper than any artifact.
_FINE, _COARSE, _CUT = 4.0, 48.0, 1.5
#: LeakyReLU's slope, and the stride of each convolution.
_SLOPE = 0.1
_STRIDES = (2, 2, 2, 1)
#: Bounds of the logarithm of an attention weight.
_ATTENTION = 6.0
#: What a deviation has at least, squared: so its root has a slope in training.
_LEAST_VARIANCE = 1e-4
#: The output counts in these from there: levels are some 12 to 45.
_MIDDLE, _UNIT = 28.0, 16.0
#: The told level goes in so.
_TOLD_UNIT = 25.0
#: Steps between positions of parts, in shares of the frame (Roberts' R2 sequence): any few in a row are spread evenly.
_R2 = (0.7548776662466927, 0.5698402909980532)

Floats = NDArray[np.float32]


@dataclasses.dataclass(frozen=True)
class Estimator:
    """The network, its normalisations folded into the convolutions."""

    kernels: tuple[Floats, ...]  # [height * width * inputs, outputs] each
    sides: tuple[int, ...]
    biases: tuple[Floats, ...]
    attention: Floats  # [channels + 1], the last a bias
    hidden: Floats  # [2 * channels + 3, units]; the last row is the bias
    output: Floats  # [units + 1]

    def __call__(self, parts: NDArray[np.uint8], told: float | None) -> float:
        """The level that parts `[N, SIDE, SIDE]` of a frame look like, whose stream tells `told`, if it does."""
        features = self._features(parts)
        channels = features.shape[-1]
        rows = features.reshape(-1, channels)
        weights = np.exp(np.clip(rows @ self.attention[:-1] + self.attention[-1], -_ATTENTION, _ATTENTION))
        weights /= weights.sum()
        mean = weights @ rows
        deviation = np.sqrt(np.maximum(weights @ (rows * rows) - mean * mean, 0) + _LEAST_VARIANCE)
        known = (0.0, 0.0) if told is None else (told / _TOLD_UNIT - 1, 1.0)
        units = _leaky(np.concatenate([mean, deviation, known, [1.0]]) @ self.hidden)
        return float(_MIDDLE + _UNIT * (units @ self.output[:-1] + self.output[-1]))

    def _features(self, parts: NDArray[np.uint8]) -> Floats:
        codes = parts.astype(np.float32)
        corner = codes[:, :-1, :-1]
        across, down = codes[:, :-1, 1:] - corner, codes[:, 1:, :-1] - corner
        found = np.stack([across / _FINE, down / _FINE, (across + down) / _COARSE], axis=-1)
        found = np.clip(found, -_CUT, _CUT)
        for kernel, side, bias, stride in zip(self.kernels, self.sides, self.biases, _STRIDES, strict=True):
            found = _leaky(_patches(found, side, stride) @ kernel + bias)
        return found


def _patches(maps: Floats, side: int, stride: int) -> Floats:
    """What a convolution without padding reads, `[N, H, W, side * side * channels]`."""
    windows = sliding_window_view(maps, (side, side), axis=(1, 2))[:, ::stride, ::stride]
    # [N, H, W, channels, side, side] to a row of the kernel's order.
    return windows.transpose(0, 1, 2, 4, 5, 3).reshape(*windows.shape[:3], -1)


def _leaky(values: Floats) -> Floats:
    larger: Floats = np.maximum(values, _SLOPE * values)
    return larger


class Look:
    """The level that a video, or a segment of it, looks like, frame after frame."""

    def __init__(self) -> None:
        self._frames = self._looks = self._parts = 0
        self._value: float | None = None

    def __call__(self, luma: Luma, bit_depth: int, told: float | None) -> float | None:
        """The estimate with the next frame, `[H, W]`; None as long as frames were too small to be looked at."""
        number = self._frames
        self._frames += 1
        if min(luma.shape) < SIDE:
            return self._value
        if number < FIRST_FRAMES or number % EVERY == 0:
            count = PARTS if number else FIRST_PARTS
            found = installed()(self._chosen(luma, count, bit_depth), told)
            self._looks += 1
            weight = 1 / min(self._looks, MEMORY)
            self._value = found if self._value is None else self._value + weight * (found - self._value)
        return self._value

    def _chosen(self, luma: Luma, count: int, bit_depth: int) -> NDArray[np.uint8]:
        """So many parts of a frame in 8-bit codes, elsewhere each time."""
        places = np.arange(self._parts, self._parts + count)
        self._parts += count
        rows, columns = (
            (np.modf(0.5 + places * step)[0] * (size - SIDE + 1)).astype(int)
            for size, step in zip(luma.shape, _R2, strict=True)
        )
        parts = np.stack([luma[y : y + SIDE, x : x + SIDE] for y, x in zip(rows, columns, strict=True)])
        codes: NDArray[np.uint8] = (parts // (1 << (bit_depth - 8))).astype(np.uint8)
        return codes


def estimator_of(tensors: Mapping[str, NDArray[np.float32]]) -> Estimator:
    """From the tensors of the file that comes with carfix."""
    kernels = [tensors[f"kernel{n}"] for n in range(len(_STRIDES))]  # [outputs, inputs, side, side]
    return Estimator(
        kernels=tuple(kernel.transpose(2, 3, 1, 0).reshape(-1, len(kernel)) for kernel in kernels),
        sides=tuple(kernel.shape[-1] for kernel in kernels),
        biases=tuple(tensors[f"bias{n}"] for n in range(len(_STRIDES))),
        attention=tensors["attention"],
        hidden=tensors["hidden"],
        output=tensors["output"],
    )


@functools.cache
def installed() -> Estimator:
    """The one that comes with carfix."""
    return estimator_of(load(_installed_bytes()))


def identity() -> str:
    """Changes whenever estimates may change."""
    numbers = SIDE, FIRST_PARTS, PARTS, FIRST_FRAMES, EVERY, MEMORY
    return f"{hashlib.sha256(_installed_bytes()).hexdigest()[:16]} {numbers}"


@functools.cache
def _installed_bytes() -> bytes:
    return resources.files("carfix.restore").joinpath(FILE_NAME).read_bytes()
