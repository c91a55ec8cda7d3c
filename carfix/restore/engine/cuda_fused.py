"""Convolution, bias, LeakyReLU and residual addition in one pass over memory: nets made of a Triton kernel.

A feature map of 64 channels is 265 MB a 1080p frame in 16 bit. Run one after another, convolution, bias, LeakyReLU
and addition read and write it up to four times a layer, and memory, not arithmetic, sets the speed. The kernel of
`cuda_kernel` writes each map once. It is one variant among others (see `autotune`): taken only where it was measured
to be faster and gave the same codes. This module needs Triton, which comes with CUDA builds of torch on Linux.
"""

import dataclasses
import math
from typing import Any

import torch
from torch import Tensor, nn

from carfix.net.arch import CarCnn, FastNet, ResidualBlock, RestorationNet
from carfix.net.config import KERNEL
from carfix.restore.engine.cuda_kernel import convolve

#: Rows of output that one program computes: its four rows of input serve both, where two programs would read six.
ROWS = 2
#: Matrix products of tensor cores are at least this wide; thinner inputs and outputs are padded with zeros.
LEAST_CHANNELS = 16


@dataclasses.dataclass(frozen=True)
class Shape:
    """How the kernel is laid out on the GPU; the sums are the same for every shape."""

    columns: int  # pixels of a row that one program computes
    warps: int
    wide: bool  # whether pixels are the longer side of the matrix products
    stages: int  # of input kept in flight; 1: loads go through the L1 cache instead


#: Measured against each other on the spot. All need less shared memory than an A100, H100 or L4 has; where one needs
#: more than there is, Triton says so and it is passed over.
SHAPES = {
    "fused-64": Shape(columns=64, warps=4, wide=False, stages=1),
    "fused-64-deep": Shape(columns=64, warps=4, wide=False, stages=2),
    "fused-128": Shape(columns=128, warps=8, wide=False, stages=1),
    "fused-128-deep": Shape(columns=128, warps=8, wide=False, stages=2),
    "fused-wide": Shape(columns=128, warps=4, wide=True, stages=1),
    "fused-wide-deep": Shape(columns=64, warps=4, wide=True, stages=2),
}


class FusedConvolution:
    """One 3x3 convolution with what follows it; maps are `[N, H, W, C]`, contiguous, in 16 bit."""

    def __init__(self, layer: nn.Conv2d, *, slope: float, shape: Shape, dtype: torch.dtype) -> None:
        """`slope` 1 leaves the sums as they are. Channels are padded to a power of two of at least 16."""
        assert layer.bias is not None  # every convolution of ours has one
        self.inputs, self.outputs = _padded(layer.in_channels), _padded(layer.out_channels)
        device = layer.weight.device
        weight = torch.zeros(KERNEL, KERNEL, self.inputs, self.outputs, dtype=dtype, device=device)
        weight[:, :, : layer.in_channels, : layer.out_channels] = layer.weight.permute(2, 3, 1, 0)
        bias = torch.zeros(self.outputs, device=device)
        bias[: layer.out_channels] = layer.bias
        self._weight, self._bias, self._slope, self._shape = weight, bias, slope, shape

    def __call__(self, x: Tensor, residual: Tensor | None = None) -> Tensor:
        """`[N, H, W, inputs]` to `[N, H, W, outputs]`; `residual` of that shape is added at the end."""
        count, height, width, channels = x.shape
        assert channels == self.inputs and x.is_contiguous()
        y = torch.empty(count, height, width, self.outputs, dtype=x.dtype, device=x.device)
        assert residual is None or (residual.shape == y.shape and residual.is_contiguous())
        grid = (math.ceil(height / ROWS) * math.ceil(width / self._shape.columns), count)
        kernel: Any = convolve[grid]
        kernel(
            x, self._weight, self._bias, y if residual is None else residual, y, height, width, self._slope,
            INPUTS=self.inputs, OUTPUTS=self.outputs, COLUMNS=self._shape.columns, ADD=residual is not None,
            STAGES=self._shape.stages,
            WIDE=self._shape.wide, num_warps=self._shape.warps,
        )  # fmt: skip
        return y


class FusedNet:
    """`predict_residual` of a network, every convolution of it through the kernel."""

    def __init__(self, net: RestorationNet, *, dtype: torch.dtype, shape: Shape) -> None:
        """`net` in fp32 on its GPU. Raises `TypeError` for an architecture that is not known here."""
        slope = net.config.negative_slope

        def fused(layer: nn.Module, slope: float = slope) -> FusedConvolution:
            assert isinstance(layer, nn.Conv2d)
            return FusedConvolution(layer, slope=slope, shape=shape, dtype=dtype)

        if isinstance(net, CarCnn):
            self._before = [fused(layer) for layer in net.head]
            self._after = [fused(net.tail[0]), fused(net.tail[1], slope=1.0)]
        elif isinstance(net, FastNet):
            self._before = [fused(net.head)]
            self._after = [fused(net.tail, slope=1.0)]
        else:
            raise TypeError(f"no fused network is known for {type(net).__name__}")
        self._blocks = []
        for block in net.blocks:
            assert isinstance(block, ResidualBlock)
            self._blocks.append((fused(block.conv1), fused(block.conv2)))
        self._scale = net.config.scale
        self._bounded = isinstance(net, CarCnn)  # by tanh

    def __call__(self, x: Tensor) -> Tensor:
        """`[N, 1, H, W]` in [-1, 1] to the residual of the same shape."""
        cells = nn.functional.pixel_unshuffle(x, self._scale).permute(0, 2, 3, 1)
        maps = nn.functional.pad(cells, (0, self._before[0].inputs - cells.shape[-1])).contiguous()
        for layer in self._before:
            maps = layer(maps)
        for first, second in self._blocks:
            maps = second(first(maps), residual=maps)
        for layer in self._after:
            maps = layer(maps)
        residual = maps[..., : self._scale**2].permute(0, 3, 1, 2)
        residual = nn.functional.pixel_shuffle(residual, self._scale)
        return torch.tanh(residual) if self._bounded else residual


def _padded(channels: int) -> int:
    """The next power of two, at least what a tensor core multiplies by."""
    return max(LEAST_CHANNELS, 1 << (channels - 1).bit_length())
