"""What x264 would cut down, or complain of on stderr, is refused before; what it takes passes."""

import pytest

from carfix.errors import UsageError
from carfix.video.encoder_settings import EncoderSettings
from carfix.video.x264 import check_x264


@pytest.mark.parametrize(
    "settings",
    [
        EncoderSettings(preset="5"),
        EncoderSettings(preset="Medium"),
        EncoderSettings(options={"profile": "High"}),
        EncoderSettings(options={"tune": "film,zerolatency"}),
        EncoderSettings(crf=51),
    ],
    ids=str,
)
def test_what_x264_takes_passes(settings: EncoderSettings) -> None:
    settings.to_options()


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        (EncoderSettings(options={"crf": "60"}), "up to 51, not 60"),
        (EncoderSettings(crf=52), "up to 51, not 52"),
        (EncoderSettings(preset="10"), "no preset '10'"),
        (EncoderSettings(options={"tune": "film,bar"}), "no tune 'bar'"),
    ],
    ids=str,
)
def test_what_it_would_not_heed_is_one_line(settings: EncoderSettings, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        settings.to_options()


def test_other_encoders_have_other_numbers() -> None:
    check_x264("libvpx-vp9", {"crf": "60"}, None)
