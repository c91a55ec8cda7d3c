"""What is asked of an encoder where the user does not say how good it shall be."""

import dataclasses
from pathlib import Path

import media
import pytest

from carfix.errors import CarfixError, UsageError
from carfix.video.encoder import resolve_encoding
from carfix.video.encoder_settings import EncoderSettings, check_settings
from carfix.video.source import probe


@pytest.mark.parametrize(
    ("options", "crf"), [({}, "17"), ({"lossless": "1"}, None), ({"global_quality": "3"}, None)]
)
def test_the_default_quality_gives_way_to_the_users(options: dict[str, str], crf: str | None) -> None:
    """VP9 without loss was refused for a quality of 17 that nobody had asked for."""
    settings = EncoderSettings(codec="libvpx-vp9", options=options)
    check_settings(settings)
    assert settings.to_options().get("crf") == crf


@pytest.mark.parametrize(
    ("codec", "key", "value", "crf"),
    [
        ("libx264", "x264-params", "keyint=50", "17"),
        ("libx264", "x264-params", "keyint=50:crf=30", None),
        ("libx264", "x264opts", "bitrate=500", None),
        ("libx265", "x265-params", "lossless=1", None),
        ("libsvtav1", "svtav1-params", "tune=0:rc=1:tbr=500", None),
    ],
)
def test_and_to_what_they_ask_for_within_the_encoders_own_text(
    codec: str, key: str, value: str, crf: str | None
) -> None:
    """Of `x264-params=crf=30` beside a crf of 17 FFmpeg takes the 17."""
    assert EncoderSettings(codec=codec, options={key: value}).to_options().get("crf") == crf


@pytest.mark.parametrize(
    ("settings", "cure"),
    [
        (EncoderSettings(codec="copy"), "is not restored"),
        (EncoderSettings(codec="h265"), "did you mean hevc?"),
        (EncoderSettings(codec="libx265", tune="film"), "grain"),
        (EncoderSettings(codec="ffv1", crf=0), "'crf'; leave it out"),
        (EncoderSettings(codec="libvpx-vp9", preset="slow"), "-x cpu-used=VALUE"),
        (EncoderSettings(codec="libx265", options={"lossless": "1"}), "-x x265-params=lossless=VALUE"),
        (EncoderSettings(codec="libx265", options={"x265-params": "aq-mode=high"}), "aq-mode: high"),
    ],
)
def test_habits_of_ffmpegs_users(settings: EncoderSettings, cure: str) -> None:
    with pytest.raises(UsageError, match=cure):
        check_settings(settings)


def test_a_refusal_names_its_cure_and_is_a_line(tmp_path: Path) -> None:
    """DNxHD listed two pages of sizes and rates; Motion JPEG named an option as carfix has none."""
    clip = media.write_clip(tmp_path / "in.mp4", frames=1, width=256, height=128)
    info = probe(clip)
    with pytest.raises(UsageError) as refused:
        check_settings(EncoderSettings(codec="dnxhd"))
    assert "-x profile=dnxhr_sq" in str(refused.value) and len(str(refused.value)) < 200
    profile = EncoderSettings(codec="dnxhd", pix_fmt="yuv422p", options={"profile": "dnxhr_sq"})
    check_settings(profile)
    resolve_encoding(info, profile, "mov")
    fields = dataclasses.replace(info, interlaced=True, field_order=2)
    with pytest.raises(CarfixError, match="-x flags=-ildct encodes"):
        resolve_encoding(fields, profile, "mov")
    whole = dataclasses.replace(profile, options={**profile.options, "flags": "-ildct"})
    resolve_encoding(fields, whole, "mov")
    with pytest.raises(CarfixError, match="-x strict=unofficial allows it"):
        resolve_encoding(info, EncoderSettings(codec="mjpeg"), "matroska")
    resolve_encoding(info, EncoderSettings(codec="mjpeg", options={"strict": "unofficial"}), "matroska")
