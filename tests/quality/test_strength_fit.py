import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from engines import Adding
from skimage.metrics import structural_similarity

from carfix.errors import CarfixError
from carfix.quality.strength_fit import (
    COARSE,
    FINE,
    KNOTS,
    MOST,
    SHARES,
    Sample,
    fit_curve,
    mean_gain,
    place_of,
    sample_of,
)
from carfix.restore.strength import Curve


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


def test_a_network_for_structure_has_the_curve_of_the_highest_ssim() -> None:
    """Its best share is known: 0.8 below quantizer 34, 1.1 above. By squared errors it would be half of all."""
    found = [
        Sample(
            quantizer,
            error=50,
            gain=1,
            power=2,
            structure=tuple(0.9 - 0.01 * (share - (0.8 if quantizer < 34 else 1.1)) ** 2 for share in SHARES),
        )
        for quantizer in np.linspace(10, 33, 80).tolist() + np.linspace(38, 50, 40).tolist()
    ]
    curve = fit_curve(found, "")
    assert curve.at(COARSE) == pytest.approx(0.8, abs=0.03) and curve.at(44) == pytest.approx(1.1, abs=0.03)
    assert curve.at(20) == pytest.approx(0.4, abs=0.03)  # half of the way from FINE to COARSE


def test_samples_measure_ssim_with_each_share() -> None:
    rng = np.random.default_rng(5)
    pristine = rng.integers(40, 200, (32, 48)).astype(np.uint8)
    decoded = (pristine + rng.integers(-12, 12, pristine.shape)).astype(np.uint8)
    engine = Adding(20 * 257)  # of 16 bits: 20 codes
    sample = sample_of(engine, 30, decoded, pristine, structure=True)
    wanted = [
        structural_similarity(
            decoded + 20 * share,
            pristine.astype(float),
            data_range=255,
            gaussian_weights=True,
            sigma=1.5,
            use_sample_covariance=False,
        )
        for share in SHARES
    ]
    assert wanted[0] > wanted[-1] + 0.01
    assert sample.structure == pytest.approx(wanted, abs=1e-6)
    assert sample_of(engine, 30, decoded, pristine).structure == ()


def test_no_frame_takes_so_much_that_it_flickers() -> None:
    assert max(fit_curve([Sample(44, error=50, gain=5, power=2)] * 60, "").strengths) == MOST


def test_a_network_of_ones_own_takes_no_installed_ones_place() -> None:
    """`carfix train --arch fast` calls its weights `fast`."""
    curves = {"fast": Curve("shipped", KNOTS, (1.0,) * len(KNOTS))}
    assert place_of(curves, "fast", "0123456789", {"shipped"}) == "fast-01234567"
    assert place_of(curves, "fast", "shipped", {"shipped"}) == "fast"
    assert place_of(curves, "fast", "newer", {"newer"}) == "fast", (
        "of weights that have replaced the old ones"
    )
    assert place_of(curves, "mine", "0123456789", {"shipped"}) == "mine"


def test_too_few_frames_are_refused() -> None:
    with pytest.raises(CarfixError, match="at least 50 frames, not 3"):
        fit_curve(samples(count=3), "")


@pytest.mark.parametrize(
    ("dataset", "code", "words"),
    [("nowhere", 1, "is not a dataset"), (".", 2, "run it in the top folder of a clone")],
)
def test_the_program_that_docs_train_names_says_what_is_wrong(
    dataset: str, code: int, words: str, tmp_path: Path
) -> None:
    top = Path(__file__).parents[2]
    ran = subprocess.run(
        [sys.executable, top / "bench" / "fit_strength.py", dataset, "-m", "tiny"],
        cwd=top if code == 1 else tmp_path,
        env=os.environ | {"PYTHONPATH": str(top)},
        capture_output=True,
        text=True,
    )
    assert ran.returncode == code
    assert words in ran.stderr
    assert "Traceback" not in ran.stderr
