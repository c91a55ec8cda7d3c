"""What a job refuses before it computes, in one line, with nothing left behind."""

import math
import os
import stat
from fractions import Fraction
from pathlib import Path

import av
import media
import pytest
from engines import Failing
from jobs import names, restore
from media import Sound

from carfix.errors import CarfixError, MissingPartError, UsageError
from carfix.video.encoder_settings import EncoderSettings, check_settings


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(CarfixError, match=r"no such file: .*absent\.mp4") as failure:
        restore(tmp_path / "absent.mp4", tmp_path / "out.mp4")
    assert failure.value.exit_code == 1
    assert names(tmp_path) == set()


def test_text_named_mp4(tmp_path: Path) -> None:
    (tmp_path / "in.mp4").write_text("not a video\n" * 100)
    with pytest.raises(CarfixError, match=r"cannot read .*in\.mp4") as failure:
        restore(tmp_path / "in.mp4", tmp_path / "out.mp4")
    assert failure.value.exit_code == 1
    assert names(tmp_path) == {"in.mp4"}


def test_a_transport_stream_of_nothing(tmp_path: Path) -> None:
    """As a recorder leaves it whose camera was off: packets that pad, or tables alone."""
    source = tmp_path / "in.ts"
    source.write_bytes((b"\x47\x1f\xff\x10" + b"\xff" * 184) * 50)
    with pytest.raises(CarfixError, match=r"cannot read .*in\.ts: there is neither picture nor sound in it"):
        restore(source, tmp_path / "out.mkv")


@pytest.mark.parametrize("suffix", [".mp4", ".ts", ".dav", ".264"])
@pytest.mark.parametrize(
    ("size", "why"),
    [(0, "it is empty: 0 bytes"), (70_000, "it begins with zeros: it was set aside and never")],
)
def test_a_file_into_which_nothing_was_recorded(size: int, why: str, suffix: str, tmp_path: Path) -> None:
    """Recorders set files aside, and power cuts leave zeros: they were called damaged, or no video."""
    source = tmp_path / f"in{suffix}"
    source.write_bytes(bytes(size))
    with pytest.raises(CarfixError, match=f"cannot read .*: {why}"):
        restore(source, tmp_path / "out.mkv")


def test_sound_only(tmp_path: Path) -> None:
    source = tmp_path / "in.mka"
    whole = media.write_clip(tmp_path / "whole.mkv", sounds=[Sound()])
    with av.open(str(whole)) as container, av.open(str(source), "w", format="matroska") as output:
        copy = output.add_stream_from_template(container.streams.audio[0])
        for packet in container.demux(audio=0):
            if packet.size:
                packet.stream = copy
                output.mux(packet)
    with pytest.raises(CarfixError, match="no video stream to restore, only audio"):
        restore(source, tmp_path / "out.mkv")
    empty = tmp_path / "empty.mp4"
    empty.write_bytes(b"\0\0\0\x10ftypisom\0\0\0\0\0\0\0\x08moov")
    with pytest.raises(CarfixError, match="no video stream to restore, nor any other"):
        restore(empty, tmp_path / "out.mkv")


def test_folder_as_input(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="is a folder"):
        restore(tmp_path, tmp_path / "out.mp4")


@pytest.mark.parametrize("link", ["same", "symbolic", "hard"])
def test_output_that_is_the_input(clip: Path, link: str, tmp_path: Path) -> None:
    output = clip if link == "same" else tmp_path / "other.mp4"
    if link == "symbolic":
        output.symlink_to(clip)
    elif link == "hard":
        os.link(clip, output)
    before = clip.read_bytes()
    with pytest.raises(UsageError, match="same file"):
        restore(clip, output, overwrite=True)
    assert clip.read_bytes() == before


def test_existing_output_needs_permission(clip: Path, tmp_path: Path) -> None:
    output = tmp_path / "out.mp4"
    output.write_bytes(b"precious")
    with pytest.raises(CarfixError, match="exists already; -y overwrites it"):
        restore(clip, output)
    assert output.read_bytes() == b"precious"
    restore(clip, output, overwrite=True)
    assert len(media.frame_times(output)) == 30


def test_a_pipe_is_not_replaced_by_a_file(clip: Path, tmp_path: Path) -> None:
    """Nor a device: for the superuser, `-y` and a rename would have done away with /dev/null."""
    os.mkfifo(tmp_path / "pipe.mp4")
    with pytest.raises(CarfixError, match="is a device or a pipe"):
        restore(clip, tmp_path / "pipe.mp4", overwrite=True)
    assert (tmp_path / "pipe.mp4").is_fifo()


@pytest.mark.skipif(os.geteuid() == 0, reason="the superuser may write everywhere")
def test_unwritable_folder(clip: Path, tmp_path: Path) -> None:
    folder = tmp_path / "sealed"
    folder.mkdir()
    folder.chmod(stat.S_IRUSR | stat.S_IXUSR)
    with pytest.raises(CarfixError, match="not writable"):
        restore(clip, folder / "out.mp4")


def test_missing_folder(clip: Path, tmp_path: Path) -> None:
    with pytest.raises(CarfixError, match="there is no folder"):
        restore(clip, tmp_path / "absent" / "out.mp4")
    assert names(tmp_path) == {"in.mp4"}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"encoder": EncoderSettings(codec="libx26")}, "unknown encoder 'libx26'; did you mean"),
        (
            {"encoder": EncoderSettings(codec="libaom-av1")},
            r"unknown encoder 'libaom-av1'(; did you mean (?!libdav1d)|$)",
        ),
        ({"encoder": EncoderSettings(codec="aac")}, "not a video encoder"),
        ({"encoder": EncoderSettings(options={"crv": "5"})}, "no option 'crv'; did you mean"),
        ({"encoder": EncoderSettings(codec="ffv1", crf=5)}, "no option 'crf'"),
        ({"encoder": EncoderSettings(crf=-1)}, "-crf must not be negative"),
        ({"encoder": EncoderSettings(preset="quick")}, "no preset 'quick'"),
        ({"encoder": EncoderSettings(tune="film,bar")}, "no tune 'bar', but film, "),
        (
            {"encoder": EncoderSettings(options={"profile": "highest"})},
            "no profile 'highest', but baseline, ",
        ),
        ({"encoder": EncoderSettings(codec="h264", crf=60)}, "libx264 takes -crf up to 51"),
        ({"encoder": EncoderSettings(codec="h264", maxrate="1M")}, "-maxrate needs -bufsize"),
        ({"encoder": EncoderSettings(codec="hevc", preset="quick")}, "libx265 has no preset 'quick'"),
        ({"encoder": EncoderSettings(bitrate="many")}, "refuses these options"),
        ({"encoder": EncoderSettings(options={"x264-params": "foo=1"})}, "foo"),
        ({"encoder": EncoderSettings(pix_fmt="yuv999")}, "unknown pixel format"),
        ({"encoder": EncoderSettings(pix_fmt="yuv422")}, "did you mean yuv422p?"),
        ({"encoder": EncoderSettings(pix_fmt="rgb24")}, "does not take rgb24"),
        ({"tile": -4}, "--tile must be positive"),
        ({"strength": -0.5}, "--strength is auto or a number from 0 to 2, not -0.5"),
        ({"batch": 0}, "--batch must be positive"),
        ({"segment_seconds": 0}, "--segment takes a positive length"),
        ({"audio_codec": "mp33"}, "unknown audio encoder"),
        ({"audio_codec": "libx264"}, "not an audio encoder"),
        ({"format": "mp44"}, "no container is called 'mp44'"),
        ({"start": -1.0}, "-ss must not be negative"),
        ({"start": math.nan}, "-ss takes a number of seconds, not nan"),
        ({"duration": math.inf}, "-t takes a number of seconds, not inf"),
        ({"start": 2.0, "end": 1.0}, "range is empty"),
        ({"duration": 1.0, "end": 1.0}, "not both"),
    ],
)
def test_settings_that_no_file_could_go_with(
    clip: Path, tmp_path: Path, options: dict[str, object], message: str
) -> None:
    with pytest.raises(UsageError, match=message) as failure:
        restore(clip, tmp_path / "out.mp4", **options)
    assert failure.value.exit_code == 2
    assert "\n" not in str(failure.value)
    assert names(tmp_path) == {"in.mp4"}


@pytest.mark.parametrize("name", ["out.m3u8", "out.mpd", "out%03d.png", "hls", "segment"])
def test_several_files_for_one(
    name: str, clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """FFmpeg would write the parts into the current folder, and there is nothing to verify and rename."""
    monkeypatch.chdir(tmp_path)
    format = None if "." in name else name
    with pytest.raises(UsageError, match=r"more than one file \(.*\): write \.mp4 or \.mkv"):
        restore(clip, tmp_path / (name if format is None else "out.ts"), format=format)
    assert names(tmp_path) == {"in.mp4"}


def test_settings_may_be_numbers_and_numbers_texts() -> None:
    """As one writes them in Python."""
    wanted = EncoderSettings(crf=20, gop=25, maxrate="2000000", bufsize="4M", options={"threads": "1"})
    settings = EncoderSettings(
        crf="20",
        gop="25",
        maxrate=2_000_000,
        bufsize="4M",
        options={"threads": 1},  # type: ignore[arg-type, dict-item]
    )
    assert settings == wanted
    check_settings(settings)
    assert EncoderSettings(codec="libsvtav1", preset=8).preset == "8"  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="crf is a number, not 'good'"):
        EncoderSettings(crf="good")  # type: ignore[arg-type]


@pytest.mark.parametrize("options", [{}, {"preset": "nonsense"}])
def test_an_encoder_whose_hardware_is_not_there(options: dict[str, str]) -> None:
    """As with `--device`, exit code 3. No machine has the hardware of all."""
    missing = 0
    for codec in ("h264_amf", "h264_qsv", "h264_nvenc"):
        if codec not in av.codec.codecs_available:
            continue
        try:
            check_settings(EncoderSettings(codec=codec, **options))  # type: ignore[arg-type]
        except MissingPartError as error:
            assert f"the encoder {codec} does not open on this machine" in str(error)
            missing += 1
        except UsageError:
            assert options  # it is here, and has no such preset
    if not missing:
        pytest.skip("this FFmpeg has no such encoder, or this machine them all")


def test_name_without_a_container(clip: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="does not say which container"):
        restore(clip, tmp_path / "out.xyz")
    restore(clip, tmp_path / "out.xyz", format="matroska")
    with av.open(str(tmp_path / "out.xyz")) as container:
        assert "matroska" in container.format.name


def test_times_that_milliseconds_do_not_tell_apart(tmp_path: Path) -> None:
    """A high-speed camera's: all frames had the same time in Matroska."""
    source = media.write_clip(
        tmp_path / "in.mp4", frames=8, rate=Fraction(30_000), time_base=Fraction(1, 30_000)
    )
    with pytest.raises(CarfixError, match=r"matroska counts in steps of 1/1000 s .*; write \.mp4 or \.mov"):
        restore(source, tmp_path / "out.mkv")
    restore(source, tmp_path / "out.mp4")
    assert media.frame_times(tmp_path / "out.mp4") == media.frame_times(source)
    slower = media.write_clip(
        tmp_path / "slower.mp4", frames=8, rate=Fraction(1000), time_base=Fraction(1, 90_000)
    )
    restore(slower, tmp_path / "slower.mkv")


def test_a_pause_that_is_too_long_for_the_container(tmp_path: Path) -> None:
    """A recorder's that was still over night: MP4 counts from frame to frame in 31 bits, AVI fills the pause up."""
    tick = Fraction(1, 90_000)
    times = [3600 * n + (0 if n < 8 else 7 * 3600 * 90_000) for n in range(12)]
    source = media.write_clip(
        tmp_path / "in.ts", time_base=tick, times=times, options={**media.X264, "bf": "0"}
    )
    for suffix in (".mp4", ".avi"):
        with pytest.raises(
            CarfixError, match=r"cannot hold the pause of 25200\.0 s at 0\.280 s; write \.mkv"
        ):
            restore(source, tmp_path / f"out{suffix}", model=Failing(0, AssertionError("computed")))
    restore(source, tmp_path / "out.mkv")
    assert len(media.frame_times(tmp_path / "out.mkv")) == 12


@pytest.mark.parametrize(("codec", "pause"), [("copy", 1500), ("libmp3lame", 1500), ("ac3", None)])
def test_a_pause_in_sound_that_is_too_long_for_avi(codec: str, pause: int | None, tmp_path: Path) -> None:
    """It fills pauses of sound up as well, and the picture may go on: that came out when all was computed."""
    whole = media.write_clip(
        tmp_path / "whole.mkv",
        time_base=Fraction(1, 1000),
        times=[50_000 * n for n in range(32)],
        sounds=[Sound(seconds=2.0)],
    )
    source = media.with_silence(whole, tmp_path / "in.mkv", after=1000, ticks=1_500_000)
    if pause is None:  # counted by its bytes
        restore(source, tmp_path / "out.avi", audio_codec=codec)
        return
    with pytest.raises(
        CarfixError, match=rf"avi cannot hold the pause of {pause}\.\d s at .* in audio stream 1"
    ):
        restore(source, tmp_path / "out.avi", audio_codec=codec, model=Failing(0, AssertionError("computed")))
    restore(source, tmp_path / "out.avi", audio_codec=codec, end=1000)


@pytest.mark.parametrize("suffix", [".mp4", ".avi", ".ts", ".flv"])
def test_a_usual_pause_is_taken(suffix: str, tmp_path: Path) -> None:
    times = [40 * n + (0 if n < 8 else 20_000) for n in range(12)]
    source = media.write_clip(tmp_path / "in.mkv", time_base=Fraction(1, 1000), times=times)
    restore(source, tmp_path / f"out{suffix}")
    times = media.frame_times(tmp_path / f"out{suffix}")
    assert times[8] - times[7] == pytest.approx(20.04, abs=0.001)


def test_a_video_that_is_too_long_for_the_clock(tmp_path: Path) -> None:
    """A time lapse, whose last frames transport streams would show with the first."""
    source = media.write_clip(
        tmp_path / "in.mkv", time_base=Fraction(1, 1000), times=[3_600_000 * n for n in range(28)]
    )
    with pytest.raises(
        CarfixError, match=r"mpegts cannot hold a video of 27\.0 hours, but 26\.5; write \.mkv"
    ):
        restore(source, tmp_path / "out.ts", model=Failing(0, AssertionError("computed")))
    restore(source, tmp_path / "out.mp4")
