"""What players would show otherwise than before is told before the work: turned video, and the range of codes."""

import io
from pathlib import Path

import media
import pytest
from av.video.stream import VideoStream
from engines import Adding
from jobs import restore

from carfix.restore.models import EngineChoice
from carfix.restore.pipe import restore_pipe
from carfix.video.encoder_settings import EncoderSettings

#: FFmpeg's matrix of a phone held upright.
TURNED = (0, -65536, 0, 65536, 0, 0, 0, 0, 1 << 30)
TURN = "the video is turned when it is shown, which {} cannot say; .mp4, .mov and .mkv can"


@pytest.mark.parametrize(
    ("suffix", "lines"),
    [(".ts", (TURN.format("mpegts"),)), (".mkv", ()), (".y4m", (TURN.format("yuv4mpegpipe"),))],
)
def test_a_container_that_cannot_turn_the_video(suffix: str, lines: tuple[str, ...], tmp_path: Path) -> None:
    source = media.write_clip(tmp_path / "in.mp4", matrix=TURNED, muxer={"movflags": "faststart"})
    settings = {"encoder": EncoderSettings()} if suffix == ".y4m" else {}
    assert restore(source, tmp_path / f"out{suffix}", **settings).warnings == lines
    said: list[str] = []
    restore_pipe(
        source=io.BytesIO(source.read_bytes()),
        output=tmp_path / f"piped{suffix}",
        choice=EngineChoice(model=Adding(0)),
        say=said.append,
    )
    assert [line for line in said if "turned" in line] == list(lines)


def full(video: VideoStream) -> None:
    video.codec_context.color_range = 2


@pytest.mark.parametrize(
    ("codec", "pix_fmt", "suffix", "told"),
    [
        ("libx264", None, ".mp4", None),
        ("ffv1", None, ".mkv", None),
        ("prores_ks", "yuv422p10le", ".mov", "too much contrast; -c:v libx264 keeps it right"),
        ("mpeg4", None, ".avi", "too much contrast; -c:v libx264 keeps it right"),
    ],
)
def test_full_range_that_is_lost(
    codec: str, pix_fmt: str | None, suffix: str, told: str | None, tmp_path: Path
) -> None:
    """Phones and action cameras record it; ProRes and MPEG-4 have no word for it."""
    source = media.write_clip(tmp_path / "in.mp4", setup=full)
    encoder = EncoderSettings(codec=codec, pix_fmt=pix_fmt, bitrate="1M" if codec == "mpeg4" else None)
    report = restore(source, tmp_path / f"out{suffix}", encoder=encoder)
    assert [line.endswith(told or "nothing") for line in report.warnings] == [True] * bool(told)


def test_full_range_that_was_not_there(tmp_path: Path) -> None:
    source = media.write_clip(tmp_path / "in.mp4")
    report = restore(source, tmp_path / "out.mp4", encoder=EncoderSettings(pix_fmt="yuvj420p"))
    assert [
        line.endswith("too little contrast; -pix_fmt yuv420p keeps it right") for line in report.warnings
    ] == [True]


def test_a_part_that_the_container_shows_is_told(tmp_path: Path) -> None:
    """FFmpeg's players crop by it, and PyAV neither reads nor writes it."""
    whole = media.write_clip(tmp_path / "whole.mp4")
    part = media.crop(whole, tmp_path / "part.mp4", media.WIDTH - 16, media.HEIGHT - 8)
    all_of_it = media.crop(whole, tmp_path / "all.mp4", media.WIDTH, media.HEIGHT)
    for suffix in (".mp4", ".mkv"):
        assert restore(part, tmp_path / f"out{suffix}").warnings == (
            "the input says that 48x40 of the picture's 64x48 pixels are shown, which is not kept: players will show "
            "all of it",
        )
        assert restore(all_of_it, tmp_path / f"all-out{suffix}").warnings == ()
