"""Fits the share of a network's correction that frames should take to the quantizer that they were encoded with."""

import dataclasses
from collections.abc import Container, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from carfix.errors import CarfixError
from carfix.net.ssim import ssim
from carfix.quality.reader import read_frames
from carfix.restore.engine import Engine
from carfix.restore.strength import Curve, Level

#: Quantizers at which a curve has its points: six double the step.
KNOTS = (12.0, 16.0, 20.0, 24.0, 28.0, 33.0, 38.0, 44.0)
#: Rounding to codes leaves this mean squared error, in codes squared.
ROUNDING = 1 / 12
#: Largest share of a curve: with more, static regions flicker more than in the decoded video (`tiny` at 1.4 did).
MOST = 1.25
#: Between these quantizers a curve rises from nothing to what was fitted. Fine frames of video that was compressed
#: before it became the source lose by the fitted share (0.2 dB at CRF 15), and nobody asks to have them restored.
FINE, COARSE = 12.0, 28.0
#: Side of the part of a frame that is looked at, in pixels.
SIDE = 256
#: 8-bit codes as 16-bit ones, exactly: an engine then returns parts of a code.
_FINE = 65535 // 255
#: Rounds of the fit; ten change nothing any more.
ITERATIONS = 30
#: Weight of staying at 1, as a share of all the frames' weight.
FAINT = 1e-6
#: Shares for which SSIM is measured, and the grid between them on which a curve for SSIM has its points.
SHARES = (0.0, 0.25, 0.5, 0.75, 1.0, 1.25)
STEP = 0.025
#: Less of a rise in mean SSIM than this is none.
TIE = 1e-9
#: Frames that are needed before a curve means anything.
FEWEST_FRAMES = 50


@dataclasses.dataclass(frozen=True)
class Sample:
    """One frame, or a part of it: what a share `s` of the correction does to its squared error.

    The mean squared error, in codes, is `error - 2 s gain + s^2 power`.
    """

    quantizer: float
    error: float  # mean squared, as decoded
    gain: float  # mean product of the correction and of what is missing
    power: float  # mean square of the correction
    structure: tuple[float, ...] = ()  # SSIM with each of `SHARES`, where it was asked for


def sample_of(
    engine: Engine,
    quantizer: float,
    decoded: NDArray[np.uint8],
    pristine: NDArray[np.uint8],
    *,
    structure: bool = False,
) -> Sample:
    """What shares of the correction of `engine` do to a part of a frame, `[H, W]` in 8-bit codes."""
    missing = pristine.astype(np.float64) - decoded
    correction = correction_of(engine, decoded)
    return Sample(
        quantizer,
        error=float((missing**2).mean()),
        gain=float((correction * missing).mean()),
        power=float((correction**2).mean()),
        structure=_structures(decoded, correction, pristine) if structure else (),
    )


def correction_of(engine: Engine, decoded: NDArray[np.uint8]) -> NDArray[np.float64]:
    """All of what the network of `engine` adds to a plane `[H, W]`, in 8-bit codes and parts of them."""
    fine = decoded.astype(np.uint16) * _FINE
    restored: NDArray[np.float64] = engine.restore(fine[None], 16)[0].astype(np.float64)
    return (restored - fine) / _FINE


def _structures(
    decoded: NDArray[np.uint8], correction: NDArray[np.float64], pristine: NDArray[np.uint8]
) -> tuple[float, ...]:
    shown = (decoded + np.multiply.outer(SHARES, correction)).clip(0, 255)[:, None]
    wanted = np.broadcast_to(pristine.astype(np.float64), shown.shape)
    found = ssim(torch.from_numpy(shown), torch.from_numpy(wanted.copy()), 255.0)
    return tuple(found.flatten().tolist())


def random_parts(
    path: Path, pristine: NDArray[np.uint8], wanted: Container[int], rng: np.random.Generator
) -> Iterator[tuple[float, NDArray[np.uint8], NDArray[np.uint8]]]:
    """Of the `wanted` frames of a video: the level that a restore goes by, and a part decoded and pristine.

    In 8-bit codes. `pristine` is `[N, H, W]`, the parts are aligned to macroblocks. Frames that tell no quantizer
    are left out. Raises `CarfixError` for a file that cannot be read.
    """
    level = Level()
    for frame in read_frames(path, quantizers=True):
        quantizer = None if frame.picture is None else level(frame.picture)
        if frame.index not in wanted or quantizer is None:
            continue
        top, left = (int(rng.integers(max(1, (size - SIDE) // 16 + 1))) * 16 for size in frame.luma.shape)
        part = np.s_[top : top + SIDE, left : left + SIDE]
        yield quantizer, frame.luma[part].astype(np.uint8, copy=False), pristine[frame.index][part]


def fit_curve(samples: Sequence[Sample], sha256: str) -> Curve:
    """The curve of the highest mean PSNR over `samples`, with two precautions: `MOST` and `FINE`.

    Where the samples say what shares do to SSIM, it is the curve of the highest mean SSIM: for networks that were
    trained for it, which give up PSNR.

    Raises `CarfixError` if they are too few.
    """
    if len(samples) < FEWEST_FRAMES:
        raise CarfixError(
            f"a curve of strengths needs at least {FEWEST_FRAMES} frames, not {len(samples)}: take more of each clip, "
            "or more clips"
        )
    quantizers = np.array([sample.quantizer for sample in samples])
    # Shares are linear in those at the knots.
    basis = np.stack([np.interp(quantizers, KNOTS, row) for row in np.eye(len(KNOTS))], axis=1)
    knots = _best_structure(samples, basis) if samples[0].structure else _best_psnr(samples, basis)
    knots *= np.interp(KNOTS, (FINE, COARSE), (0.0, 1.0))
    return Curve(sha256, KNOTS, tuple(round(float(share), 3) for share in knots))


def place_of(curves: Mapping[str, Curve], name: str, sha256: str, installed: Container[str]) -> str:
    """Under which name the curve of a network called `name` goes among `curves`, which are found by `sha256`.

    That of another network of this name is replaced, unless that one is among the `installed`, by their SHA-256:
    `fast` is what a training of one's own calls its weights, too.
    """
    there = curves.get(name)
    if there is None or there.sha256 == sha256 or there.sha256 not in installed:
        return name
    return f"{name}-{sha256[:8]}"


def _best_psnr(samples: Sequence[Sample], basis: NDArray[np.float64]) -> NDArray[np.float64]:
    """Errors are quadratic in the shares, and the logarithm lies below each of its tangents.

    So least squares with weights from the last solution never make its mean larger.
    """
    error, gain, power = np.array([(sample.error, sample.gain, sample.power) for sample in samples]).T
    knots = np.ones(len(KNOTS))
    for _ in range(ITERATIONS):
        share = basis @ knots
        weight = 1 / (error - 2 * share * gain + share**2 * power + ROUNDING)
        squares = basis.T @ (basis * (weight * power)[:, None])
        # A knot that no frame is near stays at 1.
        squares += np.eye(len(KNOTS)) * FAINT * np.trace(squares)
        products = basis.T @ (weight * gain) + FAINT * np.trace(squares)
        knots = np.linalg.solve(squares, products).clip(0.0, MOST)
    return knots


def _best_structure(samples: Sequence[Sample], basis: NDArray[np.float64]) -> NDArray[np.float64]:
    """One knot after another, over and over, until none has a better place on a fine grid."""
    # SSIM over the share, smooth enough for a cubic.
    cubics = np.polyfit(SHARES, np.array([sample.structure for sample in samples]).T, 3)
    grid = np.arange(0, MOST + STEP / 2, STEP)
    knots = np.ones(len(KNOTS))  # where one that no frame is near stays
    best = np.polyval(cubics, basis @ knots).mean()
    for _ in range(ITERATIONS):
        before = knots.copy()
        for index in range(len(KNOTS)):
            for share in grid:
                tried = knots.copy()
                tried[index] = share
                value = np.polyval(cubics, basis @ tried).mean()
                if value > best + TIE:
                    best, knots = value, tried
        if np.array_equal(knots, before):
            break
    return knots


def mean_gain(samples: Sequence[Sample], curve: Curve | None) -> float:
    """PSNR over the decoded frames in dB, mean over `samples`; without a curve, with all of the correction."""
    gains = []
    for sample in samples:
        share = 1.0 if curve is None else curve.at(sample.quantizer)
        left = sample.error - 2 * share * sample.gain + share**2 * sample.power
        gains.append(10 * np.log10((sample.error + ROUNDING) / (left + ROUNDING)))
    return float(np.mean(gains))
