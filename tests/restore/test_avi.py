"""AVI, which gives sound no times: it stays with the picture nevertheless."""

from pathlib import Path

import av
import media
import pytest
from engines import Adding
from jobs import LOSSLESS, restore
from media import Sound

from carfix.errors import CarfixError
from carfix.restore.models import EngineChoice
from carfix.restore.pipe import restore_pipe


@pytest.mark.parametrize(("sound", "lead"), [(1.4, 0.08), (1.48, 0), (1.98, 0)])
def test_avi_begins_at_0_with_sound_and_picture_as_far_apart_as_they_were(
    sound: float, lead: float, tmp_path: Path
) -> None:
    """A transport stream's picture stood still for its first second and a half, and its sound was that much early."""
    times = [133_200 + 3600 * i for i in range(12)]
    source = media.write_clip(
        tmp_path / "in.ts",
        times=times,
        time_base=media.Fraction(1, 90_000),
        sounds=[Sound(codec="mp2", start=sound)],
        muxer={"mpegts_copyts": "1"},
    )
    report = restore(source, tmp_path / "out.avi", encoder=LOSSLESS)
    frames = media.frame_times(tmp_path / "out.avi")
    wanted = [media.Fraction(i, 25) + media.Fraction(lead) for i in range(12)]
    assert frames[0] == 0  # where there is nothing ahead of it, it is shown longer
    # Sound is placed to the packet, of which there are 42 a second.
    assert max(abs(a - b) for a, b in zip(frames[1:], wanted[1:], strict=True)) < 0.02
    assert [line for line in report.warnings if "sound" in line] == (
        ["sound begins 0.5 s late, which avi cannot say and plays early; .mkv and .mp4 can"]
        if sound > 1.5
        else []
    )


@pytest.mark.parametrize("layout", ["stereo", "5.1(side)"])
def test_dolbys_sound_keeps_its_times_from_avi_into_avi(layout: str, tmp_path: Path) -> None:
    """AVI gives it blocks of 3840 bytes, of which its packets are a fifth, and readers would count by them."""
    sound = Sound(codec="ac3", layout=layout, seconds=0.96)
    source = media.write_clip(
        tmp_path / "in.avi", codec="mpeg4", time_base=media.Fraction(1, 25), sounds=[sound]
    )
    restore(source, tmp_path / "out.avi")
    times = []
    for path in (source, tmp_path / "out.avi"):
        with av.open(str(path)) as container:
            context = container.streams.audio[0].codec_context
            assert (context.layout.name, context.sample_rate) == (layout, 48_000)
            times.append([packet.pts for packet in container.demux(audio=0) if packet.size])
    assert times[1] == times[0] == list(range(30))


@pytest.mark.parametrize(
    ("codec", "suffix", "rate"),
    [("aac", ".avi", 44_100), ("eac3", ".mp4", 48_000)],
)
def test_sound_that_would_be_played_too_fast_is_refused_with_a_cure(
    codec: str, suffix: str, rate: int, tmp_path: Path
) -> None:
    """Two seconds of it lay in half a second, or in a fiftieth."""
    source = media.write_clip(
        tmp_path / f"in{suffix}", sounds=[Sound(codec=codec, rate=rate, layout="stereo")]
    )
    cure = r"played far too fast; write \.mkv instead, or encode it with -c:a "
    with pytest.raises(CarfixError, match=cure):
        restore(source, tmp_path / "out.avi", encoder=LOSSLESS)
    assert restore(source, tmp_path / "out.avi", encoder=LOSSLESS, audio_codec="mp2").copied == ()


@pytest.mark.parametrize(
    ("codec", "name", "rate", "how"),
    [("g722", "in.nut", 16_000, "fast"), ("libopencore_amrnb", "in.3gp", 8_000, "slowly")],
)
def test_speech_that_would_be_played_at_a_wrong_speed_is_refused(
    codec: str, name: str, rate: int, how: str, tmp_path: Path
) -> None:
    if codec not in av.codecs_available:
        pytest.skip("this FFmpeg has no such encoder")
    source = media.write_clip(tmp_path / name, sounds=[Sound(codec=codec, rate=rate)])
    with pytest.raises(
        CarfixError, match=rf"played far too {how}; write \.mkv instead, or encode it with -c:a "
    ):
        restore(source, tmp_path / "out.avi", encoder=LOSSLESS)


def test_aac_from_mp4_keeps_its_length_in_avi(tmp_path: Path) -> None:
    source = media.write_clip(tmp_path / "in.mp4", sounds=[Sound(codec="aac")])
    restore(source, tmp_path / "out.avi", encoder=LOSSLESS)


@pytest.mark.parametrize("hole", [0, 2])
def test_frames_of_an_avi_with_b_frames_are_shown_when_ffmpeg_shows_them(hole: int, tmp_path: Path) -> None:
    """One slot later than they are decoded, where AVI states times of B-frames alone; the first one was another late,
    and behind a hole more, in a pipe two early.
    """
    tick = media.Fraction(1, 25)
    whole = media.write_clip(
        tmp_path / "whole.avi", codec="mpeg4", time_base=tick, frames=12, options={"bf": "2"}
    )
    source = tmp_path / "in.avi"
    with av.open(str(whole)) as container, av.open(str(source), "w") as output:
        copy = output.add_stream_from_template(container.streams.video[0], opaque=True)
        for number, packet in enumerate(packet for packet in container.demux() if packet.size):
            packet.stream = copy
            packet.pts = packet.dts = number + (hole if number else 0)
            output.mux(packet)
    restore(source, tmp_path / "file.mkv")
    with source.open("rb") as pipe:
        choice = EngineChoice(model=Adding(0))
        restore_pipe(source=pipe, output=tmp_path / "pipe.mkv", format="matroska", choice=choice)
    for name in ("file.mkv", "pipe.mkv"):
        assert media.frame_times(tmp_path / name) == [(1 + hole + n) * tick for n in range(12)]
