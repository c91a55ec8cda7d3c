import numpy as np
import pytest

from carfix.errors import CarfixError
from carfix.quality.strength_fit import COARSE, FINE, KNOTS, MOST, Sample, fit_curve, mean_gain


def samples(count: int = 400) -> list[Sample]:
    """Frames for which the best share is known: 0.02 of it a quantizer."""
    rng = np.random.default_rng(3)
    found = []
    for quantizer in rng.uniform(5, 50, count):
        power = rng.uniform(0.5, 20)
        share = np.interp(quantizer, KNOTS, 0.02 * np.array(KNOTS))
        found.append(Sample(quantizer, error=100 * power, gain=share * power, power=power))
    return found


def test_the_best_share_is_found() -> None:
    found = samples()
    curve = fit_curve(found, "abc")
    assert curve.sha256 == "abc"
    rise = np.interp(KNOTS, (FINE, COARSE), (0, 1))
    assert curve.strengths == pytest.approx(0.02 * np.array(KNOTS) * rise, abs=0.002)
    assert curve.at(FINE) == curve.at(0) == 0
    assert mean_gain(found, curve) > mean_gain(found, None)


def test_fine_frames_count_as_much_as_coarse_ones() -> None:
    """PSNR is a logarithm: a code's error in a fine frame is worth a hundred in a coarse one."""
    fine = [Sample(33, error=1, gain=0.2, power=1)] * 60
    coarse = [Sample(33, error=100, gain=20, power=20)] * 60
    both = fit_curve(fine + coarse, "").at(33)
    assert 0.35 < both < 0.75  # by squared errors alone it would be 0.96
    assert mean_gain(fine + coarse, fit_curve(fine + coarse, "")) > 0


def test_a_quantizer_without_frames_takes_corrections_as_they_are() -> None:
    curve = fit_curve([Sample(44, error=50, gain=2.2, power=2)] * 60, "")
    assert curve.at(30) == pytest.approx(1, abs=0.01)
    assert curve.at(45) == pytest.approx(1.1, abs=0.02)


def test_a_network_for_structure_is_not_held_back_on_coarse_frames() -> None:
    found = [Sample(quantizer, error=50, gain=1, power=2) for quantizer in np.linspace(10, 45, 100)]
    plain, structure = fit_curve(found, ""), fit_curve(found, "", structure=True)
    assert plain.at(40) == pytest.approx(0.5, abs=0.01) and structure.at(40) == structure.at(COARSE) == 1
    assert structure.at(20) == plain.at(20) < 0.5


def test_no_frame_takes_so_much_that_it_flickers() -> None:
    assert max(fit_curve([Sample(44, error=50, gain=5, power=2)] * 60, "").strengths) == MOST


def test_too_few_frames_are_refused() -> None:
    with pytest.raises(CarfixError, match="at least 50 frames, not 3"):
        fit_curve(samples(count=3), "")
