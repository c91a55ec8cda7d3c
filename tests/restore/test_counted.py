"""Encoders that count frames keep their times through a pipe, too."""

import io
from pathlib import Path

import media
import pytest
from engines import Adding

from carfix.restore.models import EngineChoice
from carfix.restore.pipe import restore_pipe
from carfix.video.encoder_settings import EncoderSettings


@pytest.mark.parametrize("suffix", [".ts", ".mkv", ".mp4"])
@pytest.mark.parametrize("bf", ["0", "2"])
def test_mpeg2_keeps_times_that_are_not_its_own(bf: str, suffix: str, tmp_path: Path) -> None:
    """They were rounded to its 25 frames a second, and where two became one the run failed."""
    times = [1000 + 40 * i + (0, 7, 31, 2)[i % 4] for i in range(20)]
    source = media.write_clip(tmp_path / "in.nut", times=times, time_base=media.Fraction(1, 1000))
    output = tmp_path / f"out{suffix}"
    encoder = EncoderSettings(codec="mpeg2video", options={"b": "4M", "bf": bf})
    restore_pipe(
        source=io.BytesIO(source.read_bytes()),
        output=output,
        encoder=encoder,
        choice=EngineChoice(model=Adding(0)),
    )
    assert media.frame_times(output) == media.frame_times(source)
