"""The networks: CAR-CNN as published, and fast ones that work at reduced resolution.

Every network maps luma to luma: a float tensor `[N, 1, H, W]` scaled to [-1, 1] in, the same shape and range
out. All are residual in the sense of Kim et al. 2016 (VDSR): the convolutions predict what is to be added to
the input, and the sum is clamped to [-1, 1].
"""

import torch
from torch import Tensor, nn
from torch.nn import functional

from carfix import cpu
from carfix.net.config import KERNEL, LAYER_RADIUS, CarCnnConfig, Config, FastConfig

#: What the second convolution of a residual block is scaled by at the start. Fifteen unnormalised blocks at
#: full scale would double the activations' variance fifteen times over and training would diverge.
BLOCK_INIT_GAIN = 0.1

if not cpu.runs_made_code():
    # Of oneDNN no convolution would run. torch has others, which are slow.
    torch.backends.mkldnn.set_flags(_enabled=False)  # type: ignore[no-untyped-call]


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


def convolution_layers(net: nn.Module) -> list[nn.Conv2d]:
    """All convolutions in the order of computation."""
    return [module for module in net.modules() if isinstance(module, nn.Conv2d)]
