"""The networks: CAR-CNN as published, and fast ones that work at reduced resolution.

Every network maps luma to luma: a float tensor `[N, 1, H, W]` scaled to [-1, 1] in, the same shape and range
out. All are residual in the sense of Kim et al. 2016 (VDSR): the convolutions predict what is to be added to
the input, and the sum is clamped to [-1, 1].
"""

import dataclasses
import math
from collections.abc import Callable, Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional

from carfix.errors import CarfixError

#: Every convolution is 3x3 with stride 1: one ring of neighbours a layer.
KERNEL = 3
LAYER_RADIUS = KERNEL // 2

#: What the second convolution of a residual block is scaled by at the start. Fifteen unnormalised blocks at
#: full scale would double the activations' variance fifteen times over and training would diverge.
BLOCK_INIT_GAIN = 0.1


@dataclasses.dataclass(frozen=True, kw_only=True)
class CarCnnConfig:
    """The 34-layer network of Aqqa and Shah (VISAPP 2021)."""

    architecture: ClassVar[str] = "car-cnn"

    features: int = 64  # section 3.1 of the paper
    blocks: int = 15  # two convolutions each: 15 * 2 + 4 = 34
    negative_slope: float = 0.2  # of LeakyReLU
    stride: int = 1  # the paper's text names no other; kept as a field so that a checkpoint says it
    norm: str = "none"  # no normalisation layers: they cost range precision and gain nothing in restoration
    global_residual: bool = (
        True  # the reading of "residual" that is taken here (VDSR): output = input + network
    )

    @property
    def scale(self) -> int:
        """Side in pixels of the cell that the network works on; windows start at multiples of it."""
        return 1

    @property
    def convolutions(self) -> int:
        """Number of convolution layers."""
        return 2 * self.blocks + 4


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
    def convolutions(self) -> int:
        """Number of convolution layers."""
        return 2 * self.blocks + 2


Config = CarCnnConfig | FastConfig
CONFIGS: dict[str, type[CarCnnConfig] | type[FastConfig]] = {
    CarCnnConfig.architecture: CarCnnConfig,
    FastConfig.architecture: FastConfig,
}


def conv(inputs: int, outputs: int) -> nn.Conv2d:
    """A 3x3 convolution that keeps the size: zero padding 1."""
    return nn.Conv2d(inputs, outputs, KERNEL, padding=LAYER_RADIUS)


class ResidualBlock(nn.Module):
    """conv, LeakyReLU, conv, LeakyReLU, + identity."""

    def __init__(self, features: int, negative_slope: float) -> None:
        super().__init__()
        self.conv1 = conv(features, features)
        self.conv2 = conv(features, features)
        self.negative_slope = negative_slope

    def forward(self, x: Tensor) -> Tensor:
        """`[N, F, H, W]` to the same shape."""
        y = functional.leaky_relu(self.conv1(x), self.negative_slope)
        return x + functional.leaky_relu(self.conv2(y), self.negative_slope)


class RestorationNet(nn.Module):
    """What all networks share: a config, and the contract of `forward`."""

    config: Config

    def predict_residual(self, x: Tensor) -> Tensor:
        """`[N, 1, H, W]` in [-1, 1] to the residual of the same shape."""
        raise NotImplementedError  # each architecture's own

    def forward(self, x: Tensor) -> Tensor:
        """Luma `[N, 1, H, W]` in [-1, 1], H and W multiples of `config.scale`, to restored luma."""
        y = self.predict_residual(x)
        if self.config.global_residual:
            # In fp32 even under autocast: 8 bits of mantissa would quantize the picture itself.
            y = x.float() + y.float()
        return y.clamp(-1.0, 1.0)


class CarCnn(RestorationNet):
    """CAR-CNN: conv(1->F), conv(F->F), residual blocks, conv(F->F), conv(F->1), tanh."""

    def __init__(self, config: CarCnnConfig) -> None:
        super().__init__()
        if config.stride != 1 or config.norm != "none":
            raise CarfixError(
                f"car-cnn with stride {config.stride} and norm {config.norm!r} is not supported"
            )
        self.config: CarCnnConfig = config
        self.head = nn.ModuleList([conv(1, config.features), conv(config.features, config.features)])
        self.blocks = nn.ModuleList(
            ResidualBlock(config.features, config.negative_slope) for _ in range(config.blocks)
        )
        self.tail = nn.ModuleList([conv(config.features, config.features), conv(config.features, 1)])
        _initialise(self, config.negative_slope)

    def predict_residual(self, x: Tensor) -> Tensor:
        """`[N, 1, H, W]` to the residual, in (-1, 1)."""
        slope = self.config.negative_slope
        for layer in self.head:
            x = functional.leaky_relu(layer(x), slope)
        for block in self.blocks:
            x = block(x)
        x = functional.leaky_relu(self.tail[0](x), slope)
        residual: Tensor = torch.tanh(self.tail[1](x))
        return residual


class FastNet(RestorationNet):
    """PixelUnshuffle, conv, residual blocks, conv, PixelShuffle."""

    def __init__(self, config: FastConfig) -> None:
        super().__init__()
        self.config: FastConfig = config
        cell = config.scale**2
        self.head = conv(cell, config.features)
        self.blocks = nn.ModuleList(
            ResidualBlock(config.features, config.negative_slope) for _ in range(config.blocks)
        )
        self.tail = conv(config.features, cell)
        _initialise(self, config.negative_slope)

    def predict_residual(self, x: Tensor) -> Tensor:
        """`[N, 1, H, W]` to the residual of the same shape."""
        x = functional.pixel_unshuffle(x, self.config.scale)
        x = functional.leaky_relu(self.head(x), self.config.negative_slope)
        for block in self.blocks:
            x = block(x)
        return functional.pixel_shuffle(self.tail(x), self.config.scale)


def _initialise(net: nn.Module, negative_slope: float) -> None:
    """He initialisation; the last convolution starts at zero, so that an untrained network changes nothing."""
    layers = [module for module in net.modules() if isinstance(module, nn.Conv2d)]
    if layers[0].weight.is_meta:
        return  # a checkpoint fills it; and for random numbers of no memory torch would load its compiler first
    for layer in layers:
        nn.init.kaiming_normal_(layer.weight, a=negative_slope, nonlinearity="leaky_relu")
        if layer.bias is not None:
            nn.init.zeros_(layer.bias)
    with torch.no_grad():
        for module in net.modules():
            if isinstance(module, ResidualBlock):
                module.conv2.weight.mul_(BLOCK_INIT_GAIN)
        layers[-1].weight.zero_()


def build(config: Config) -> RestorationNet:
    """A freshly initialised network of `config`'s architecture."""
    return CarCnn(config) if isinstance(config, CarCnnConfig) else FastNet(config)


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


def receptive_field_radius(config: Config) -> int:
    """Largest distance in pixels, along an axis, from which an input pixel can change an output pixel.

    One ring of cells a convolution; a pixel's cell reaches up to `scale - 1` pixels past the pixel itself.
    """
    return config.convolutions * LAYER_RADIUS * config.scale + config.scale - 1


def margin(config: Config) -> int:
    """Pixels that a window loses at a cut edge: the rings of whole cells that the cut can influence."""
    return math.ceil((receptive_field_radius(config) - config.scale + 1) / config.scale) * config.scale


def convolution_layers(net: nn.Module) -> list[nn.Conv2d]:
    """All convolutions in the order of computation."""
    return [module for module in net.modules() if isinstance(module, nn.Conv2d)]


def parameter_count(net: nn.Module) -> int:
    """Number of weights and biases."""
    return sum(parameter.numel() for parameter in net.parameters())


def multiply_adds_per_pixel(net: RestorationNet) -> float:
    """Multiplications (each with an addition) that one pixel of the frame costs; biases not counted."""
    weights = sum(layer.weight.numel() for layer in convolution_layers(net))
    return weights / net.config.scale**2
