"""Recordings as recorders leave them: tags of another alphabet, clocks that run over, pauses, streams that change."""

from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import av
import media
import pytest
from av.video.frame import VideoFrame
from av.video.stream import VideoStream
from jobs import LOSSLESS, restore, through
from media import Sound

from carfix.errors import CarfixError
from carfix.restore.existing import what_is_there
from carfix.restore.findings import packet_findings
from carfix.restore.tasks import Task
from carfix.video.clock import Jump
from carfix.video.encoder_settings import EncoderSettings

TICK = Fraction(1, 90_000)


def sound_times(path: Path) -> list[Fraction]:
    with av.open(str(path)) as container:
        packets = container.demux(audio=0)
        return [packet.pts * packet.time_base for packet in packets if packet.size]  # type: ignore[operator]


def frames_of(path: Path) -> list[VideoFrame]:
    with av.open(str(path)) as container:
        return list(container.decode(video=0))


def luma(path: Path) -> list[bytes]:
    return [plane.tobytes() for plane in media.planes(path)]


@pytest.mark.parametrize("suffix", [".mkv", ".mp4", ".avi"])
def test_tags_in_another_encoding_stay_as_they_are(suffix: str, tmp_path: Path) -> None:
    source = media.write_clip(tmp_path / f"in{suffix}", codec="mpeg4", tags={"title": "Caf?"})
    source.write_bytes(source.read_bytes().replace(b"Caf?", b"Caf\xe9"))
    restore(source, tmp_path / f"out{suffix}")
    assert b"Caf\xe9" in (tmp_path / f"out{suffix}").read_bytes()
    if suffix == ".mkv":
        through(source.read_bytes(), tmp_path / "piped.mkv", "matroska")
        assert b"Caf\xe9" in (tmp_path / "piped.mkv").read_bytes()


@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".ts", ".nut"])
def test_a_transport_streams_clock_that_runs_over(suffix: str, tmp_path: Path) -> None:
    """After 26 hours it begins at 0 again, and FFmpeg counts what is before that below 0."""
    begin = 2**33 - 20 * 3600
    source = media.write_clip(
        tmp_path / "in.ts",
        frames=30,
        times=[begin + 3600 * i for i in range(30)],
        time_base=TICK,
        sounds=[Sound(codec="mp2", start=float(begin * TICK), seconds=1.2)],
        muxer={"mpegts_copyts": "1"},
    )
    wanted = media.frame_times(source)
    assert wanted[0] < 0 < wanted[-1]
    output = tmp_path / f"out{suffix}"
    report = restore(source, output, encoder=LOSSLESS if suffix == ".mkv" else EncoderSettings())
    moved = any(f"{float(-wanted[0]):.3f} s below 0" in line for line in report.warnings)
    assert moved is (suffix != ".ts") and not report.damaged
    got = media.frame_times(output)
    late = got[0] - wanted[0]
    assert got[0] >= 0 or suffix == ".ts"
    assert [time - late for time in got] == wanted
    for one, other in zip(sound_times(output), sound_times(source), strict=True):
        assert abs(one - other - late) <= Fraction(1, 1000)
    outcome = what_is_there(Task(source, output), {})
    assert outcome is not None and outcome.status == "skipped"


def test_a_camera_that_starts_anew_in_the_middle(tmp_path: Path) -> None:
    """Its clock had run for hours: FFmpeg counts what begins at 0 as the next day's, and it paused until then."""
    parts = [
        media.write_clip(
            tmp_path / f"{second}.ts",
            times=[90_000 * second + 3600 * i for i in range(12)],
            time_base=TICK,
            sounds=[Sound(codec="mp2", start=second, seconds=0.48)],
            muxer={"mpegts_copyts": "1"},
        )
        for second in (7200, 1)
    ]
    source = tmp_path / "in.ts"
    source.write_bytes(b"".join(part.read_bytes() for part in parts))
    output = tmp_path / "out.mp4"
    report = restore(source, output)
    assert any("the clock jumped back from 7200." in line for line in report.warnings)
    assert [time - 7200 for time in media.frame_times(output)] == [Fraction(i, 25) for i in range(24)]
    late = [time - frame for time, frame in zip(sound_times(output), sound_times(parts[0]), strict=False)]
    assert max(late) == min(late)
    assert 7200 < sound_times(output)[-1] < 7201
    piped = tmp_path / "piped.mkv"
    through(source.read_bytes(), piped, "matroska")
    assert media.frame_times(piped) == media.frame_times(output)


def test_a_day_that_was_put_together_minute_by_minute_is_told_in_a_few_lines() -> None:
    jumps = [Jump(Fraction(60), Fraction(0), Fraction(60 * i)) for i in range(1, 1440)]
    lines = list(packet_findings(jumps, stood=0, strays=0, corrupt=0))
    assert len(lines) == 6
    assert lines[-1] == "it jumped 1434 more times; in the end what follows was moved by +86340.000 s"
    assert len(list(packet_findings(jumps[:5], stood=0, strays=0, corrupt=0))) == 5


@pytest.mark.parametrize("codec", ["mp2", "ac3"])
def test_streams_that_take_over_in_the_middle(codec: str, tmp_path: Path) -> None:
    """Of another recorder, with other numbers: what FFmpeg has not understood at the beginning no container takes."""
    parts = [
        media.write_clip(
            tmp_path / f"part{pid}.ts",
            times=[90_000 * second + 3600 * i for i in range(50)],
            time_base=TICK,
            sounds=[Sound(codec=codec, start=second, seconds=2)],
            muxer={"mpegts_copyts": "1", "mpegts_start_pid": str(pid), "mpegts_service_id": str(pid)},
        )
        for second, pid in ((1, 256), (3, 300))
    ]
    source = tmp_path / "in.ts"
    source.write_bytes(b"".join(part.read_bytes() for part in parts))
    report = restore(source, tmp_path / "out.mkv")
    assert media.frame_times(tmp_path / "out.mkv") == media.frame_times(parts[0])
    assert sum("is left out: nothing was found that tells its form" in line for line in report.warnings) == 2


def test_frames_of_one_time_are_no_reason_to_refuse(tmp_path: Path) -> None:
    """Careless recorders write them, and a DVD's file that begins within a picture; MP4 was refused for it."""
    tick = Fraction(1, 1000)
    times = [0, 40, 80, 80, 160, 200, 240]
    source = media.write_clip(tmp_path / "in.mkv", codec="ffv1", times=times, time_base=tick)
    report = restore(source, tmp_path / "out.mp4")
    assert report.warnings == ("1 frames were moved so that times ascend",)
    assert media.frame_times(tmp_path / "out.mp4") == [time * tick for time in (0, 40, 80, 81, 160, 200, 240)]


def stamped(source: Path, target: Path, second: Callable[[Fraction], Fraction]) -> Path:
    """`source` with all packets at the times that `second` makes of theirs."""
    with av.open(str(source)) as container, av.open(str(target), "w") as output:
        copies = {stream.index: output.add_stream_from_template(stream) for stream in container.streams}
        for packet in container.demux():
            if packet.size and packet.pts is not None and packet.time_base is not None:
                packet.pts = packet.dts = round(second(packet.pts * packet.time_base) / packet.time_base)
                packet.stream = copies[packet.stream_index]
                output.mux(packet)
    return target


@pytest.mark.parametrize("second", [lambda time: Fraction(0), lambda time: Fraction(int(time))])
@pytest.mark.parametrize("suffix", [".mkv", ".mp4"])
def test_a_clock_that_stands_still(
    second: Callable[[Fraction], Fraction], suffix: str, tmp_path: Path
) -> None:
    """It states 0 for all, or a time once a second: Matroska was refused, and all was shown within an instant."""
    clip = media.write_clip(
        tmp_path / "clip.mkv",
        frames=60,
        time_base=Fraction(1, 1000),
        options={"preset": "ultrafast", "bf": "0"},
        sounds=[Sound(codec="mp2", seconds=2.4)],
    )
    output = tmp_path / f"out{suffix}"
    report = restore(stamped(clip, tmp_path / "in.mkv", second), output)
    assert [line.split(" for ")[0] for line in report.warnings] == ["the clock stood still"]
    assert not report.damaged
    assert media.frame_times(output) == [Fraction(i, 25) for i in range(60)]
    late = [one - other for one, other in zip(sound_times(output), sound_times(clip), strict=True)]
    assert max(map(abs, late)) < Fraction(1, 20)
    outcome = what_is_there(Task(tmp_path / "in.mkv", output), {})
    assert outcome is not None and outcome.status == "skipped"


def test_a_copied_video_keeps_its_pauses(tmp_path: Path) -> None:
    """A second stream in small, whose B-frames are shown minutes after they are decoded."""
    ticks = [*range(12), *range(7500, 7512)]
    times = [512 * tick for tick in ticks]
    large = media.write_clip(tmp_path / "large.mp4", times=times)
    small = media.write_clip(tmp_path / "small.mp4", times=times, width=48, height=32)
    source = media.remux(large, tmp_path / "in.mp4", extra=small)
    report = restore(source, tmp_path / "out.mp4")
    assert not report.warnings
    for place in (0, 1):
        assert media.frame_times(tmp_path / "out.mp4", place) == [Fraction(tick, 25) for tick in ticks]


def test_subtitles_that_begin_together_still_do(tmp_path: Path) -> None:
    """Lines at the top and the bottom, signs in parts: each was a millisecond later than the one before."""
    lines = "".join(f"{i + 1}\n00:00:00,100 --> 00:00:00,400\nline {i}\n\n" for i in range(9))
    (tmp_path / "text.srt").write_text(lines)
    clip = media.write_clip(tmp_path / "clip.mkv")
    source = media.remux(clip, tmp_path / "in.mkv", extra=tmp_path / "text.srt")
    restore(source, tmp_path / "out.mkv")
    with av.open(str(tmp_path / "out.mkv")) as container:
        packets = [packet.pts for packet in container.demux(subtitles=0) if packet.size]
    assert packets == [100] * 9


@pytest.mark.parametrize("suffix", [".avi", ".mkv"])
def test_sound_stays_with_a_picture_whose_clock_is_coarse(suffix: str, tmp_path: Path) -> None:
    """AVI counts frames. A start within one moves the picture by whole frames, and sound by as much."""
    source = media.write_clip(
        tmp_path / f"in{suffix}",
        codec="mjpeg",
        pix_fmt="yuvj420p",
        frames=10,
        rate=Fraction(5),
        time_base=Fraction(1, 5),
        sounds=[Sound(codec="pcm_s16le", rate=8000, seconds=2)],
    )
    restore(source, tmp_path / "out.mkv", start=0.55)
    before, after = media.frame_times(source)[3], media.frame_times(tmp_path / "out.mkv")[0]
    assert luma(tmp_path / "out.mkv") and before - after in (Fraction(2, 5), Fraction(11, 20))
    sound = sound_times(tmp_path / "out.mkv")[0] + before - after
    assert min(abs(sound - time) for time in sound_times(source)) <= Fraction(1, 1000)


@pytest.mark.parametrize("begin", range(90_001, 90_009))
def test_no_frame_is_lost_by_the_rounding_of_the_beginning(begin: int, tmp_path: Path) -> None:
    """FFmpeg tells it in microseconds, and a transport stream's clock has eleven to a tick and a ninth."""
    times = [begin + 3600 * i for i in range(12)]
    muxer = {"mpegts_copyts": "1"}
    source = media.write_clip(tmp_path / "in.ts", times=times, time_base=TICK, muxer=muxer)
    for start, left in ((0, 12), (0.2, 7)):
        output = tmp_path / f"{start}.mov"
        restore(source, output, start=start)
        assert media.frame_times(output) == [Fraction(i, 25) for i in range(left)]
    sound = Sound(codec="mp2", start=float(begin * TICK), seconds=0.48)  # the encoder's delay earlier
    source = media.write_clip(tmp_path / "sound.ts", times=times, time_base=TICK, sounds=[sound], muxer=muxer)
    restore(source, tmp_path / "sound.mov", start=0)
    assert len(sound_times(tmp_path / "sound.mov")) == len(sound_times(source))


def test_avi_takes_any_beginning(tmp_path: Path) -> None:
    """Its clock has steps of 1/600 s, on which the frames of a transport stream lie only when it begins at 0."""
    times = [90_001 + 3600 * i for i in range(12)]
    source = media.write_clip(tmp_path / "in.ts", times=times, time_base=TICK, muxer={"mpegts_copyts": "1"})
    restore(source, tmp_path / "out.avi", start=0)
    assert len(media.frame_times(tmp_path / "out.avi")) == 12


def test_each_part_of_a_recording_that_changes_has_its_own_look(tmp_path: Path) -> None:
    """From standard to high definition pixels, colours and fields change with the size, between two milliseconds."""

    def standard(video: VideoStream) -> None:
        video.codec_context.sample_aspect_ratio = Fraction(16, 11)
        video.codec_context.color_primaries = video.codec_context.colorspace = 5

    def high(video: VideoStream) -> None:
        video.codec_context.color_primaries = video.codec_context.colorspace = 1

    second = 90_000 + 3600 * 12 - 20  # 22 hundredths of a millisecond earlier than the next whole one
    muxer = {"mpegts_copyts": "1"}
    parts = [
        media.write_clip(
            tmp_path / "sd.ts",
            times=[90_000 + 3600 * i for i in range(12)],
            time_base=TICK,
            interlaced=True,
            setup=standard,
            options={**media.X264, "x264-params": "tff=1"},
            muxer=muxer,
        ),
        media.write_clip(
            tmp_path / "hd.ts",
            width=96,
            height=64,
            times=[second + 3600 * i for i in range(12)],
            time_base=TICK,
            setup=high,
            muxer=muxer,
        ),
    ]
    source = tmp_path / "in.ts"
    source.write_bytes(b"".join(part.read_bytes() for part in parts))
    with pytest.raises(CarfixError, match=r"-to 0\.479\) and what follows \(-ss 0\.479\)"):
        restore(source, tmp_path / "out.mkv")
    for part, wanted in zip(parts, ({"end": 0.479}, {"start": 0.479}), strict=True):
        restore(source, tmp_path / f"out_{part.name}", **wanted)
        assert len(media.frame_times(tmp_path / f"out_{part.name}")) == 12
        assert media.video_properties(tmp_path / f"out_{part.name}") == media.video_properties(part)


def test_a_part_has_its_own_shape_of_pixels(tmp_path: Path) -> None:
    """Television goes from 4:3 to 16:9 with the same size."""
    shapes = [Fraction(12, 11), Fraction(16, 11)]
    parts = []
    for second, shape in enumerate(shapes, 1):

        def shaped(video: VideoStream, shape: Fraction = shape) -> None:
            video.codec_context.sample_aspect_ratio = shape

        parts.append(
            media.write_clip(
                tmp_path / f"part{second}.ts",
                frames=25,
                times=range(25 * second, 25 * second + 25),
                time_base=Fraction(1, 25),
                setup=shaped,
                muxer={"mpegts_copyts": "1"},
            )
        )
    source = tmp_path / "in.ts"
    source.write_bytes(b"".join(part.read_bytes() for part in parts))
    for name, wanted in (("one", {"end": 0.9}), ("other", {"start": 1.2})):
        restore(source, tmp_path / f"{name}.mkv", **wanted)
    for name, shape in zip(("one", "other"), shapes, strict=True):
        with av.open(str(tmp_path / f"{name}.mkv")) as container:
            assert container.streams.video[0].sample_aspect_ratio == shape
