"""What networks are made of, in numbers: configs, the convolutions that follow from them, margins and costs.

Without torch, which takes longer to load than a short clip to restore: the engines that are machine code of their own
need no more than this and the weights.
"""

import dataclasses
import functools
import math
from collections.abc import Callable, Iterator, Mapping
from typing import Any, ClassVar

from carfix.errors import CarfixError

#: Every convolution is 3x3 with stride 1: one ring of neighbours a layer.
KERNEL = 3
LAYER_RADIUS = KERNEL // 2


@dataclasses.dataclass(frozen=True)
class LayerShape:
    """A convolution: its name in a checkpoint, and its channels."""

    name: str
    inputs: int
    outputs: int

    @property
    def tensors(self) -> dict[str, tuple[int, ...]]:
        """Shapes of its tensors, by the names that they have in a checkpoint."""
        return {
            f"{self.name}.weight": (self.outputs, self.inputs, KERNEL, KERNEL),
            f"{self.name}.bias": (self.outputs,),
        }


def _of_blocks(blocks: int, features: int) -> Iterator[LayerShape]:
    for block in range(blocks):
        for number in (1, 2):
            yield LayerShape(f"blocks.{block}.conv{number}", features, features)


@dataclasses.dataclass(frozen=True, kw_only=True)
class CarCnnConfig:
    """The 34-layer network of Aqqa and Shah (VISAPP 2021)."""

    architecture: ClassVar[str] = "car-cnn"

    features: int = 64  # section 3.1 of the paper
    blocks: int = 15  # two convolutions each: 15 * 2 + 4 = 34
    negative_slope: float = 0.2  # of LeakyReLU
    stride: int = 1  # the paper's text names no other; kept as a field so that a checkpoint says it
    norm: str = "none"  # no normalisation layers: they cost range precision and gain nothing in restoration
    global_residual: bool = True  # "residual" as VDSR means it: output = input + network

    def __post_init__(self) -> None:
        """Raises `CarfixError` for what no network of ours has."""
        if self.stride != 1 or self.norm != "none":
            raise CarfixError(f"car-cnn with stride {self.stride} and norm {self.norm!r} is not supported")

    @property
    def scale(self) -> int:
        """Side in pixels of the cell that the network works on; windows start at multiples of it."""
        return 1

    @property
    def layers(self) -> tuple[LayerShape, ...]:
        """The convolutions in the order of computation."""
        features = self.features
        return (
            LayerShape("head.0", 1, features),
            LayerShape("head.1", features, features),
            *_of_blocks(self.blocks, features),
            LayerShape("tail.0", features, features),
            LayerShape("tail.1", features, 1),
        )


@dataclasses.dataclass(frozen=True, kw_only=True)
class FastConfig:
    """Residual blocks between PixelUnshuffle and PixelShuffle: 1/scale^2 of the positions, so far cheaper.

    The cells line up with H.264's 4x4 transform blocks when `scale` divides 4, so that each channel keeps one
    fixed place within a block: the network need not find the block grid, it is given.
    """

    architecture: ClassVar[str] = "fast"

    scale: int = 4  # side of a cell; H.264's smallest transform block
    features: int = 64
    blocks: int = 4  # two convolutions each
    negative_slope: float = 0.2
    global_residual: bool = True

    @property
    def layers(self) -> tuple[LayerShape, ...]:
        """The convolutions in the order of computation."""
        cell = self.scale**2
        return (
            LayerShape("head", cell, self.features),
            *_of_blocks(self.blocks, self.features),
            LayerShape("tail", self.features, cell),
        )


Config = CarCnnConfig | FastConfig
CONFIGS: dict[str, type[CarCnnConfig] | type[FastConfig]] = {
    CarCnnConfig.architecture: CarCnnConfig,
    FastConfig.architecture: FastConfig,
}


def config_from_dict(architecture: str, fields: Mapping[str, Any]) -> Config:
    """The config that a checkpoint describes.

    Raises `CarfixError` if the architecture or a field is unknown or of a wrong type.
    """
    if architecture not in CONFIGS:
        raise CarfixError(f"unknown architecture {architecture!r}; this carfix knows {', '.join(CONFIGS)}")
    cls = CONFIGS[architecture]
    known: dict[str, Callable[[Any], bool]] = {
        field.name: _type_check(field.default) for field in dataclasses.fields(cls)
    }
    for name, value in fields.items():
        if name not in known or not known[name](value):
            raise CarfixError(f"architecture {architecture!r} has no field {name!r} that could be {value!r}")
    return cls(**fields)


def _type_check(default: object) -> Callable[[Any], bool]:
    kind = type(default)
    if kind is float:
        # A slope; one beyond 1, infinite or not a number gives no picture.
        return lambda value: (
            isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value <= 1
        )
    if kind is int:
        # A count or a side: a foreign checkpoint must not make us allocate the machine away.
        return lambda value: isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= 1024
    return lambda value: isinstance(value, kind)


@functools.cache  # asked for hundreds of times to plan windows, and once with every batch of frames
def receptive_field_radius(config: Config) -> int:
    """Largest distance in pixels, along an axis, from which an input pixel can change an output pixel.

    One ring of cells a convolution; a pixel's cell reaches up to `scale - 1` pixels past the pixel itself.
    """
    return len(config.layers) * LAYER_RADIUS * config.scale + config.scale - 1


def margin(config: Config) -> int:
    """Pixels that a window loses at a cut edge: the rings of whole cells that the cut can influence."""
    return math.ceil((receptive_field_radius(config) - config.scale + 1) / config.scale) * config.scale


def parameter_count(config: Config) -> int:
    """Number of weights and biases."""
    return sum(math.prod(shape) for layer in config.layers for shape in layer.tensors.values())


def multiply_adds_per_pixel(config: Config) -> float:
    """Multiplications (each with an addition) that one pixel of the frame costs; biases not counted."""
    return sum(KERNEL**2 * layer.inputs * layer.outputs for layer in config.layers) / config.scale**2
