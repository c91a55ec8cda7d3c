"""A network as few oneDNN calls: convolutions with LeakyReLU fused behind them, weights packed once.

Eager PyTorch packs the weights anew for every call, runs LeakyReLU as a pass of its own over memory, and under
autocast converts weights and maps back and forth. torch.compile does what is done here too, but needs a C++ compiler
on the user's machine and a minute to start.
"""

import functools
import threading
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from carfix.net.arch import CarCnn, FastNet, RestorationNet, convolution_layers
from carfix.net.config import LAYER_RADIUS

#: Window shapes whose packed weights are kept: frames and fields of a video, with room for another.
_SHAPES_KEPT = 4
_PADDING, _STRIDE, _DILATION, _GROUPS = [LAYER_RADIUS] * 2, [1, 1], [1, 1], 1
#: Integers by their bytes.
_RUNS = {dtype.itemsize: dtype for dtype in (torch.int16, torch.int32, torch.int64)}


@functools.cache
def is_fusable(dtype: torch.dtype = torch.float32) -> bool:
    """Whether this torch has the operations: its CPU builds for x86 and for Linux on ARM do; bf16 needs AVX-512."""
    if not torch.backends.mkldnn.is_available():  # type: ignore[no-untyped-call]
        return False
    layer = nn.Conv2d(4, 4, 3, padding=LAYER_RADIUS).requires_grad_(False)
    x = torch.linspace(-1, 1, 4 * 8 * 8).view(1, 4, 8, 8).contiguous(memory_format=torch.channels_last)
    try:
        y = _Packed(layer, dtype, 0.2, (1, 4, 8, 8))(x.to(dtype)).float()
    except (RuntimeError, AttributeError, NotImplementedError, TypeError):
        return False  # internal operations, as torch.compile calls them: another release may change them
    wanted = functional.leaky_relu(layer(x), 0.2)
    return torch.allclose(y, wanted, atol=1e-4 if dtype == torch.float32 else 0.05)


class FusedNet:
    """`net` in `dtype` (fp32 or bf16) for windows on a CPU; the picture itself stays fp32."""

    def __init__(self, net: RestorationNet, dtype: torch.dtype) -> None:
        if not isinstance(net, CarCnn | FastNet):
            raise TypeError(f"no fused form is known for {type(net).__name__}")
        self._net: CarCnn | FastNet = net
        self._dtype = dtype
        self._packed: dict[tuple[int, int], list[_Packed]] = {}
        self._packing = threading.Lock()

    def packed_for(self, height: int, width: int) -> Callable[[Tensor], Tensor]:
        """What computes windows of this size, `[H, W]` fp32 in [-1, 1], from any number of threads."""
        with self._packing:
            if (height, width) not in self._packed:
                if len(self._packed) == _SHAPES_KEPT:
                    del self._packed[next(iter(self._packed))]
                self._packed[height, width] = self._pack(height, width)
            return functools.partial(self._compute, self._packed[height, width])

    def _pack(self, height: int, width: int) -> list["_Packed"]:
        scale = self._net.config.scale
        layers = convolution_layers(self._net)
        return [
            _Packed(
                layer,
                self._dtype,
                self._net.config.negative_slope if number < len(layers) - 1 else None,
                (1, layer.in_channels, height // scale, width // scale),
            )
            for number, layer in enumerate(layers)
        ]

    def _compute(self, packed: Sequence["_Packed"], x: Tensor) -> Tensor:
        layers = iter(packed)

        def conv(y: Tensor) -> Tensor:
            return next(layers)(y)

        net = self._net
        if isinstance(net, FastNet):
            scale = net.config.scale
            rows, columns = x.shape[0] // scale, x.shape[1] // scale
            cells = _swapped(x.to(self._dtype).view(rows, scale, columns, scale))
            y = conv(cells.view(1, rows, columns, scale * scale).permute(0, 3, 1, 2))
            y = conv(_blocks(net, y, conv))
            parts = _swapped(y.permute(0, 2, 3, 1).view(rows, columns, scale, scale))
            restored = parts.view(x.shape).float()
        else:
            y = conv(conv(x.to(self._dtype)[None, None]))
            y = conv(conv(_blocks(net, y, conv)))
            restored = y[0, 0].float().tanh_()
        if net.config.global_residual:
            restored.add_(x)
        return restored.clamp_(-1.0, 1.0)


def _swapped(x: Tensor) -> Tensor:
    """Contiguous `[A, B, C, D]` to `[A, C, B, D]`, contiguous as well.

    The D values that stay together move as one integer where there is one of their size: ten times as fast as
    torch's copy of single ones.
    """
    runs = _RUNS.get(x.shape[3] * x.itemsize)
    if runs is None:
        return x.transpose(1, 2).contiguous()
    moved = x.view(runs).squeeze(3).transpose(1, 2).contiguous()
    return moved.unsqueeze(3).view(x.dtype)


class _Packed:
    """A convolution with its weights in oneDNN's order for inputs of one shape, and what follows it."""

    def __init__(
        self, layer: nn.Conv2d, dtype: torch.dtype, slope: float | None, shape: tuple[int, ...]
    ) -> None:
        assert layer.bias is not None  # every convolution of ours has one
        weight = layer.weight.detach().to("cpu", dtype).contiguous()
        self._weight = torch._C._nn.mkldnn_reorder_conv2d_weight(  # type: ignore[call-arg] # torch's stubs lack some
            weight.to_mkldnn(), _PADDING, _STRIDE, _DILATION, _GROUPS, list(shape)
        )
        self._bias = layer.bias.detach().to("cpu", dtype)
        self._activation = ("none", []) if slope is None else ("leaky_relu", [slope])

    def __call__(self, x: Tensor) -> Tensor:
        y: Tensor = torch.ops.mkldnn._convolution_pointwise(
            x, self._weight, self._bias, _PADDING, _STRIDE, _DILATION, _GROUPS, *self._activation, ""
        )
        return y


def _blocks(net: FastNet | CarCnn, x: Tensor, conv: Callable[[Tensor], Tensor]) -> Tensor:
    for _ in net.blocks:
        x = x + conv(conv(x))
    return x
