"""Validation during training: gain over the decoded frames on whole frames of clips that training never sees."""

import dataclasses
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from carfix.errors import CarfixError
from carfix.net.arch import RestorationNet
from carfix.net.ssim import mse, psnr_from_mse, ssim
from carfix.training.patches import FramePairs, to_codes, to_unit

#: Frames that the decoder gave better than this (dB) are left out: black and repeated frames have nothing to gain,
#: and tens of decibels to lose that nobody can see.
CLEAN_PSNR = 50.0


@dataclasses.dataclass(frozen=True)
class Gains:
    """Means over the validation frames, measured on rounded 8-bit codes."""

    psnr: float  # dB over the decoded frames
    ssim: float  # over the decoded frames
    worst: float  # dB: the smallest gain of a variant (all clips together)


@dataclasses.dataclass(frozen=True)
class _Frame:
    variant: str
    decoded: Tensor  # [1, 1, H, W] uint8
    pristine: Tensor
    psnr: float  # of the decoded frame
    ssim: float


class ValidationSet:
    """Up to `limit` frames, spread over all variants of all validation clips."""

    def __init__(self, pairs: Sequence[FramePairs], limit: int) -> None:
        ordered = sorted(pairs, key=lambda pair: (pair.variant, pair.clip))
        if len(ordered) > limit:
            ordered = [ordered[round(index)] for index in np.linspace(0, len(ordered) - 1, limit)]
        # One frame a pair; which one differs from pair to pair, so that all places of a GOP are seen.
        frames = [self._frame(pair, index) for index, pair in enumerate(ordered)]
        self._frames = [frame for frame in frames if frame.psnr < CLEAN_PSNR]
        if not self._frames:
            raise CarfixError("no validation frame is compressed enough to measure a gain on")

    @staticmethod
    def _frame(pair: FramePairs, index: int) -> _Frame:
        number = index % len(pair.decoded)
        decoded = torch.from_numpy(np.array(pair.decoded[number]))[None, None]
        pristine = torch.from_numpy(np.array(pair.pristine[number]))[None, None]
        x, y = decoded.float(), pristine.float()
        return _Frame(
            pair.variant, decoded, pristine, float(psnr_from_mse(mse(x, y), 255.0)), float(ssim(x, y, 255.0))
        )

    @torch.inference_mode()
    def measure(self, net: RestorationNet, device: torch.device, autocast: torch.dtype | None) -> Gains:
        """Gains of `net`; `autocast` is the type of mixed precision, None for fp32."""
        psnrs: dict[str, list[float]] = {}
        ssims: list[float] = []
        for frame in self._frames:
            with torch.autocast(device.type, autocast, enabled=autocast is not None):
                restored = restore_frame(net, frame.decoded.to(device))
            truth = frame.pristine.to(device).float()
            gain = float(psnr_from_mse(mse(restored, truth), 255.0)) - frame.psnr
            psnrs.setdefault(frame.variant, []).append(gain)
            ssims.append(float(ssim(restored, truth, 255.0)) - frame.ssim)
        every = [gain for gains in psnrs.values() for gain in gains]
        worst = min(float(np.mean(gains)) for gains in psnrs.values())
        return Gains(float(np.mean(every)), float(np.mean(ssims)), worst)


def restore_frame(net: RestorationNet, codes: Tensor) -> Tensor:
    """Whole 8-bit frames `[N, 1, H, W]` through `net` to rounded codes; any size."""
    height, width = codes.shape[-2:]
    cell = net.config.scale
    padding = (0, -width % cell, 0, -height % cell)
    x = functional.pad(to_unit(codes), padding, mode="replicate")
    return to_codes(net(x))[..., :height, :width]
