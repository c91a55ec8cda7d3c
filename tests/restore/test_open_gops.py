"""Open GOPs: frames that follow a keyframe, are shown before it and need the GOP before."""

from pathlib import Path

import media
import pytest
from engines import Adding
from jobs import restore

from carfix.restore.models import EngineChoice
from carfix.restore.pipe import restore_pipe
from carfix.video.encoder_settings import EncoderSettings


@pytest.mark.parametrize(
    ("codec", "options"),
    [
        (
            "libx265",
            {"g": "10", "x265-params": "bframes=3:b-adapt=0:scenecut=0:log-level=none"},
        ),  # as x265 does it unless told
        ("libx264", {"g": "10", "x264-params": "open-gop=1:bframes=3:b-adapt=0:scenecut=0"}),
        ("mpeg2video", {"g": "10", "bf": "2"}),
        ("mpeg4", {"g": "10", "bf": "2"}),
    ],
)
@pytest.mark.parametrize("suffix", [".mkv", ".mpg"])
def test_a_video_may_end_in_an_open_gop(
    codec: str, options: dict[str, str], suffix: str, tmp_path: Path
) -> None:
    """All was computed, and then refused: its last frames, decoded from the last keyframe on, were not all there."""
    source = media.write_clip(tmp_path / "in.mkv", frames=28)
    encoder = EncoderSettings(codec=codec, preset="ultrafast" if "lib" in codec else None, options=options)
    restore(source, tmp_path / f"out{suffix}", encoder=encoder, segment_seconds=20)
    assert len(media.planes(tmp_path / f"out{suffix}")) == 28


def test_times_that_a_program_stream_leaves_to_be_guessed(tmp_path: Path) -> None:
    """With B-frames readers guess them by the frame rate, to which Matroska's milliseconds are not exact."""
    times = [23 + round(i * 1001 / 24) for i in range(28)]
    source = media.write_clip(tmp_path / "in.mkv", times=times, time_base=media.Fraction(1, 1000))
    encoder = EncoderSettings(codec="mpeg2video", options={"g": "10", "bf": "2"})
    restore(source, tmp_path / "out.mpg", encoder=encoder)
    assert len(media.planes(tmp_path / "out.mpg")) == 28


def test_times_that_readers_of_a_program_stream_guess_wrong(tmp_path: Path) -> None:
    """A pack of small frames states one time; guesses are off by up to the B-frames in a row. It was refused."""
    source = media.write_clip(
        tmp_path / "in.mkv",
        frames=400,
        pictures=lambda index: media.picture(0),
        sounds=[media.Sound(codec="mp2", seconds=16)],
    )
    encoder = EncoderSettings(codec="mpeg2video", options={"bf": "3"})
    restore(source, tmp_path / "out.mpg", encoder=encoder)
    assert len(media.planes(tmp_path / "out.mpg")) == 400


def test_a_pause_that_readers_of_a_program_stream_miss(tmp_path: Path) -> None:
    """Behind it small frames lie in a pack that was begun before it. It was refused when all frames were computed."""
    source = media.write_clip(
        tmp_path / "in.mkv",
        time_base=media.Fraction(1, 1000),
        times=[40 * i + (0 if i < 21 else 2000) for i in range(30)],
    )
    encoder = EncoderSettings(codec="mpeg2video", options={"qmin": "31"})
    report = restore(source, tmp_path / "out.mpg", encoder=encoder, segment_seconds=20)
    assert "players may show frames up to 2.0 s early; .mkv keeps their times" in report.warnings[-1]
    assert len(media.planes(tmp_path / "out.mpg")) == 30


def test_a_program_stream_that_begins_between_keyframes(tmp_path: Path) -> None:
    """It states few times. The first picture came a frame early, and what is shown before it counted as lost."""
    whole = media.write_clip(
        tmp_path / "whole.mpg",
        codec="mpeg2video",
        format="vob",
        time_base=1 / media.RATE,
        frames=60,
        options={"g": "12", "bf": "2", "b": "100k"},
        sounds=[media.Sound(codec="mp2", seconds=2.4)],
    )
    data = whole.read_bytes()
    source = tmp_path / "in.mpg"
    source.write_bytes(data[len(data) // 3 // 2048 * 2048 :])
    report = restore(source, tmp_path / "file.mkv")
    assert not report.damaged
    with source.open("rb") as pipe:
        choice = EngineChoice(model=Adding(0))
        restore_pipe(source=pipe, output=tmp_path / "pipe.mkv", format="matroska", choice=choice)
    assert media.frame_times(tmp_path / "file.mkv") == media.frame_times(tmp_path / "pipe.mkv")
    assert sum("begins between two keyframes" in line for line in report.warnings) == 1
