import numpy as np
import pytest
import torch
from skimage.metrics import structural_similarity

from carfix.net.losses import ALPHA, LOSSES
from carfix.net.ssim import PSNR_IDENTICAL, mse, psnr, ssim


@pytest.mark.parametrize("bits", [8, 10])
def test_ssim_equals_scikit_image(bits: int) -> None:
    top = 2**bits - 1
    rng = np.random.default_rng(bits)
    x = rng.integers(0, top + 1, (61, 83)).astype(np.float64)
    y = np.clip(x + rng.normal(0, top / 12, x.shape), 0, top).round()
    expected = structural_similarity(
        x, y, data_range=top, gaussian_weights=True, sigma=1.5, use_sample_covariance=False
    )
    pair = [torch.from_numpy(plane)[None, None] for plane in (x, y)]
    assert float(ssim(*pair, top)) == pytest.approx(expected, abs=1e-6)
    assert float(ssim(*(plane.float() for plane in pair), top)) == pytest.approx(expected, abs=1e-4)


def test_ssim_refuses_pictures_smaller_than_its_window() -> None:
    with pytest.raises(ValueError, match="11x11"):
        ssim(torch.zeros(1, 1, 10, 20), torch.zeros(1, 1, 10, 20), 255)


def test_psnr_of_a_known_error_and_of_identical_pictures() -> None:
    x = torch.zeros(2, 1, 16, 16)
    y = x.clone()
    y[1] += 5
    assert psnr(x, y, 255.0).tolist() == pytest.approx([PSNR_IDENTICAL, 20 * np.log10(255 / 5)])


def test_both_is_the_papers_mixture() -> None:
    torch.manual_seed(0)
    x, y = (torch.rand(3, 1, 24, 24) * 2 - 1 for _ in range(2))
    expected = ALPHA * (1 - ssim(x, y, 2.0).mean()) + (1 - ALPHA) * mse(x, y).mean()
    assert float(LOSSES["both"](x, y)) == pytest.approx(float(expected))
    assert ALPHA == 0.79


@pytest.mark.parametrize("name", LOSSES)
def test_every_loss_falls_towards_the_truth_and_has_a_gradient(name: str) -> None:
    torch.manual_seed(0)
    truth = torch.rand(2, 1, 24, 24) * 2 - 1
    noise = torch.randn_like(truth) * 0.1
    values = [float(LOSSES[name](truth + share * noise, truth)) for share in (1.0, 0.5, 0.0)]
    assert values == sorted(values, reverse=True)
    restored = (truth + noise).requires_grad_()
    LOSSES[name](restored, truth).backward()
    assert restored.grad is not None
    assert torch.isfinite(restored.grad).all()
    assert float((restored.grad * noise).sum()) > 0
