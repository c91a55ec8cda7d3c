"""What a network is likely to gain on a file, from what its decoder tells: a line fitted on the val set."""

import dataclasses
import itertools
import json
import math
from collections.abc import Mapping, Sequence
from importlib import resources

import numpy as np
from numpy.typing import NDArray

from carfix.errors import CarfixError

FILE_NAME = "gain_fit.json"

#: Terms that a fit may use; the combination of the least error on unseen clips is taken.
TERMS = ("quantizer", "quantizer^2", "log2 bits a pixel")
#: Clips that are needed before an error on unseen ones means anything.
FEWEST_CLIPS = 3


@dataclasses.dataclass(frozen=True)
class Point:
    """One measured variant of a clip."""

    clip: str
    quantizer: float  # mean over its frames
    bits_per_pixel: float
    gain: float  # dB


@dataclasses.dataclass(frozen=True)
class GainFit:
    """Predicts a network's PSNR gain; `error` is the root mean square on clips left out of the fit, in dB."""

    sha256: str  # of the network's tensors: another network needs another fit
    terms: tuple[str, ...]
    coefficients: tuple[float, ...]  # the constant, then one a term
    error: float
    clips: int
    variants: int
    quantizers: tuple[float, float]  # least and largest that were measured: no extrapolation beyond
    gains: tuple[float, float]  # least and largest that it predicts for what was measured, in dB: the same

    def predict(self, quantizer: float, bits_per_pixel: float, share: float = 1.0) -> float:
        """The gain in dB to expect where a restore takes `share` of the network's correction."""
        bounded = min(max(quantizer, self.quantizers[0]), self.quantizers[1])
        row = [1.0, *(_term(term, bounded, bits_per_pixel) for term in self.terms)]
        # A part of a correction takes this much of what all of it takes off the squared error, however few bits
        # a still picture needs.
        most = 1 - (1 - min(share, 1.0)) ** 2
        low, high = self.gains
        gain = min(max(float(np.dot(row, self.coefficients)), most * low), most * high)
        return gain or 0.0  # no -0.0


def _term(name: str, quantizer: float, bits_per_pixel: float) -> float:
    if name == "quantizer":
        return quantizer
    if name == "quantizer^2":
        return quantizer**2
    return math.log2(bits_per_pixel)


def fit_gain(points: Sequence[Point], sha256: str) -> GainFit:
    """Least squares over `points`; the terms are those that predict left-out clips best.

    Raises `CarfixError` for fewer than `FEWEST_CLIPS` clips.
    """
    clips = sorted({point.clip for point in points})
    if len(clips) < FEWEST_CLIPS:
        raise CarfixError(f"a fit of the gain needs at least {FEWEST_CLIPS} clips, not {len(clips)}")
    choices = [terms for count in range(1, len(TERMS) + 1) for terms in itertools.combinations(TERMS, count)]
    errors = {terms: _error_on_unseen(points, clips, terms) for terms in choices}
    best = min(choices, key=lambda terms: errors[terms])
    coefficients = _solve(points, best)
    predicted = _matrix(points, best) @ coefficients
    quantizers = [point.quantizer for point in points]
    return GainFit(
        sha256=sha256,
        terms=best,
        coefficients=tuple(coefficients),
        error=errors[best],
        clips=len(clips),
        variants=len(points),
        quantizers=(min(quantizers), max(quantizers)),
        gains=(float(predicted.min()), float(predicted.max())),
    )


def _matrix(points: Sequence[Point], terms: Sequence[str]) -> NDArray[np.float64]:
    return np.array(
        [[1.0, *(_term(term, point.quantizer, point.bits_per_pixel) for term in terms)] for point in points]
    )


def _solve(points: Sequence[Point], terms: Sequence[str]) -> list[float]:
    gains = np.array([point.gain for point in points])
    solution = np.linalg.lstsq(_matrix(points, terms), gains, rcond=None)[0]
    return [float(value) for value in solution]


def _error_on_unseen(points: Sequence[Point], clips: Sequence[str], terms: Sequence[str]) -> float:
    squares: list[float] = []
    for clip in clips:
        seen = [point for point in points if point.clip != clip]
        unseen = [point for point in points if point.clip == clip]
        predicted = _matrix(unseen, terms) @ _solve(seen, terms)
        squares += [(float(value) - point.gain) ** 2 for value, point in zip(predicted, unseen, strict=True)]
    return math.sqrt(sum(squares) / len(squares))


def fits_to_json(fits: Mapping[str, GainFit]) -> str:
    """The text of the file that comes with carfix, by network name."""
    return json.dumps({name: dataclasses.asdict(fit) for name, fit in sorted(fits.items())}, indent=1) + "\n"


def fits_from_json(text: str) -> dict[str, GainFit]:
    """What `fits_to_json` wrote."""
    return {
        name: GainFit(
            **{
                **fields,
                "terms": tuple(fields["terms"]),
                "coefficients": tuple(fields["coefficients"]),
                "quantizers": tuple(fields["quantizers"]),
                "gains": tuple(fields["gains"]),
            }
        )
        for name, fields in json.loads(text).items()
    }


def installed_fit(name: str, sha256: str) -> GainFit | None:
    """The fit for exactly this network, None if it was never made."""
    file = resources.files("carfix.quality").joinpath(FILE_NAME)
    fit = fits_from_json(file.read_text(encoding="utf-8")).get(name) if file.is_file() else None
    return fit if fit is not None and fit.sha256 == sha256 else None
