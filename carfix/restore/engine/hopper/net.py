"""The full network made of the kernels: codes to codes, two maps in memory."""

import math

import torch
from torch import Tensor, nn

from carfix.net.arch import CarCnn
from carfix.net.config import CarCnnConfig, Config
from carfix.restore.engine.hopper.layout import CHANNELS, map_shape, packed_weights, pitch
from carfix.restore.engine.hopper.module import CAPABILITY, HEAD_BLOCK, TAIL_BLOCK, module
from carfix.restore.engine.planes import peak


def usable(config: Config, device: torch.device, dtype: torch.dtype) -> bool:
    """Whether the kernels are made for this network, GPU and precision."""
    return (
        isinstance(config, CarCnnConfig)
        and config.features == CHANNELS
        and 0 <= config.negative_slope <= 1  # so that LeakyReLU is a maximum
        and dtype in (torch.float16, torch.bfloat16)
        and torch.cuda.get_device_capability(device) == CAPABILITY
    )


class HopperNet:
    """A network's weights as the kernels want them."""

    def __init__(self, net: CarCnn, *, device: torch.device, dtype: torch.dtype) -> None:
        """`net` in fp32, of 64 features."""
        config = net.config
        assert config.features == CHANNELS
        self.device, self.dtype = device, dtype
        self.slope, self.global_residual = float(config.negative_slope), config.global_residual

        def body(layer: nn.Module | Tensor) -> tuple[Tensor, Tensor]:
            assert isinstance(layer, nn.Conv2d) and layer.bias is not None
            return packed_weights(layer.weight.detach().to(device, dtype)), layer.bias.detach().to(
                device
            ).float()

        first, last = net.head[0], net.tail[1]
        assert isinstance(first, nn.Conv2d) and isinstance(last, nn.Conv2d)
        assert first.bias is not None and last.bias is not None
        self.first = first.weight.detach()[:, 0].permute(1, 2, 0).reshape(9, CHANNELS).to(device).contiguous()
        self.first_bias = first.bias.detach().to(device)
        self.last = last.weight.detach()[0].permute(1, 2, 0).reshape(9, CHANNELS).to(device).contiguous()
        self.last_bias = float(last.bias)
        self.before, self.after = body(net.head[1]), body(net.tail[0])
        self.blocks = [(body(block.conv1), body(block.conv2)) for block in net.blocks]


class HopperRestore:
    """`Restore` (see `cuda_program`) of batches of one shape, with the memory for its maps."""

    def __init__(self, net: HopperNet, *, frames: int, height: int, width: int, bit_depth: int) -> None:
        """Called on the stream that will compute. Raises `RuntimeError` if the kernels cannot be used here."""
        self._net = net
        self._shape: tuple[int, int, int] = frames, height, width
        self._top = float(peak(bit_depth))
        self._kernels = module(net.device, net.dtype, 1 if bit_depth == 8 else 2)
        # What lies outside the frame is zero from here on: no kernel writes anything else there.
        self._maps = [
            torch.zeros(map_shape(frames, height, width), dtype=net.dtype, device=net.device)
            for _ in range(2)
        ]

    def __call__(self, codes: Tensor, strengths: Tensor) -> Tensor:
        """Codes `[N, H, W]` (uint8, or int16 with the bits of uint16) and strengths `[N]` to restored codes."""
        net, kernels = self._net, self._kernels
        frames, height, width = self._shape
        columns = pitch(width)
        assert codes.shape == torch.Size(self._shape)

        def convolve(
            x: Tensor, weights: tuple[Tensor, Tensor], y: Tensor, residual: Tensor | None = None
        ) -> None:
            kernels.launch(
                "convolve", None, x, *weights, residual, y, frames, height, width, columns, net.slope
            )

        one, other = self._maps
        restored = torch.empty_like(codes)
        kernels.launch(
            "head", _grid(HEAD_BLOCK, self._shape), codes, net.first, net.first_bias, one, height, width, columns,
            net.slope, 2.0 / self._top,
        )  # fmt: skip
        convolve(one, net.before, other)
        for first, second in net.blocks:
            convolve(other, first, one)
            convolve(one, second, other, residual=other)
        convolve(other, net.after, one)
        kernels.launch(
            "tail", _grid(TAIL_BLOCK, self._shape), one, net.last, net.last_bias, codes, strengths, restored, height,
            width, columns, 2.0 / self._top, self._top, int(net.global_residual),
        )  # fmt: skip
        return restored


def _grid(block: tuple[int, int], shape: tuple[int, int, int]) -> tuple[int, int, int]:
    frames, height, width = shape
    columns, rows = block
    return math.ceil(width / columns), math.ceil(height / rows), frames
