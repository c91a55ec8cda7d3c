"""The fused convolution, in Triton's interpreter where there is no GPU: pip install triton to run these."""

import os
import subprocess
import sys

import pytest
import torch
from networks import awake_model
from torch.nn import functional

from carfix.net.arch import conv
from carfix.net.config import CarCnnConfig, Config, FastConfig

if not torch.cuda.is_available():
    os.environ["TRITON_INTERPRET"] = "1"  # read as the kernel's module is imported
pytest.importorskip("triton")

from carfix.restore.engine.cuda_fused import SHAPES, FusedConvolution, FusedNet

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
SLOPE = 0.2
#: Half a unit in the last place of fp16 at the size of these values, for the inputs' and the output's rounding.
TOLERANCE = 2e-3


#: (shape, channels, size): every shape on the body's channels; thin and odd channels, and odd sizes, on few.
CASES = [(shape, (64, 64), (2, 3, 5)) for shape in SHAPES]
CASES += [
    (shape, channels, (1, 4, 70)) for shape in ("fused-64", "fused-wide") for channels in ((1, 64), (64, 1))
]
CASES += [("fused-64", (24, 40), (2, 3, 5)), ("fused-wide", (24, 40), (1, 4, 130))]

COMPILE = """
import sys
import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource
from carfix.restore.engine.cuda_fused import SHAPES
from carfix.restore.engine.cuda_kernel import convolve

TYPES = {"x": "*fp16", "weight": "*fp16", "bias": "*fp32", "residual": "*fp16", "y": "*fp16",
         "height": "i32", "width": "i32", "slope": "fp32"}
for capability, memory in ((80, 163 << 10), (90, 227 << 10)):
    for name, shape in SHAPES.items():
        for inputs, outputs, add in ((16, 64, False), (64, 64, True), (64, 16, False)):
            fixed = {"INPUTS": inputs, "OUTPUTS": outputs, "COLUMNS": shape.columns, "ADD": add,
                     "STAGES": shape.stages, "WIDE": shape.wide}
            source = ASTSource(fn=convolve, signature={n: TYPES.get(n, "constexpr") for n in convolve.arg_names},
                               constexprs=fixed)
            made = triton.compile(source, target=GPUTarget("cuda", capability, 32),
                                  options={"num_warps": shape.warps})
            assert made.metadata.shared <= memory, (capability, name, made.metadata.shared)
            if (inputs, outputs) == (64, 64):
                assert ("wgmma" if capability == 90 else "mma.sync") in made.asm["ptx"], (capability, name)
            print(capability, name, inputs, outputs)
"""


def test_the_kernel_compiles_for_gpus_that_are_not_here() -> None:
    """For A100 and H100, in their shared memory, on their tensor cores: the interpreter sees none of this."""
    environment = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    result = subprocess.run(
        [sys.executable, "-c", COMPILE], capture_output=True, text=True, env=environment, check=False
    )
    assert result.returncode == 0, result.stderr
    assert len(result.stdout.splitlines()) == 2 * 3 * len(SHAPES)


@pytest.mark.parametrize(("shape", "channels", "size"), CASES, ids=str)
@torch.no_grad()
def test_a_fused_convolution_is_its_parts(
    shape: str, channels: tuple[int, int], size: tuple[int, ...]
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
        fused = FusedConvolution(layer, slope=slope, shape=SHAPES[shape], dtype=torch.float16)
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
