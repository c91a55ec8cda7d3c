"""Training losses on luma scaled to [-1, 1].

`mse`, `ssim` and `both` are the paper's; `both` = ALPHA * (1 - SSIM) + (1 - ALPHA) * MSE. `psnr` is the mean
of the patches' log MSE: plain MSE over mixed levels of compression is dominated by the worst ones, and a small
network trained so loses at the mild ones; the logarithm weighs every level alike.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from carfix.net.ssim import mse, ssim

#: Weight of SSIM in `both` (section 3.2 of the paper).
ALPHA = 0.79

#: Distance between black and white in the range that training uses, [-1, 1].
DATA_RANGE = 2.0

#: Added to a patch's MSE before the logarithm: half a code squared. Flat patches, good to a fraction of a code
#: already, would else pull harder than all others.
LOG_FLOOR = (0.5 * DATA_RANGE / 255) ** 2

Loss = Callable[[Tensor, Tensor], Tensor]


def mse_loss(restored: Tensor, pristine: Tensor) -> Tensor:
    """Mean squared error."""
    return mse(restored, pristine).mean()


def psnr_loss(restored: Tensor, pristine: Tensor) -> Tensor:
    """Mean over the patches of ln(MSE): its gradient is that of the negative mean PSNR, up to a factor."""
    return torch.log(mse(restored, pristine) + LOG_FLOOR).mean()


def ssim_loss(restored: Tensor, pristine: Tensor) -> Tensor:
    """1 - SSIM, averaged over the patches."""
    return 1.0 - ssim(restored, pristine, DATA_RANGE).mean()


def both_loss(restored: Tensor, pristine: Tensor) -> Tensor:
    """The paper's combined loss, equation 4."""
    return ALPHA * ssim_loss(restored, pristine) + (1.0 - ALPHA) * mse_loss(restored, pristine)


LOSSES: dict[str, Loss] = {"mse": mse_loss, "ssim": ssim_loss, "both": both_loss, "psnr": psnr_loss}
