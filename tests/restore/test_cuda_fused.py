"""The fused convolution, in Triton's interpreter where there is no GPU: pip install triton to run these."""

import os

import pytest
import torch
from networks import awake_model
from torch.nn import functional

from carfix.net.arch import CarCnnConfig, Config, FastConfig, conv

if not torch.cuda.is_available():
    os.environ["TRITON_INTERPRET"] = "1"  # read as the kernel's module is imported
pytest.importorskip("triton")

from carfix.restore.engine.cuda_fused import SHAPES, FusedConvolution, FusedNet

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
SLOPE = 0.2
#: Half a unit in the last place of fp16 at the size of these values, for the inputs' and the output's rounding.
TOLERANCE = 2e-3


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
@pytest.mark.parametrize("channels", [(64, 64), (1, 64), (64, 1), (24, 40)], ids=str)
@pytest.mark.parametrize(
    "size", [(2, 3, 5), (1, 4, 70)], ids=str
)  # odd rows, less and more than a tile's columns
@torch.no_grad()
def test_a_fused_convolution_is_its_parts(
    shape: object, channels: tuple[int, int], size: tuple[int, ...]
) -> None:
    torch.manual_seed(1)
    inputs, outputs = channels
    layer = conv(inputs, outputs).to(DEVICE).requires_grad_(False)
    count, height, width = size
    x = torch.randn(count, inputs, height, width, device=DEVICE).half()
    residual = torch.randn(count, outputs, height, width, device=DEVICE).half()
    rounded = functional.conv2d(x.float(), layer.weight.half().float(), layer.bias, padding=1)

    def channels_last(maps: torch.Tensor, filled: int) -> torch.Tensor:
        return functional.pad(maps.permute(0, 2, 3, 1), (0, filled - maps.shape[1])).contiguous()

    for slope in (SLOPE, 1.0):
        fused = FusedConvolution(layer, slope=slope, shape=shape, dtype=torch.float16)  # type: ignore[arg-type]
        parts = functional.leaky_relu(rounded, slope)
        for added in (None, residual):
            expected = parts if added is None else parts + added.float()
            with_residual = None if added is None else channels_last(added, fused.outputs)
            y = fused(channels_last(x, fused.inputs), with_residual).permute(0, 3, 1, 2).float()
            assert float((y[:, :outputs] - expected).abs().max()) < TOLERANCE * max(
                1, float(expected.abs().max())
            )
            assert not y[:, outputs:].any()  # zeros stay zeros for the next layer


@pytest.mark.parametrize(
    "config",
    [
        CarCnnConfig(features=16, blocks=1),
        FastConfig(features=64, blocks=1),
        FastConfig(scale=2, features=24, blocks=1),
    ],
    ids=str,
)
@torch.no_grad()
def test_a_fused_network_is_the_network(config: Config) -> None:
    net = awake_model(config).net.to(DEVICE)
    x = torch.rand(2, 1, 8, 20, device=DEVICE) * 2 - 1
    fused = FusedNet(net, dtype=torch.float16, shape=SHAPES["fused-64"])
    off = (fused(x.half()).float() - net.predict_residual(x)).abs().max()
    assert float(off) < 0.1 * 2 / 255  # a tenth of a code
