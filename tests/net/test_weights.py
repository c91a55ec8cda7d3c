"""The weights that ship: their cards are theirs, and they restore what was compressed without harming the rest."""

import re
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

import carfix
from carfix.net.catalog import installed
from carfix.net.config import multiply_adds_per_pixel
from carfix.quality.methods import open_restored
from carfix.training.encoding import Encoding, encode
from carfix.training.sources import read_video

DATA = Path(__file__).parents[1] / "data"
CARDS = Path(__file__).parents[2] / "weights"
FRAMES = 4
#: Those that a CPU restores some frames of in no time.
SMALL = ("tiny", "fast", "medium")


@pytest.fixture(scope="module")
def pristine() -> np.ndarray:
    return read_video(DATA / "highway_pristine.mp4", size=None, start=0, frames=FRAMES)[0]


def psnr(shown: np.ndarray, pristine: np.ndarray) -> float:
    return float(10 * np.log10(255**2 / np.square(shown.astype(float) - pristine).mean()))


@pytest.mark.parametrize("name", sorted(installed()))
def test_a_card_is_of_the_weights_beside_it(name: str) -> None:
    card = (CARDS / f"{name}.md").read_text()
    model = carfix.load_model(name)
    stated = re.search(r"SHA-256 of the tensors \| `([0-9a-f]{64})`", card)
    assert stated and stated[1] == model.description.sha256
    assert f"{sum(p.numel() for p in model.net.parameters()):,}" in card
    assert f"{round(multiply_adds_per_pixel(model.config)):,}" in card


@pytest.mark.parametrize("name", SMALL)
@pytest.mark.parametrize(("crf", "least"), [(20, -0.05), (29, 0.05), (38, 0.1)])
def test_the_shipped_networks_gain(
    name: str, crf: int, least: float, pristine: np.ndarray, tmp_path: Path
) -> None:
    stream = tmp_path / "stream.mp4"
    encode(stream, pristine, Fraction(25), Encoding(crf=crf))
    decoded, _ = read_video(stream, size=None, start=0, frames=FRAMES)
    restored = open_restored(name, device="cpu")
    shown = np.stack([frame.luma for frame in restored.frames(stream)])
    restored.close()
    assert psnr(shown, pristine) - psnr(decoded, pristine) > least
