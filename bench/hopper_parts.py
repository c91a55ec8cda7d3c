"""The kernels for Hopper GPUs, one by one, beside cuDNN and the ceilings measured in the same run.

    python bench/hopper_parts.py

TFLOP/s of a convolution of 64 channels (a multiplication and an addition being two), by frames at once and their
size: cuDNN alone (channels_last, fp16) and with bias and LeakyReLU behind it, and carfix's kernel, which ends with
both, without and with the residual. Then microseconds of the first and the last layer's kernel.
"""

import math
import sys
from collections.abc import Callable

import gpu_parts as parts
import torch
from torch import Tensor
from torch.nn import functional

from carfix.restore.engine.cuda_streams import COMPUTE, CudaStreams, seconds_of
from carfix.restore.engine.hopper.layout import CHANNELS, packed_map, packed_weights
from carfix.restore.engine.hopper.module import CAPABILITY, HEAD_BLOCK, TAIL_BLOCK, module

SIZES = ((1, 1080, 1920), (4, 1080, 1920), (1, 360, 640), (1, 600, 640))
SLOPE = 0.2
DTYPE = torch.float16


def row(device: torch.device, queues: CudaStreams, frames: int, height: int, width: int) -> str:
    """All rates of one size."""
    kernels = module(device, DTYPE, 1)
    with queues.on(COMPUTE):
        x = torch.randn(frames, CHANNELS, height, width, device=device, dtype=DTYPE)
        weight = torch.randn(CHANNELS, CHANNELS, 3, 3, device=device, dtype=DTYPE) / 24
        bias = torch.randn(CHANNELS, device=device)
        source, packed = packed_map(x), packed_weights(weight)
        target = torch.zeros_like(source)
        x, weight = (each.contiguous(memory_format=torch.channels_last) for each in (x, weight))
        codes = torch.zeros(frames, height, width, dtype=torch.uint8, device=device)
        strengths, ends = torch.ones(frames, device=device), torch.randn(9, CHANNELS, device=device)
    size = height, width, source.shape[2]

    def microseconds(work: Callable[[], object]) -> float:
        return seconds_of(work, queues, least=0.05, rounds=5) * 1e6

    def library() -> Tensor:
        return functional.conv2d(x, weight, padding=1)

    def library_finished() -> Tensor:
        return functional.leaky_relu_(functional.conv2d(x, weight, bias.to(DTYPE), padding=1), SLOPE)

    def own(residual: Tensor | None) -> None:
        kernels.launch("convolve", None, source, packed, bias, residual, target, frames, *size, SLOPE)

    def grid(block: tuple[int, int]) -> tuple[int, int, int]:
        return math.ceil(width / block[0]), math.ceil(height / block[1]), frames

    def head() -> None:
        kernels.launch("head", grid(HEAD_BLOCK), codes, ends, bias, target, *size, SLOPE, 2 / 255)

    def tail() -> None:
        scale = (2 / 255, 255.0)
        kernels.launch("tail", grid(TAIL_BLOCK), source, ends, 0.1, codes, strengths, codes, *size, *scale, 1)

    ways: dict[str, Callable[[], object]] = {
        "cuDNN": library,
        "with bias and LeakyReLU": library_finished,
        "carfix": lambda: own(None),
        "with the residual": lambda: own(target),
    }
    operations = 2 * weight.numel() * frames * height * width
    rates = [f"{name} {operations / microseconds(work) / 1e6:.0f}" for name, work in ways.items()]
    return (
        f"{frames} of {width}x{height}: TFLOP/s: {', '.join(rates)}; "
        f"first layer {microseconds(head):.0f} us, last {microseconds(tail):.0f} us"
    )


def main() -> None:
    device = torch.device("cuda", 0)
    if not torch.cuda.is_available() or torch.cuda.get_device_capability(device) != CAPABILITY:
        sys.exit("no Hopper GPU can be used here")
    torch.backends.cudnn.benchmark = True
    queues = CudaStreams(device)
    product = parts.matrix_rate(device, "fp16", queues, 8192) / 1e12
    copy = parts.copy_rate(device, queues, 1 << 30) / 1e9
    print(f"{torch.cuda.get_device_name(device)}, torch {torch.__version__}")
    print(f"matrix product {product:.0f} TFLOP/s, copy {copy:.0f} GB/s")
    for size in SIZES:
        print(row(device, queues, *size))


if __name__ == "__main__":
    main()
