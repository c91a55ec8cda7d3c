"""PSNR and SSIM in torch: one implementation that serves as loss and as metric.

SSIM follows Wang, Bovik, Sheikh and Simoncelli, "Image quality assessment: from error visibility to
structural similarity", IEEE TIP 13(4), 2004: an 11x11 Gaussian window with sigma 1.5, K1 0.01, K2 0.03 and
population covariance. It equals `skimage.metrics.structural_similarity(gaussian_weights=True, sigma=1.5,
use_sample_covariance=False)` to 1e-4, borders cropped as there.
"""

import functools

import torch
from torch import Tensor
from torch.nn import functional

WINDOW = 11
SIGMA = 1.5
K1 = 0.01
K2 = 0.03

#: Identical frames have no finite PSNR; they count as this (DESIGN section 7).
PSNR_IDENTICAL = 100.0


@functools.lru_cache(maxsize=8)
def _gaussian(dtype: torch.dtype, device: torch.device) -> Tensor:
    """The normalised 1-D window, `[WINDOW]`."""
    x = torch.arange(WINDOW, dtype=torch.float64) - WINDOW // 2
    weights = torch.exp(-(x**2) / (2 * SIGMA**2))
    return (weights / weights.sum()).to(dtype=dtype, device=device)


def _blur(x: Tensor) -> Tensor:
    """Separable Gaussian over the last two axes of `[N, 1, H, W]`, valid positions only."""
    weights = _gaussian(x.dtype, x.device)
    x = functional.conv2d(x, weights.view(1, 1, 1, WINDOW))
    return functional.conv2d(x, weights.view(1, 1, WINDOW, 1))


def ssim(x: Tensor, y: Tensor, data_range: float) -> Tensor:
    """Mean SSIM of each picture: `[N, 1, H, W]` twice to `[N]`.

    `data_range` is the distance between the darkest and the brightest value (255 for 8-bit codes, 2 for luma
    scaled to [-1, 1]). Raises `ValueError` for pictures smaller than the window.
    """
    if min(x.shape[-2:]) < WINDOW:
        raise ValueError(f"SSIM needs pictures of at least {WINDOW}x{WINDOW}, not {x.shape[-1]}x{x.shape[-2]}")
    n = x.shape[0]
    c1 = (K1 * data_range) ** 2
    c2 = (K2 * data_range) ** 2
    # One blur of the five maps together is quicker than five.
    mx, my, xx, yy, xy = _blur(torch.cat([x, y, x * x, y * y, x * y])).split(n)
    mxx, myy, mxy = mx * mx, my * my, mx * my
    numerator = (2 * mxy + c1) * (2 * (xy - mxy) + c2)
    denominator = (mxx + myy + c1) * ((xx - mxx) + (yy - myy) + c2)
    return (numerator / denominator).flatten(1).mean(1)


def mse(x: Tensor, y: Tensor) -> Tensor:
    """Mean squared error of each picture: `[N, 1, H, W]` twice to `[N]`."""
    return (x - y).square().flatten(1).mean(1)


def psnr_from_mse(error: Tensor, data_range: float) -> Tensor:
    """PSNR in dB of mean squared errors; zero errors give `PSNR_IDENTICAL`."""
    psnr = 10.0 * torch.log10(data_range**2 / error)
    return torch.where(error == 0, torch.full_like(psnr, PSNR_IDENTICAL), psnr)


def psnr(x: Tensor, y: Tensor, data_range: float) -> Tensor:
    """PSNR in dB of each picture: `[N, 1, H, W]` twice to `[N]`."""
    return psnr_from_mse(mse(x, y), data_range)
