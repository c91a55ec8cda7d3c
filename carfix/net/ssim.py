"""PSNR and SSIM in torch: one implementation that serves as loss and as metric.

SSIM follows Wang, Bovik, Sheikh and Simoncelli, "Image quality assessment: from error visibility to
structural similarity", IEEE TIP 13(4), 2004: an 11x11 Gaussian window with sigma 1.5, K1 0.01, K2 0.03 and
population covariance. It equals `skimage.metrics.structural_similarity(gaussian_weights=True, sigma=1.5,
use_sample_covariance=False)` to 1e-4, borders cropped as there.
"""

import functools

import torch
from torch import Tensor

WINDOW = 11
SIGMA = 1.5
K1 = 0.01
K2 = 0.03

#: Identical frames have no finite PSNR; they count as this (docs/compare.md).
PSNR_IDENTICAL = 100.0

#: Side of the blocks that the Gaussian is computed in, as products with a banded matrix. A strip of 64 rows
#: of 1080p and its maps stay within a core's cache; an accelerator wants few large products instead.
CPU_BLOCK = 64
ACCELERATOR_BLOCK = 512


@functools.lru_cache(maxsize=64)
def _band(outputs: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    """The normalised 1-D window as a matrix, `[outputs, outputs + WINDOW - 1]`: a row an output."""
    # A tensor made in inference mode could not serve a loss later.
    with torch.inference_mode(False):
        x = torch.arange(WINDOW, dtype=torch.float64) - WINDOW // 2
        weights = torch.exp(-(x**2) / (2 * SIGMA**2))
        weights /= weights.sum()
        matrix = torch.zeros(outputs, outputs + WINDOW - 1, dtype=torch.float64)
        for row in range(outputs):
            matrix[row, row : row + WINDOW] = weights
        return matrix.to(dtype=dtype, device=device)


def _blur(x: Tensor, block: int) -> Tensor:
    """Separable Gaussian over the last two axes of `[..., H, W]`, valid positions only.

    `H - WINDOW + 1` must be small (one block); the columns are worked off block by block.
    """
    height, width = x.shape[-2] - WINDOW + 1, x.shape[-1] - WINDOW + 1
    x = _band(height, x.dtype, x.device) @ x
    parts = []
    for left in range(0, width, block):
        outputs = min(block, width - left)
        parts.append(x[..., left : left + outputs + WINDOW - 1] @ _band(outputs, x.dtype, x.device).T)
    return torch.cat(parts, dim=-1)


def _strip_sums(x: Tensor, y: Tensor, c1: float, c2: float, block: int) -> Tensor:
    """Sum of the SSIM map of each picture's strip, `[N]`; see `ssim`."""
    # With s = x + y and d = x - y four maps are enough for the five moments (2xy = (ss - dd) / 2,
    # xx + yy = (ss + dd) / 2), and the small dd keeps its precision beside the large ss.
    s, d = x + y, x - y
    ms, md, ss, dd = _blur(torch.cat([s, d, s * s, d * d]), block).chunk(4)
    ms, md = ms * ms, md * md
    ss, dd = ss - ms, dd - md
    numerator = (ms - md + 2 * c1) * (ss - dd + 2 * c2)
    denominator = (ms + md + 2 * c1) * (ss + dd + 2 * c2)
    similarity: Tensor = numerator / denominator
    return similarity.sum(-1).flatten(1).sum(1)


def ssim(x: Tensor, y: Tensor, data_range: float) -> Tensor:
    """Mean SSIM of each picture: `[N, 1, H, W]` twice to `[N]`; floats, or codes as integers.

    `data_range` is the distance between the darkest and the brightest value (255 for 8-bit codes, 2 for luma
    scaled to [-1, 1]). Raises `ValueError` for pictures smaller than the window.
    """
    if min(x.shape[-2:]) < WINDOW:
        raise ValueError(
            f"SSIM needs pictures of at least {WINDOW}x{WINDOW}, not {x.shape[-1]}x{x.shape[-2]}"
        )
    c1 = (K1 * data_range) ** 2
    c2 = (K2 * data_range) ** 2
    block = CPU_BLOCK if x.device.type == "cpu" else ACCELERATOR_BLOCK
    height, width = x.shape[-2] - WINDOW + 1, x.shape[-1] - WINDOW + 1
    total = torch.zeros(x.shape[0], device=x.device)
    # Never in half precision: the variances are small differences of large numbers.
    with torch.autocast(x.device.type, enabled=False):
        for top in range(0, height, block):
            rows = slice(top, min(top + block, height) + WINDOW - 1)
            total = total + _strip_sums(_full(x[..., rows, :]), _full(y[..., rows, :]), c1, c2, block)
    return total / (height * width)


def _full(x: Tensor) -> Tensor:
    """`x` in at least single precision."""
    return x if x.dtype == torch.float64 else x.float()


def mse(x: Tensor, y: Tensor) -> Tensor:
    """Mean squared error of each picture: `[N, 1, H, W]` twice to `[N]`."""
    return _row_mse(x, y).mean(1)


def _row_mse(x: Tensor, y: Tensor) -> Tensor:
    """Mean squared error of each row, `[N, H]`: codes of up to 16 bits differ exactly in single precision."""
    return (_full(x) - _full(y)).square().mean(-1).flatten(1)


def psnr_from_mse(error: Tensor, data_range: float) -> Tensor:
    """PSNR in dB of mean squared errors; zero errors give `PSNR_IDENTICAL`."""
    psnr = 10.0 * torch.log10(data_range**2 / error)
    return torch.where(error == 0, torch.full_like(psnr, PSNR_IDENTICAL), psnr)


def psnr(x: Tensor, y: Tensor, data_range: float) -> Tensor:
    """PSNR in dB of each picture: `[N, 1, H, W]` twice to `[N]` on the CPU, in double precision.

    The rows' errors are averaged in double precision; in single precision a frame would be off by 3e-6 dB.
    """
    return psnr_from_mse(_row_mse(x, y).to("cpu", torch.float64).mean(1), data_range)
