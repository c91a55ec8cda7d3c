"""The Triton kernel of `cuda_fused`: a 3x3 convolution that ends with bias, LeakyReLU and the residual.

Maps are `[N, H, W, C]`, contiguous, in 16 bit; sums are fp32.
"""
# Triton's functions are compiled from their source: annotations other than constexpr mean nothing to it.
# ruff: noqa: ANN001, ANN201, ANN202
# mypy: ignore-errors

import triton
import triton.language as tl


@triton.jit
def _row(x, row, column, height, width, channels, CHANNELS: tl.constexpr):
    """`[columns, CHANNELS]` of one row of the map; zeros outside the frame."""
    rows = row + tl.zeros_like(column)  # Triton's interpreter cannot spread a truth value, only numbers
    inside = (rows >= 0) & (rows < height) & (column >= 0) & (column < width)
    at = (rows * width + column)[:, None] * CHANNELS + channels[None, :]
    return tl.load(x + at, mask=inside[:, None], other=0.0)


@triton.jit
def _add(total, a, taps, WIDE: tl.constexpr):
    """The product added to the sums; `WIDE` turned over, so that pixels are the longer side of the product.

    Tensor cores of H100 read both factors from shared memory for every 64 rows of a product, and a product of
    64 x 128 reads a quarter less for the same sums than two of 64 x 64.
    """
    if WIDE:
        result = tl.dot(tl.trans(taps), tl.trans(a), total)
    else:
        result = tl.dot(a, taps, total)
    return result


@triton.jit
def _finish(
    total,
    row,
    columns,
    height,
    width,
    outputs,
    bias,
    slope,
    residual,
    y,
    OUTPUTS: tl.constexpr,
    ADD: tl.constexpr,
):
    """Bias, LeakyReLU and the residual, in fp32, and the only write."""
    total += tl.load(bias + outputs)[None, :]
    total = tl.where(total > 0, total, total * slope)
    rows = row + tl.zeros_like(columns)
    inside = ((rows < height) & (columns < width))[:, None] & (outputs >= 0)[None, :]
    at = (rows * width + columns)[:, None] * OUTPUTS + outputs[None, :]
    if ADD:
        total += tl.load(residual + at, mask=inside, other=0.0).to(tl.float32)
    tl.store(y + at, total.to(y.dtype.element_ty), mask=inside)


@triton.jit
def convolve(
    x,
    weight,
    bias,
    residual,
    y,
    height,
    width,
    slope,
    INPUTS: tl.constexpr,
    OUTPUTS: tl.constexpr,
    COLUMNS: tl.constexpr,
    ADD: tl.constexpr,
    STAGES: tl.constexpr,
    WIDE: tl.constexpr,
):
    """Two rows of `COLUMNS` pixels of one frame, all channels; maps are `[N, H, W, C]`, weights `[ky, kx, C, F]`."""
    across = tl.cdiv(width, COLUMNS)
    tile = tl.program_id(0)
    top = (tile // across) * 2
    columns = (tile % across) * COLUMNS + tl.arange(0, COLUMNS)
    pixels = (
        tl.program_id(1).to(tl.int64) * height * width
    )  # of the frames before; times channels beyond 32 bit
    x += pixels * INPUTS
    y += pixels * OUTPUTS
    residual += pixels * OUTPUTS
    inputs = tl.arange(0, INPUTS)
    outputs = tl.arange(0, OUTPUTS)
    taps = weight + inputs[:, None] * OUTPUTS + outputs[None, :]
    tap = INPUTS * OUTPUTS
    if WIDE:
        upper = tl.zeros((OUTPUTS, COLUMNS), dtype=tl.float32)
        lower = tl.zeros((OUTPUTS, COLUMNS), dtype=tl.float32)
    else:
        upper = tl.zeros((COLUMNS, OUTPUTS), dtype=tl.float32)
        lower = tl.zeros((COLUMNS, OUTPUTS), dtype=tl.float32)
    for kx in tl.range(0, 3, num_stages=STAGES):
        column = columns + kx - 1
        first = tl.load(taps + kx * tap)
        second = tl.load(taps + (3 + kx) * tap)
        third = tl.load(taps + (6 + kx) * tap)
        a = _row(x, top - 1, column, height, width, inputs, INPUTS)
        upper = _add(upper, a, first, WIDE)
        a = _row(x, top, column, height, width, inputs, INPUTS)
        upper = _add(upper, a, second, WIDE)
        lower = _add(lower, a, first, WIDE)
        a = _row(x, top + 1, column, height, width, inputs, INPUTS)
        upper = _add(upper, a, third, WIDE)
        lower = _add(lower, a, second, WIDE)
        a = _row(x, top + 2, column, height, width, inputs, INPUTS)
        lower = _add(lower, a, third, WIDE)
    if WIDE:
        upper, lower = tl.trans(upper), tl.trans(lower)
    _finish(upper, top, columns, height, width, outputs, bias, slope, residual, y, OUTPUTS, ADD)
    _finish(lower, top + 1, columns, height, width, outputs, bias, slope, residual, y, OUTPUTS, ADD)
