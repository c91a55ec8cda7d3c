"""H.263 (phones, recorders of the nineties): FFmpeg flags all of its packets as keyframes in Matroska and AVI."""

from pathlib import Path

import media
import numpy as np
import pytest
from jobs import LOSSLESS, restore


@pytest.mark.parametrize("codec", ["h263", "h263p"])
def test_a_part_shows_the_pictures_of_the_whole(codec: str, tmp_path: Path) -> None:
    """Decoding began at a picture that needs the ones before, and showed scraps until the next whole one."""
    source = media.write_clip(
        tmp_path / "in.avi",
        codec=codec,
        width=176,
        height=144,
        frames=30,
        options={"g": "12"},
        time_base=media.Fraction(1, 25),
    )
    restore(source, tmp_path / "out.mkv", start=0.64, encoder=LOSSLESS)
    part, whole = media.planes(tmp_path / "out.mkv"), media.planes(source)
    assert len(part) == 14
    for one, other in zip(part, whole[16:], strict=True):
        assert np.array_equal(one, other)
