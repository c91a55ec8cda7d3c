"""Fits the share of a network's correction that frames should take to the quantizer that they were encoded with."""

import dataclasses
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from carfix.errors import CarfixError
from carfix.restore.engine import Engine
from carfix.restore.strength import Curve

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


def sample_of(
    engine: Engine, quantizer: float, decoded: NDArray[np.uint8], pristine: NDArray[np.uint8]
) -> Sample:
    """What shares of the correction of `engine` do to a part of a frame, `[H, W]` in 8-bit codes."""
    missing = pristine.astype(np.float64) - decoded
    fine = decoded.astype(np.uint16) * _FINE
    correction = (engine.restore(fine[None], 16)[0].astype(np.float64) - fine) / _FINE
    return Sample(
        quantizer,
        error=float((missing**2).mean()),
        gain=float((correction * missing).mean()),
        power=float((correction**2).mean()),
    )


def random_part(shape: tuple[int, ...], rng: np.random.Generator) -> tuple[slice, slice]:
    """Rows and columns of a part of a picture of `shape`, aligned to macroblocks."""
    top, left = (int(rng.integers(max(1, (size - SIDE) // 16 + 1))) * 16 for size in shape)
    return np.s_[top : top + SIDE, left : left + SIDE]


def fit_curve(samples: Sequence[Sample], sha256: str, *, structure: bool = False) -> Curve:
    """The curve of the highest mean PSNR over `samples`, with two precautions: `MOST` and `FINE`.

    A network that was trained for `structure` (SSIM) gives up PSNR for it: coarse frames take all of its correction
    even where less of it would have the higher PSNR.

    Raises `CarfixError` if they are too few.
    """
    if len(samples) < FEWEST_FRAMES:
        raise CarfixError(f"a curve of strengths needs at least {FEWEST_FRAMES} frames, not {len(samples)}")
    quantizers, error, gain, power = (
        np.array([getattr(sample, field.name) for sample in samples]) for field in dataclasses.fields(Sample)
    )
    # Shares are linear in those at the knots, and errors are quadratic in the shares. The logarithm lies below each of
    # its tangents: least squares with weights from the last solution never make its mean larger.
    basis = np.stack([np.interp(quantizers, KNOTS, row) for row in np.eye(len(KNOTS))], axis=1)
    knots = np.ones(len(KNOTS))
    for _ in range(ITERATIONS):
        share = basis @ knots
        weight = 1 / (error - 2 * share * gain + share**2 * power + ROUNDING)
        squares = basis.T @ (basis * (weight * power)[:, None])
        # A knot that no frame is near stays at 1.
        squares += np.eye(len(KNOTS)) * FAINT * np.trace(squares)
        products = basis.T @ (weight * gain) + FAINT * np.trace(squares)
        knots = np.linalg.solve(squares, products).clip(0.0, MOST)
    if structure:
        knots = np.where(np.array(KNOTS) >= COARSE, knots.clip(1.0), knots)
    knots *= np.interp(KNOTS, (FINE, COARSE), (0.0, 1.0))
    return Curve(sha256, KNOTS, tuple(round(float(share), 3) for share in knots))


def mean_gain(samples: Sequence[Sample], curve: Curve | None) -> float:
    """PSNR over the decoded frames in dB, mean over `samples`; without a curve, with all of the correction."""
    gains = []
    for sample in samples:
        share = 1.0 if curve is None else curve.at(sample.quantizer)
        left = sample.error - 2 * share * sample.gain + share**2 * sample.power
        gains.append(10 * np.log10((sample.error + ROUNDING) / (left + ROUNDING)))
    return float(np.mean(gains))
