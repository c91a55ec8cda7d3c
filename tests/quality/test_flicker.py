import numpy as np
import pytest

from carfix.quality.flicker import Flicker


def judge(pristine: np.ndarray, shown: np.ndarray, **depths: int) -> Flicker:
    flicker = Flicker()
    for reference, frame in zip(pristine, shown, strict=True):
        flicker.add(reference, frame, **depths)
    return flicker


def test_only_what_is_static_in_the_pristine_clip_counts() -> None:
    pristine = np.full((3, 16, 32), 100, np.uint8)
    pristine[1, :, 16:] = 200  # the right half moves
    shown = pristine.copy()
    shown[1, :, :16] += 3  # the left half pulses by three codes, up and down again
    flicker = judge(pristine, shown)
    assert flicker.static_pixels == 2 * 16 * 16
    assert flicker.pristine == 0
    assert flicker.shown == pytest.approx(3)


def test_a_scene_without_static_regions_has_no_figure() -> None:
    pristine = np.stack([np.full((16, 16), value, np.uint8) for value in (10, 200, 10)])
    flicker = judge(pristine, pristine)
    assert flicker.static_pixels == 0
    assert flicker.shown is None and flicker.pristine is None


def test_figures_of_10_bit_clips_are_in_8_bit_codes() -> None:
    pristine = np.full((2, 16, 16), 400, np.uint16)
    shown = pristine.copy()
    shown[1] += 8
    assert judge(pristine, shown, bit_depth=10, shown_bit_depth=10).shown == pytest.approx(2)
