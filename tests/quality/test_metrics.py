import multiprocessing
import threading
from multiprocessing.connection import Connection

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from carfix.errors import CarfixError
from carfix.net.ssim import PSNR_IDENTICAL, ssim
from carfix.quality.metrics import FrameQuality, Planes, _workers, measure


def picture(height: int, width: int, bit_depth: int, seed: int = 0) -> Planes:
    """Edges, gradients and texture, so that means, variances and covariances all matter."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:height, :width]
    smooth = 0.5 + 0.3 * np.sin(x / 17) * np.cos(y / 23) + 0.2 * ((x // 16 + y // 16) % 2 - 0.5)
    codes = (smooth + rng.normal(0, 0.02, smooth.shape)) * ((1 << bit_depth) - 1)
    return quantize(codes, bit_depth)


def quantize(codes: NDArray[np.float64], bit_depth: int) -> Planes:
    dtype = np.uint8 if bit_depth == 8 else np.uint16
    return np.clip(np.rint(codes), 0, (1 << bit_depth) - 1).astype(dtype)


def distort(codes: Planes, bit_depth: int, strength: float, seed: int = 1) -> Planes:
    rng = np.random.default_rng(seed)
    return quantize(codes + rng.normal(0, strength * ((1 << bit_depth) - 1), codes.shape), bit_depth)


@pytest.mark.parametrize("bit_depth", [8, 10, 12, 16])
@pytest.mark.parametrize("strength", [0.002, 0.02, 0.3])
# Around the block side of 64: no block, one, one and a bit, several; odd sizes among them.
@pytest.mark.parametrize("size", [(11, 11), (75, 74), (137, 203)])
def test_numbers_equal_scikit_image(bit_depth: int, strength: float, size: tuple[int, int]) -> None:
    reference = picture(*size, bit_depth)
    candidate = distort(reference, bit_depth, strength)
    assert (reference != candidate).any()
    data_range = (1 << bit_depth) - 1
    quality = measure(reference[None], candidate[None], bit_depth=bit_depth)
    expected = structural_similarity(
        reference,
        candidate,
        gaussian_weights=True,
        sigma=1.5,
        use_sample_covariance=False,
        data_range=data_range,
    )
    assert quality.ssim[0] == pytest.approx(expected, abs=1e-4)
    expected = peak_signal_noise_ratio(
        reference.astype(np.int64), candidate.astype(np.int64), data_range=data_range
    )
    assert quality.psnr[0] == pytest.approx(expected, abs=1e-6)


def test_pure_noise_equals_scikit_image() -> None:
    rng = np.random.default_rng(5)
    a, b = rng.integers(0, 256, (2, 90, 170), dtype=np.uint8)
    expected = structural_similarity(
        a, b, gaussian_weights=True, sigma=1.5, use_sample_covariance=False, data_range=255
    )
    assert measure(a[None], b[None]).ssim[0] == pytest.approx(expected, abs=1e-4)


def test_psnr_of_a_known_error() -> None:
    reference = np.full((1, 32, 48), 100, np.uint8)
    assert measure(reference, reference + np.uint8(5)).psnr[0] == pytest.approx(
        20 * np.log10(255 / 5), abs=1e-9
    )


def test_identical_frames_count_as_100_db_and_are_counted() -> None:
    reference = np.stack([picture(40, 60, 8, seed) for seed in range(3)])
    candidate = reference.copy()
    candidate[1] = distort(candidate[1], 8, 0.05)
    quality = measure(reference, candidate)
    assert quality.psnr[[0, 2]].tolist() == [PSNR_IDENTICAL] * 2
    assert quality.psnr[1] < 50
    assert quality.ssim[[0, 2]] == pytest.approx([1.0, 1.0], abs=1e-6)
    assert quality.identical == 2


def test_frames_are_measured_alone_whatever_the_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    reference = np.stack([picture(40, 60, 8, seed) for seed in range(5)])
    candidate = np.stack([distort(frame, 8, 0.01 * (i + 1)) for i, frame in enumerate(reference)])
    together = measure(reference, candidate)
    alone = FrameQuality.concatenate(measure(reference[i : i + 1], candidate[i : i + 1]) for i in range(5))
    monkeypatch.setattr("carfix.quality.metrics.CPU_PIXELS", 2 * 40 * 60)
    in_twos = measure(reference, candidate)
    assert len(set(together.psnr)) == 5
    for other in (alone, in_twos):
        assert other.psnr == pytest.approx(together.psnr, abs=1e-9)
        assert other.ssim == pytest.approx(together.ssim, abs=1e-6)


def test_depths_that_differ_meet_at_the_deeper_one() -> None:
    reference = picture(40, 60, 10)
    candidate = (reference >> 2).astype(np.uint8)
    mixed = measure(reference[None], candidate[None], bit_depth=10, candidate_bit_depth=8)
    shifted = measure(reference[None], (candidate.astype(np.uint16) << 2)[None], bit_depth=10)
    assert mixed.psnr[0] == shifted.psnr[0] < PSNR_IDENTICAL
    turned = measure(candidate[None], reference[None], bit_depth=8, candidate_bit_depth=10)
    assert turned.psnr[0] == mixed.psnr[0]


def test_shapes_that_cannot_be_compared_are_errors() -> None:
    frame = np.zeros((1, 40, 60), np.uint8)
    with pytest.raises(CarfixError, match=r"60x40.*60x39"):
        measure(frame, frame[:, :39])
    with pytest.raises(CarfixError, match="10x40"):
        measure(frame[:, :, :10], frame[:, :, :10])


def test_ssim_as_loss_has_a_gradient_that_improves() -> None:
    torch.manual_seed(0)
    x = torch.rand(2, 1, 90, 80) * 2 - 1
    y = (x + 0.3 * torch.randn_like(x)).requires_grad_()
    before = ssim(y, x, 2.0).sum()
    (gradient,) = torch.autograd.grad(before, y)
    after = ssim(y + 0.5 * gradient / gradient.abs().max(), x, 2.0).sum()
    assert after > before + 1e-3


def test_ssim_keeps_its_precision_under_autocast() -> None:
    x = torch.from_numpy(picture(80, 80, 8).astype(np.float32))[None, None] / 127.5 - 1
    y = torch.from_numpy(distort(picture(80, 80, 8), 8, 0.01).astype(np.float32))[None, None] / 127.5 - 1
    expected = ssim(x, y, 2.0)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert ssim(x, y, 2.0).item() == pytest.approx(expected.item(), abs=1e-6)


def _measured(planes: Planes, connection: Connection) -> None:
    connection.send(measure(planes, planes).identical)


@pytest.mark.skipif("fork" not in multiprocessing.get_all_start_methods(), reason="no forks here")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_fork_of_a_process_that_has_measured_measures() -> None:
    planes = picture(16, 16, 8)[None]
    assert measure(planes, planes).identical == 1
    ours, theirs = multiprocessing.Pipe()
    child = multiprocessing.get_context("fork").Process(target=_measured, args=(planes, theirs))
    child.start()
    try:
        assert ours.poll(30) and ours.recv() == 1
    finally:
        child.kill()
        child.join()


def test_where_threads_run_out_none_waits_for_those_that_never_came(monkeypatch: pytest.MonkeyPatch) -> None:
    """Python would wait for it, and the command would never end."""
    start, before = threading.Thread.start, set(threading.enumerate())

    def only_one(thread: threading.Thread) -> None:
        if set(threading.enumerate()) - before:
            raise RuntimeError("can't start new thread")
        start(thread)

    _workers.cache_clear()
    with monkeypatch.context() as patch, pytest.raises(RuntimeError, match="new thread"):
        patch.setattr(threading.Thread, "start", only_one)
        patch.setattr(torch, "get_num_threads", lambda: 2)
        measure(picture(16, 16, 8)[None], picture(16, 16, 8)[None])
    for thread in set(threading.enumerate()) - before:
        thread.join(5)
        assert not thread.is_alive()
