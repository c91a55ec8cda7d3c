"""PSNR and SSIM of luma planes, frame by frame (docs/compare.md): codes in, numbers out.

Both are computed by `carfix.net.ssim`, the implementation that also serves as training loss.
"""

import dataclasses
import functools
import os
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch
from numpy.typing import NDArray

from carfix.errors import CarfixError
from carfix.net.ssim import PSNR_IDENTICAL, WINDOW, psnr, ssim
from carfix.restore.engine import Planes, check_device
from carfix.restore.engine.crew import Crew

#: Raised whenever a change of this file or of `carfix.net.ssim` may change a number: caches depend on it.
METRICS_VERSION = 1

#: Pixels that are measured at once. A CPU gains nothing from more than one 1080p frame; an accelerator does.
CPU_PIXELS = 1920 * 1080
ACCELERATOR_PIXELS = 16 * CPU_PIXELS

Numbers = NDArray[np.float64]


@dataclasses.dataclass(frozen=True)
class FrameQuality:
    """PSNR in dB and SSIM of frames against their references, each `[N]`."""

    psnr: Numbers
    ssim: Numbers

    def __len__(self) -> int:
        return len(self.psnr)

    @property
    def identical(self) -> int:
        """Number of frames that equal their reference, counted as `PSNR_IDENTICAL` dB."""
        return int(np.count_nonzero(self.psnr == PSNR_IDENTICAL))

    @classmethod
    def concatenate(cls, parts: Iterable["FrameQuality"]) -> "FrameQuality":
        """One record of all frames of `parts`, in their order."""
        parts = list(parts)
        empty = np.empty(0)
        return cls(
            psnr=np.concatenate([empty, *(part.psnr for part in parts)]),
            ssim=np.concatenate([empty, *(part.ssim for part in parts)]),
        )


def peak(bit_depth: int) -> int:
    """The largest code of `bit_depth` bits: the peak of PSNR and the dynamic range of SSIM."""
    return (1 << bit_depth) - 1


def metrics_device(device: str) -> str:
    """Where to measure while networks run on `device`: on CUDA if they do, else on the CPU.

    Raises `UsageError` for a device that there is none of, `MissingPartError` for one that this machine lacks.
    """
    check_device(device, "auto")
    if device == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    return device if device.startswith("cuda") else "cpu"


def measure(
    reference: Planes,
    candidate: Planes,
    *,
    bit_depth: int = 8,
    candidate_bit_depth: int | None = None,
    device: str | torch.device = "cpu",
) -> FrameQuality:
    """PSNR and SSIM of each frame of `candidate` against `reference`, both `[N, H, W]` codes.

    `bit_depth` is the reference's; a candidate of another depth is compared at the deeper of the two, the
    shallower codes shifted up. Raises `CarfixError` for shapes that differ or are smaller
    than SSIM's window.
    """
    if reference.shape != candidate.shape:
        raise CarfixError(
            f"frames of {_size(reference)} cannot be compared with frames of {_size(candidate)}"
        )
    if min(reference.shape[1:]) < WINDOW:
        raise CarfixError(
            f"frames of {_size(reference)} are smaller than the {WINDOW}x{WINDOW} window of SSIM"
        )
    candidate_bit_depth = candidate_bit_depth or bit_depth
    depth = max(bit_depth, candidate_bit_depth)
    device = torch.device(device)
    budget = CPU_PIXELS if device.type == "cpu" else ACCELERATOR_PIXELS
    step = max(1, budget // (reference.shape[1] * reference.shape[2]))

    def batch(first: int) -> FrameQuality:
        frames = slice(first, first + step)
        with torch.inference_mode():
            x = _tensor(reference[frames], depth - bit_depth, device)
            y = _tensor(candidate[frames], depth - candidate_bit_depth, device)
            return FrameQuality(
                psnr=psnr(x, y, peak(depth)).numpy(),
                ssim=ssim(x, y, peak(depth)).cpu().numpy().astype(np.float64),
            )

    starts = range(0, len(reference), step)
    if device.type == "cpu":
        return FrameQuality.concatenate(_workers(torch.get_num_threads(), os.getpid()).map(batch, starts))
    return FrameQuality.concatenate(map(batch, starts))


@functools.lru_cache(maxsize=1)
def _workers(threads: int, process: int) -> ThreadPoolExecutor:
    """Threads that each compute frames of their own, with one torch thread.

    Splitting every small product over all cores costs a barrier a product: a tenth of the speed, or far less,
    as soon as anything else runs on the machine. A fork is a `process` that has the pool, and none of its threads.
    """

    def single() -> None:
        torch.set_num_threads(1)  # of this thread, and of threads started later
        torch.get_num_threads()  # what a thread has not asked for by then, it would take from everyone's below

    try:
        return Crew(threads).pool(single)
    finally:
        torch.set_num_threads(threads)  # again as it was for everyone else


def _tensor(planes: Planes, shift: int, device: torch.device) -> torch.Tensor:
    """`[N, H, W]` codes as `[N, 1, H, W]` on `device`, shifted up by `shift` bits."""
    if shift:
        planes = planes.astype(np.uint16) << np.uint16(shift)
    # Codes travel as they are (a byte a pixel); the arithmetic converts strip by strip.
    tensor = torch.from_numpy(np.ascontiguousarray(planes))[:, None]
    if device.type == "cpu":
        return tensor
    # No accelerator computes with 16-bit unsigned codes.
    return (tensor if tensor.dtype == torch.uint8 else tensor.int()).to(device)


def _size(planes: Planes) -> str:
    return f"{planes.shape[2]}x{planes.shape[1]}"
