"""The kernels for Hopper GPUs: layouts anywhere, sums on such a GPU."""

import pytest
import torch
from backends import picture
from networks import awake_model
from torch.nn import functional

from carfix.net.config import CarCnnConfig
from carfix.restore.engine.cuda_program import EAGER, HOPPER, Batch, Builder
from carfix.restore.engine.cuda_streams import queues_of
from carfix.restore.engine.hopper.layout import map_shape, packed_map, packed_weights, swizzled, unpacked_map

HERE = torch.cuda.is_available() and torch.cuda.get_device_capability() == (9, 0)
#: Neither emulators nor other GPUs have its instructions; layouts, and that the kernels compile, are tested everywhere.
on_hopper = pytest.mark.skipif(not HERE, reason="needs a Hopper GPU")


def test_the_swizzle_is_its_own_inverse_and_moves_chunks_within_a_pixel() -> None:
    x = torch.arange(2 * 16 * 64).reshape(2, 16, 64)
    y = swizzled(x)
    assert torch.equal(swizzled(y), x) and not torch.equal(y, x)
    assert torch.equal(y.sort(-1).values, x)
    assert torch.equal(y[:, 0], x[:, 0])  # row 0 of a pattern stays
    assert y[0, 3, 8 * (5 ^ 3)] == x[0, 3, 40]


@pytest.mark.parametrize("size", [(5, 7), (3, 128), (4, 300)])
def test_a_map_is_surrounded_by_zeros_and_comes_back(size: tuple[int, int]) -> None:
    x = torch.randn(2, 64, *size)
    packed = packed_map(x)
    assert packed.shape == map_shape(2, *size)
    assert packed.shape[2] % 128 == 2 and packed.shape[2] >= size[1] + 2
    assert torch.equal(unpacked_map(packed, size[1]), x)
    assert float(packed.abs().sum()) == pytest.approx(float(x.abs().sum()), rel=1e-5)


def test_weights_are_packed_tap_by_tap() -> None:
    weight = torch.randn(64, 64, 3, 3)
    assert torch.equal(swizzled(packed_weights(weight))[5, 11], weight[11, :, 1, 2])


@pytest.mark.parametrize("bfloat16", [False, True])
@pytest.mark.parametrize("code_bytes", [1, 2])
def test_the_kernels_compile_without_a_gpu(bfloat16: bool, code_bytes: int) -> None:
    pytest.importorskip("cuda.bindings.nvrtc", reason="needs NVIDIA's compiler, which torch for CUDA brings")
    from carfix.restore.engine.hopper.module import compiled

    try:
        code = compiled(bfloat16=bfloat16, code_bytes=code_bytes)
    except RuntimeError as error:
        if "cannot be compiled" in str(error):
            raise
        pytest.skip(f"NVIDIA's compiler cannot be loaded: {error}")
    assert code[:4] == b"\x7fELF" and b"convolve" in code and b"head" in code and b"tail" in code


@on_hopper
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
@pytest.mark.parametrize(
    "size", [(1, 1, 1), (1, 3, 500), (2, 97, 141), (1, 270, 481), (3, 200, 256), (1, 1080, 1920)], ids=str
)
@pytest.mark.parametrize("add", [False, True])
def test_a_convolution_gives_what_torch_gives(
    dtype: torch.dtype, size: tuple[int, int, int], add: bool
) -> None:
    from carfix.restore.engine.hopper.module import module

    torch.manual_seed(0)
    frames, height, width = size
    device = torch.device("cuda", 0)
    x, old = (torch.randn(frames, 64, height, width, device=device).to(dtype) for _ in range(2))
    weight = (torch.randn(64, 64, 3, 3, device=device) / 24).to(dtype)
    bias = torch.randn(64, device=device)
    with torch.backends.cudnn.flags(allow_tf32=False):
        expected = functional.leaky_relu(functional.conv2d(x.float(), weight.float(), bias, padding=1), 0.2)
    expected = expected + old.float() if add else expected
    result = packed_map(old if add else torch.zeros_like(old))
    whole = packed_map(x)
    module(device, dtype, 1).launch(
        "convolve", None, whole, packed_weights(weight), bias, result if add else None, result, frames, height, width,
        whole.shape[2], 0.2,
    )  # fmt: skip
    torch.cuda.synchronize()
    found = unpacked_map(result, width).float()
    tolerance = 2e-3 if dtype == torch.float16 else 2e-2
    assert float((found - expected).abs().max()) < tolerance * float(expected.abs().max())
    outside = result.float().abs().sum() - unpacked_map(result, width).float().abs().sum()
    assert abs(float(outside)) < 1e-5 * float(result.float().abs().sum()) + 1e-3
    assert float(result[:, 0].abs().max()) == float(result[:, :, 0].abs().max()) == 0


@on_hopper
@pytest.mark.parametrize("precision", ["fp16", "bf16"])
@pytest.mark.parametrize("bits", [8, 10])
@pytest.mark.parametrize("size", [(1, 64, 80), (3, 270, 481), (2, 135, 128)], ids=str)
def test_the_network_gives_the_codes_of_fp32(precision: str, bits: int, size: tuple[int, int, int]) -> None:
    count, height, width = size
    model, device = awake_model(CarCnnConfig()), torch.device("cuda", 0)
    codes = torch.from_numpy(picture(height, width, bits, count).view("uint8" if bits == 8 else "int16")).to(
        device
    )
    results = []
    for wanted, variant in (("fp32", EAGER), (precision, HOPPER)):
        builder = Builder(model.net, device=device, precision=wanted, queues=queues_of(device))
        assert variant in builder.variants()
        program = builder.build(variant, Batch(count, height, width, bits))
        assert program.captured
        program.input.copy_(codes)
        program.strengths.copy_(torch.linspace(1, 0.25, count))
        torch.cuda.synchronize()
        program()
        torch.cuda.synchronize()
        results.append(program.output.int() & 0xFFFF)
    most = 4 if bits == 10 and precision == "bf16" else 1  # eight bits are quarters of an 8-bit code
    assert int((results[0] - results[1]).abs().max()) <= most
    assert int((results[1] - (codes.int() & 0xFFFF)).abs().max()) > 1
