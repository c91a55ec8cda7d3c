"""Frames per second of carfix's PSNR and SSIM beside scikit-image's, on 1080p luma on the CPU.

The two take turns, so that other load on the machine hits both; the medians of the rounds are compared.

    python bench/compare_speed.py [--rounds 9] [--threads N] [--json]
"""

import argparse
import json
import platform
import statistics
import time
from collections.abc import Callable

import numpy as np
import skimage
import torch
from numpy.typing import NDArray
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from carfix.quality.metrics import measure

HEIGHT, WIDTH = 1080, 1920
#: Frames a round: what `carfix compare` measures at once.
BATCH = 4


def frames() -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """A textured picture and a noisy copy, `[H, W]`."""
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:HEIGHT, :WIDTH]
    picture = 128 + 60 * np.sin(x / 37) * np.cos(y / 23) + 30 * ((x // 32 + y // 32) % 2)
    noisy = picture + rng.normal(0, 4, picture.shape)
    return np.clip(picture, 0, 255).astype(np.uint8), np.clip(noisy, 0, 255).astype(np.uint8)


def by_scikit_image(x: NDArray[np.uint8], y: NDArray[np.uint8]) -> tuple[float, float]:
    psnr = peak_signal_noise_ratio(x, y, data_range=255)
    ssim = structural_similarity(
        x, y, gaussian_weights=True, sigma=1.5, use_sample_covariance=False, data_range=255
    )
    return float(psnr), float(ssim)


def by_carfix(x: NDArray[np.uint8], y: NDArray[np.uint8]) -> tuple[float, float]:
    quality = measure(x, y)
    return float(quality.psnr[0]), float(quality.ssim[0])


def seconds(function: Callable[[], object]) -> float:
    start = time.perf_counter()
    function()
    return time.perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    x, y = frames()
    batch = np.stack([x] * BATCH), np.stack([y] * BATCH)
    expected, got = by_scikit_image(x, y), by_carfix(*batch)  # also warms both up
    times: dict[str, list[float]] = {"scikit-image": [], "carfix": []}
    for _ in range(arguments.rounds):
        times["scikit-image"].append(seconds(lambda: [by_scikit_image(x, y) for _ in range(BATCH)]))
        times["carfix"].append(seconds(lambda: by_carfix(*batch)))
    fps = {name: BATCH / statistics.median(values) for name, values in times.items()}
    result = {
        "size": f"{WIDTH}x{HEIGHT}",
        "rounds": arguments.rounds,
        "threads": arguments.threads,
        "processor": platform.processor() or platform.machine(),
        "versions": {"scikit-image": skimage.__version__, "torch": torch.__version__},
        "frames_per_second": fps,
        "ratio": fps["carfix"] / fps["scikit-image"],
        "difference": {"psnr": abs(expected[0] - got[0]), "ssim": abs(expected[1] - got[1])},
    }
    if arguments.json:
        print(json.dumps(result, indent=1))
        return
    print(f"PSNR and SSIM of {result['size']} luma, {arguments.threads} threads, {arguments.rounds} rounds")
    for name, value in fps.items():
        print(f"{name:>14} {value:7.2f} frames/s (fastest round {BATCH / min(times[name]):.2f})")
    print(f"{'ratio':>14} {result['ratio']:7.2f}")
    print(f"   differences psnr {abs(expected[0] - got[0]):.1e} dB, ssim {abs(expected[1] - got[1]):.1e}")


if __name__ == "__main__":
    main()
