"""Encoders that count frames keep their times through a pipe, too."""

import dataclasses
import io
from pathlib import Path

import av
import media
import numpy as np
import pytest
from av.video.frame import VideoFrame
from engines import Adding
from jobs import restore

from carfix.restore.models import EngineChoice
from carfix.restore.pipe import restore_pipe
from carfix.video.encoder import resolve_encoding
from carfix.video.encoder_settings import EncoderSettings
from carfix.video.source import probe


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


@pytest.mark.parametrize("codec", ["mpeg4", "mpeg2video", "flv"])
@pytest.mark.parametrize("time_base", [media.Fraction(1, 12800), media.Fraction(1, 25)])
@pytest.mark.parametrize("bitrate", ["200k", None])
def test_the_bit_rate_is_the_one_that_is_asked_for(
    bitrate: str | None, time_base: media.Fraction, codec: str, tmp_path: Path
) -> None:
    """Their rate control takes times for numbers: on MP4's clock, and in later segments, it spent far too much.

    Without one it is FFmpeg's default, about which a line is said: none at all was their coarsest quantizer.
    """
    noise = np.random.default_rng(0)

    def noisy(index: int) -> VideoFrame:
        frame = media.picture(index)
        frame.planes[0].update(noise.integers(90, 160, frame.planes[0].buffer_size, np.uint8).tobytes())
        return frame

    source = media.write_clip(
        tmp_path / "in.nut", codec="ffv1", frames=200, time_base=time_base, pictures=noisy
    )
    encoder = EncoderSettings(codec=codec, bitrate=bitrate)
    report = restore(source, tmp_path / "out.avi", encoder=encoder, segment_seconds=4)
    with av.open(str(tmp_path / "out.avi")) as container:
        bits = 8 * sum(packet.size for packet in container.demux(video=0))
    assert bits / 8 == pytest.approx(200_000, rel=0.15)
    assert any("200 kb/s" in line for line in report.warnings) == (bitrate is None)


def test_a_mean_rate_that_mpeg4_refuses_to_count_by(tmp_path: Path) -> None:
    """Of a variable rate: its clock's numbers have 16 bits, and those of Matroska's times fit."""
    info = probe(media.write_clip(tmp_path / "in.mkv", time_base=media.Fraction(1, 1000)))
    info = dataclasses.replace(info, rate=media.Fraction(17_460_000, 724_381))
    assert resolve_encoding(info, EncoderSettings(codec="mpeg4")).time_base == info.time_base
