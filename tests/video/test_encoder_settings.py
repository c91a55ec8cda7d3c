"""What is asked of an encoder where the user does not say how good it shall be."""

import pytest

from carfix.video.encoder_settings import EncoderSettings, check_settings


@pytest.mark.parametrize(
    ("options", "crf"), [({}, "17"), ({"lossless": "1"}, None), ({"global_quality": "3"}, None)]
)
def test_the_default_quality_gives_way_to_the_users(options: dict[str, str], crf: str | None) -> None:
    """VP9 without loss was refused for a quality of 17 that nobody had asked for."""
    settings = EncoderSettings(codec="libvpx-vp9", options=options)
    check_settings(settings)
    assert settings.to_options().get("crf") == crf
