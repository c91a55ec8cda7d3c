"""Pipes: `ffmpeg | carfix | ffmpeg`, frame for frame what a file would give."""

from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import media
import numpy as np
import pytest
from av.stream import Disposition
from engines import Adding, Failing
from jobs import Unseekable, restore, through
from media import Sound

from carfix.errors import CarfixError, UsageError
from carfix.restore.models import EngineChoice
from carfix.restore.pipe import restore_pipe
from carfix.video.encoder_settings import EncoderSettings


@pytest.fixture
def clip(nut: Path) -> Path:
    return nut


def test_nut_keeps_times_and_sound(clip: Path, tmp_path: Path) -> None:
    output = tmp_path / "out.nut"
    report = through(clip.read_bytes(), output, "nut", add=2, encoder=EncoderSettings(codec="ffv1"))
    assert report.frames == 30
    assert media.frame_times(output) == media.frame_times(clip)
    for plane, add in ((0, 2), (1, 0), (2, 0)):
        for a, b in zip(media.planes(output, plane), media.planes(clip, plane), strict=True):
            assert np.array_equal(a, b + add)
    assert media.packets_digest(output, 1) == media.packets_digest(clip, 1)


def test_nut_keeps_no_index_where_nobody_goes_back(clip: Path, tmp_path: Path) -> None:
    """It grew in memory with every frame, half a gigabyte a day, and was written at the end that a camera has not."""
    index = b"NX\xdd\x67\x2f\x23\xe6\x4e"
    through(clip.read_bytes(), tmp_path / "piped.nut", "nut", encoder=EncoderSettings(codec="rawvideo"))
    assert index not in (tmp_path / "piped.nut").read_bytes()
    restore_pipe(
        source=Unseekable(clip.read_bytes()),
        output=tmp_path / "file.nut",
        choice=EngineChoice(model=Adding()),
        encoder=EncoderSettings(codec="rawvideo"),
    )
    assert index in (tmp_path / "file.nut").read_bytes()


@pytest.mark.parametrize("format", ["matroska", "mpegts"])
def test_other_containers_that_need_no_seeking(format: str, clip: Path, tmp_path: Path) -> None:
    output = tmp_path / "out.bin"
    through(
        clip.read_bytes(), output, format, audio_codec="none", encoder=EncoderSettings(preset="ultrafast")
    )
    times = media.frame_times(output)
    wanted = media.frame_times(clip)
    assert len(times) == 30
    shift = times[0] - wanted[0]
    assert max(abs(a - b - shift) for a, b in zip(times, wanted, strict=True)) <= media.Fraction(1, 1000)


@pytest.mark.parametrize("format", ["nut", "flv", "matroska"])
def test_sound_that_begins_before_zero(format: str, tmp_path: Path) -> None:
    """As in every MP4 with AAC: its encoder's delay lies before 0, where NUT and FLV have no times."""
    source = media.write_clip(tmp_path / "in.mkv", frames=30, sounds=[Sound(start=-1024 / 48_000)])
    output = tmp_path / "out"
    through(source.read_bytes(), output, format, encoder=EncoderSettings(preset="ultrafast"))
    times, wanted = media.frame_times(output), media.frame_times(source)
    late = times[0] - wanted[0]
    assert 0 <= late < media.Fraction(1, 5)
    assert max(abs(a - b - late) for a, b in zip(times, wanted, strict=True)) <= media.Fraction(1, 500)
    assert media.packets_digest(output, audio_of(output)) == media.packets_digest(source, 1)


def audio_of(path: Path) -> int:
    with av.open(str(path)) as container:
        return container.streams.audio[0].index


def test_an_mp4_with_its_index_last_cannot_come_through_a_pipe(tmp_path: Path) -> None:
    size: dict[str, Any] = {
        "width": 640,  # more than FFmpeg's buffer, within which it may go back
        "height": 480,
    }
    source = media.write_clip(tmp_path / "last.mp4", **size)
    assert source.stat().st_size > 200_000
    with pytest.raises(CarfixError, match=r"through a pipe, MP4 needs its index in front"):
        through(source.read_bytes(), tmp_path / "out", "nut")
    first = media.write_clip(tmp_path / "first.mp4", muxer={"movflags": "faststart"}, **size)
    through(first.read_bytes(), tmp_path / "out", "nut")
    assert len(media.frame_times(tmp_path / "out")) == media.FRAMES


@pytest.mark.parametrize(("format", "codec"), [("h264", "libx264"), ("hevc", "libx265")])
def test_bare_streams_have_their_headers_within(clip: Path, tmp_path: Path, format: str, codec: str) -> None:
    said: list[str] = []
    through(
        clip.read_bytes(),
        tmp_path / "out",
        format,
        encoder=EncoderSettings(codec=codec, preset="ultrafast"),
        say=said.append,
    )
    assert any(f"audio stream 1 is left out: {format} holds nothing but video" in line for line in said)
    assert len(media.planes(tmp_path / "out")) == 30
    with av.open(str(tmp_path / "out")) as container:
        assert container.streams.video[0].codec_context.framerate == media.RATE


@pytest.mark.parametrize("encoder", [None, EncoderSettings(codec="rawvideo")])
def test_raw_video_is_frames_alone(encoder: EncoderSettings | None, tmp_path: Path) -> None:
    """Without a codec, as with FFmpeg, and without sound between them: nothing says where a frame begins."""
    source = media.write_clip(tmp_path / "in.mkv", codec="ffv1", sounds=[Sound()])
    said: list[str] = []
    through(source.read_bytes(), tmp_path / "out", "rawvideo", encoder=encoder, say=said.append)
    assert "audio stream 1 is left out: rawvideo holds nothing but video" in said
    wanted = zip(*(media.planes(source, plane) for plane in range(3)), strict=True)
    frames = b"".join(plane.tobytes() for planes in wanted for plane in planes)
    assert (tmp_path / "out").read_bytes() == frames


def test_a_high_speed_cameras_y4m(tmp_path: Path) -> None:
    """Its rate became 25 in another one, and in Matroska four frames each had one time, without a word."""
    source = tmp_path / "in.y4m"
    data = media.write_clip(tmp_path / "raw.nut", codec="rawvideo", options={}, frames=12)
    frames = b"".join(
        b"FRAME\n" + b"".join(bytes(p) for p in planes)
        for planes in zip(*(media.planes(data, n) for n in range(3)), strict=True)
    )
    source.write_bytes(b"YUV4MPEG2 W64 H48 F4000:1 Ip C420jpeg\n" + frames)
    through(source.read_bytes(), tmp_path / "pipe.y4m", "y4m")
    restore(source, tmp_path / "file.y4m")
    for name in ("pipe.y4m", "file.y4m"):
        assert b" F4000:1 " in (tmp_path / name).read_bytes()[:60]
    for format in ("matroska", "flv"):
        with pytest.raises(CarfixError, match=r"cannot keep the times of 4000 frames a second; use -f nut"):
            through(source.read_bytes(), tmp_path / "out", format)
    through(source.read_bytes(), tmp_path / "out.nut", "nut")
    times = media.frame_times(tmp_path / "out.nut")
    assert [time - times[0] for time in times] == [Fraction(n, 4000) for n in range(12)]


@pytest.mark.parametrize("pix_fmt", ["yuv420p", "yuv422p10le", "gray"])
def test_y4m_both_ways(pix_fmt: str, tmp_path: Path) -> None:
    source = media.write_clip(tmp_path / "in.mkv", codec="ffv1", pix_fmt=pix_fmt)
    through(source.read_bytes(), tmp_path / "one.y4m", "y4m")
    through((tmp_path / "one.y4m").read_bytes(), tmp_path / "two.y4m", "y4m", add=1)
    one, two, first = (media.planes(p) for p in (tmp_path / "one.y4m", tmp_path / "two.y4m", source))
    assert len(two) == media.FRAMES
    for a, b, c in zip(one, two, first, strict=True):
        assert np.array_equal(a, c)
        assert np.array_equal(b, c + 1)


@pytest.mark.parametrize("suffix", [".mp4", ".nut"])
@pytest.mark.parametrize("early", [0, 900])
def test_y4m_tells_the_frame_rate(early: int, suffix: str, tmp_path: Path) -> None:
    """And not the clock, which is a thousand times as fast. Its frames have no times, however they came."""
    times = [1001 * i for i in range(12)]
    times[7] -= early  # two frames within the time of one
    source = media.write_clip(
        tmp_path / f"in{suffix}",
        rate=media.Fraction(30_000, 1001),
        time_base=media.Fraction(1, 30_000),
        times=times,
    )
    through(source.read_bytes(), tmp_path / "piped.y4m", "y4m")
    restore(source, tmp_path / "file.y4m", encoder=None)
    for name in ("piped.y4m", "file.y4m"):
        header, *frames = (tmp_path / name).read_bytes().split(b"FRAME\n")
        assert len(frames) == len(times)
        (rate,) = (media.Fraction(*map(int, p[1:].split(b":"))) for p in header.split() if p[:1] == b"F")
        assert abs(rate - media.Fraction(30_000, 1001)) <= (1 if early else 0)


def test_the_last_frames_of_a_codec_that_only_counts_have_their_times(tmp_path: Path) -> None:
    """MPEG-2 knows few clocks. What the decoder held back to the end was shown hours later."""
    clip = media.write_clip(tmp_path / "in.ts")
    through(clip.read_bytes(), tmp_path / "out.ts", "mpegts", encoder=EncoderSettings(codec="mpeg2video"))
    times, wanted = media.frame_times(tmp_path / "out.ts"), media.frame_times(clip)
    assert [time - times[0] for time in times] == [time - wanted[0] for time in wanted]


def test_a_pipe_that_breaks_off(clip: Path, tmp_path: Path) -> None:
    data = clip.read_bytes()
    report = through(
        data[: len(data) // 2], tmp_path / "out.nut", "nut", encoder=EncoderSettings(preset="ultrafast")
    )
    assert 5 < report.frames < 30
    assert len(media.frame_times(tmp_path / "out.nut")) == report.frames


@pytest.mark.parametrize(
    ("codec", "cure"), [("flac", "use -f nut or -c:a none"), (None, "use -f matroska or -sn")]
)
def test_a_stream_that_a_transport_stream_would_not_name(
    codec: str | None, cure: str, tmp_path: Path
) -> None:
    """Said before a network is loaded, with a container that does hold it."""
    source = media.write_clip(tmp_path / "in.mkv", sounds=[Sound(codec=codec)] if codec else [])
    if codec is None:
        (tmp_path / "in.srt").write_text("1\n00:00:00,000 --> 00:00:00,200\nHello\n")
        source = media.remux(source, tmp_path / "text.mkv", extra=tmp_path / "in.srt")
    with pytest.raises(CarfixError, match=f"mpegts cannot hold .* stream 1: .*; {cure}"):
        restore_pipe(
            source=Unseekable(source.read_bytes()),
            output=Unseekable(),
            format="mpegts",
            choice=EngineChoice(model="there is no such network"),
        )


def test_a_container_that_is_completed_at_its_beginning(clip: Path, tmp_path: Path) -> None:
    """Where standard output is a file, one can go back in it."""
    source = media.write_clip(tmp_path / "in.mp4")
    for format in ("mp4", "mov", "3gp"):
        with pytest.raises(
            UsageError, match=f"{format} cannot be written to a pipe.* take -f nut or -f matroska"
        ):
            restore_pipe(
                source=source,
                output=Unseekable(),
                format=format,
                choice=EngineChoice(model="there is no such network"),
            )
    with (tmp_path / "out.mp4").open("wb") as output:
        restore_pipe(source=source, output=output, format="mp4", choice=EngineChoice(model=Adding()))
    assert len(media.frame_times(tmp_path / "out.mp4")) == media.FRAMES


@pytest.mark.parametrize("format", ["nut", "matroska"])
def test_chapters_and_dispositions_go_along(format: str, tmp_path: Path) -> None:
    source = media.write_clip(
        tmp_path / "in.mkv",
        chapters=[(0.0, 0.2, "arrival"), (0.2, 0.48, "departure")],
        setup=lambda video: setattr(video, "disposition", Disposition.default),
    )
    through(source.read_bytes(), tmp_path / "out", format)
    with av.open(str(source)) as before, av.open(str(tmp_path / "out")) as after:
        assert after.streams.video[0].disposition == before.streams.video[0].disposition != 0
        titles = [[chapter["metadata"] for chapter in container.chapters()] for container in (before, after)]
        starts = [
            [c["start"] * c["time_base"] for c in container.chapters()] for container in (before, after)
        ]
    assert titles[0] == titles[1] and len(titles[0]) == 2
    assert starts[0] == starts[1]


@pytest.mark.parametrize(
    ("codec", "why"),
    [
        ("libx264", r"cannot hold libx264 video.*use {} or another -c:v"),
        ("libvpx-vp9", "use {} or -c:a none"),
    ],
)
def test_what_webm_cannot_hold_is_told_with_a_cure(codec: str, why: str, tmp_path: Path) -> None:
    data = media.write_clip(tmp_path / "in.nut", sounds=[Sound()]).read_bytes()
    for output, cure in ((tmp_path / "out.webm", r"a name in \.mkv"), (Unseekable(), "-f nut")):
        with pytest.raises(CarfixError, match=why.format(cure)):
            restore_pipe(
                source=Unseekable(data),
                output=output,
                format="webm",
                encoder=EncoderSettings(codec=codec),
                choice=EngineChoice(model="there is no such network"),
            )


def test_the_cure_is_another_container(clip: Path) -> None:
    encoder = EncoderSettings(codec="prores_ks", pix_fmt="yuv422p10le")
    with pytest.raises(
        CarfixError, match=r"nut cannot hold prores_ks video: .*; use -f matroska or another -c:v"
    ):
        restore_pipe(
            source=Unseekable(clip.read_bytes()),
            output=Unseekable(),
            format="nut",
            encoder=encoder,
            choice=EngineChoice(model="there is no such network"),
        )


def test_mistakes(clip: Path, tmp_path: Path) -> None:
    data = clip.read_bytes()
    with pytest.raises(UsageError, match="add -f nut"):
        restore_pipe(source=Unseekable(data), output=Unseekable(), choice=EngineChoice(model=Adding()))
    for name in ("y4m", "rawvideo"):
        with pytest.raises(UsageError, match=f"{name} holds bare frames: it goes with no -c:v"):
            through(data, tmp_path / "out", name, encoder=EncoderSettings(codec="libx265"))
    for name in ("asf", "ogg"):
        with pytest.raises(UsageError, match=f"other times from {name} than were written: take -f nut or -f"):
            through(data, tmp_path / "out", name)
    for suffix in (".wmv", ".ogv"):
        output = tmp_path / f"out{suffix}"
        with pytest.raises(UsageError, match=r"than were written: write \.mkv instead"):
            restore_pipe(source=Unseekable(data), output=output, choice=EngineChoice(model=Adding()))
        assert not output.exists()
    with pytest.raises(UsageError, match="copy or none"):
        through(data, tmp_path / "out", "nut", audio_codec="aac")
    with pytest.raises(CarfixError, match="cannot read standard input"):
        through(b"junk" * 100, tmp_path / "out", "nut")
    with pytest.raises(CarfixError, match="broke"):
        restore_pipe(
            source=Unseekable(data),
            output=Unseekable(),
            format="nut",
            choice=EngineChoice(model=Failing(3, CarfixError("broke"))),
        )


def test_figures_of_the_old_video_do_not_go_along(tmp_path: Path) -> None:
    """As mkvmerge writes them, and WebM's word on transparency: they were true of what came in."""
    old = {"BPS": "123456", "ALPHA_MODE": "1"}
    source = media.write_clip(tmp_path / "in.mkv", video_tags={**old, "title": "camera"})
    through(source.read_bytes(), tmp_path / "piped.mkv", "matroska")
    restore(source, tmp_path / "out.mkv")
    for name in ("piped.mkv", "out.mkv"):
        with av.open(str(tmp_path / name)) as container:
            tags = container.streams.video[0].metadata
        assert tags["title"] == "camera" and old.keys().isdisjoint(tags)


def test_a_program_stream_that_begins_on_the_way_begins_at_its_time(tmp_path: Path) -> None:
    """As the second file of a DVD's title: its first frame need not have a time, and was shown at 0."""
    clip = media.write_clip(
        tmp_path / "in.vob",
        codec="mpeg2video",
        frames=40,
        times=range(250, 290),
        time_base=Fraction(1, 25),
        options={"bf": "2", "g": "12", "b": "1000000"},
    ).read_bytes()
    for cut in range(2048, len(clip) // 2, 2048):
        through(clip[cut:], tmp_path / "out.mkv", "matroska")
        assert min(media.frame_times(tmp_path / "out.mkv")) >= 10
