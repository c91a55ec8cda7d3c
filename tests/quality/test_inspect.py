import dataclasses
import io
import json
import struct
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from av.video.frame import PictureType
from media import HEIGHT, WIDTH, Sound
from media import write_clip as write_media
from quality.clips import damage_packets, moving_picture, write_clip, write_model

from carfix.errors import CarfixError
from carfix.net.catalog import installed
from carfix.net.checkpoint import load_checkpoint, read_description
from carfix.quality.chosen import choose
from carfix.quality.compare import compare_videos
from carfix.quality.comparison_run import bit_rate
from carfix.quality.gain import GainFit, Point, fit_gain, fits_from_json, fits_to_json, installed_fit
from carfix.quality.inspect import inspect_file, measure_speed
from carfix.quality.methods import Restored
from carfix.quality.reader import read_frames
from carfix.video.one_clock import move


def line(quantizer: float, bits: float) -> float:
    return 0.1 + 0.02 * quantizer - 0.05 * np.log2(bits)


def points(noise: float = 0.0, clips: int = 5) -> list[Point]:
    rng = np.random.default_rng(0)
    found = []
    for clip in range(clips):
        for quantizer in (26, 32, 38, 44, 50):
            bits = float(2 ** (rng.normal(0, 1) - quantizer / 6))
            gain = line(quantizer, bits) + float(rng.normal(0, noise))
            found.append(Point(f"clip{clip}", quantizer, bits, gain))
    return found


def test_a_fit_finds_the_law_behind_its_points() -> None:
    fit = fit_gain(points(), "abc")
    assert fit.error < 1e-9
    assert fit.predict(35, 0.02) == pytest.approx(line(35, 0.02))
    assert (fit.clips, fit.variants, fit.quantizers) == (5, 25, (26, 50))


def test_the_error_is_that_of_clips_it_never_saw() -> None:
    fit = fit_gain(points(noise=0.1), "abc")
    assert 0.05 < fit.error < 0.2
    # Gains that have nothing to do with the file: the error is not below their own spread.
    shuffled = points()
    gains = np.random.default_rng(1).permutation([point.gain for point in shuffled])
    lost = [
        Point(p.clip, p.quantizer, p.bits_per_pixel, float(g)) for p, g in zip(shuffled, gains, strict=True)
    ]
    assert fit_gain(lost, "abc").error > 0.9 * np.std(gains)


def test_predictions_do_not_leave_the_measured_range() -> None:
    fit = fit_gain(points(), "abc")
    assert fit.predict(3, 0.02) == fit.predict(26, 0.02)
    assert fit.predict(51, 0.02) == fit.predict(50, 0.02)


def test_predictions_are_no_larger_than_what_was_measured() -> None:
    """A still picture needs next to no bits: by the line alone it would gain decibels."""
    fit = fit_gain(points(), "abc")
    found = [line(point.quantizer, point.bits_per_pixel) for point in points()]
    assert fit.gains == (pytest.approx(min(found)), pytest.approx(max(found)))
    assert fit.predict(50, 1e-9) == pytest.approx(max(found))
    assert fit.predict(26, 1e9) == pytest.approx(min(found))
    # Nor than the part of it that a share of the correction gives.
    assert fit.predict(26, 1e-9, share=0.5) == pytest.approx(0.75 * max(found))
    assert fit.predict(26, 1e-9, share=0.0) == 0
    assert str(dataclasses.replace(fit, gains=(-1, 1)).predict(26, 1e99, share=0.0)) == "0.0"
    assert fit.predict(35, 0.02, share=1.2) == pytest.approx(line(35, 0.02))


def test_no_gain_is_promised_where_a_restore_changes_nothing(tmp_path: Path) -> None:
    black = np.full((12, 64, 96), 16, np.uint8)
    path = write_clip(tmp_path / "black.mp4", black, options={"qp": "10", "threads": "1"})
    fit = installed_fit("fast", read_description(installed()["fast"]).sha256)
    assert fit is not None
    found = inspect_file(path, fit=fit)
    assert found.mean_quantizer is not None and found.mean_quantizer < 12
    assert found.predicted_gain == 0


def test_recordings_put_together_are_counted_whole(tmp_path: Path) -> None:
    """FFmpeg's duration of them is that of the last one."""
    part = write_clip(tmp_path / "part.ts", moving_picture(30), options={"qp": "30", "threads": "1"})
    whole = tmp_path / "whole.ts"
    whole.write_bytes(3 * part.read_bytes())
    one, three = inspect_file(part, seconds_per_pixel=1e-6), inspect_file(whole, seconds_per_pixel=1e-6)
    assert (one.frames, three.frames, three.duration) == (30, 90, pytest.approx(90 / 25, abs=0.05))
    assert three.bits_per_pixel == pytest.approx(one.bits_per_pixel, rel=0.05)
    assert three.seconds == pytest.approx(3 * (one.seconds or 0))


@pytest.mark.parametrize("name", ["r.ts", "r.avi", "r.mkv"])
def test_what_a_recorder_set_aside_and_did_not_fill_is_no_video(name: str, tmp_path: Path) -> None:
    """It counted as bits of the picture, and a file that is worth restoring was promised nothing."""
    full = write_clip(tmp_path / name, moving_picture(30), options={"qp": "30", "threads": "1"})
    one = inspect_file(full, seconds_per_pixel=1e-6)
    rate = bit_rate(choose(full, None))
    full.write_bytes(full.read_bytes() + bytes(1 << 22))
    other = inspect_file(full, seconds_per_pixel=1e-6)
    assert (other.frames, other.duration) == (30, pytest.approx(1.2, abs=0.05))
    assert other.bits_per_pixel == pytest.approx(one.bits_per_pixel, rel=0.5)
    assert bit_rate(choose(full, None)) == pytest.approx(rate, rel=0.5)


def test_a_clock_that_leaps_ahead_is_no_video(tmp_path: Path) -> None:
    """Ten hours between two recordings were taken for frames."""
    options = {"qp": "30", "threads": "1"}
    parts = [tmp_path / "part.ts", tmp_path / "later.ts"]
    write_clip(parts[0], moving_picture(30), options=options)
    with av.open(str(parts[0])) as source, av.open(str(parts[1]), "w") as target:
        video = target.add_stream_from_template(source.streams.video[0])
        for packet in source.demux(video=0):
            if packet.size:
                move(packet, Fraction(36_000))
                packet.stream = video
                target.mux(packet)
    whole = tmp_path / "whole.ts"
    whole.write_bytes(b"".join(part.read_bytes() for part in parts))
    one, both = (inspect_file(path, seconds_per_pixel=1e-6) for path in (parts[0], whole))
    assert (both.frames, both.duration) == (60, pytest.approx(36_000, abs=5))
    assert both.bits_per_pixel == pytest.approx(one.bits_per_pixel, rel=0.05)
    assert both.seconds == pytest.approx(2 * (one.seconds or 0))


@pytest.mark.parametrize(("stated", "name"), [(None, "s.mkv"), (2000.0, "s.mkv"), (None, "s.nut")])
def test_what_is_before_the_first_frame_does_not_count(
    stated: float | None, name: str, tmp_path: Path
) -> None:
    """Matroska cut into pieces on one clock: FFmpeg states in each when it ends, mkvmerge how long it lasts."""
    options = {"qp": "30", "g": "10", "threads": "1"}
    frames = moving_picture(50)
    one, late = (
        write_clip(
            tmp_path / f"{start}{name}", frames, times=[start + 40 * i for i in range(50)], options=options
        )
        for start in (0, 60_000)
    )
    if stated is not None:
        whole = late.read_bytes()
        place = whole.index(b"\x44\x89\x88") + 3  # Matroska's Duration, 8 bytes long
        late.write_bytes(whole[:place] + struct.pack(">d", stated) + whole[place + 8 :])
    first, piece = (inspect_file(path, seconds_per_pixel=1e-6) for path in (one, late))
    assert (piece.frames, piece.duration) == (50, pytest.approx(2, abs=0.05))
    assert piece.bits_per_pixel == pytest.approx(first.bits_per_pixel, rel=0.05)
    assert piece.seconds == pytest.approx(first.seconds) and piece.mean_quantizer == first.mean_quantizer
    rate = compare_videos(reference=late, candidates=[late], frames=1).results[0].bit_rate
    assert rate == pytest.approx(8 * late.stat().st_size / 2, rel=0.05)


@pytest.mark.parametrize("suffix", [".mkv", ".flv", ".mp4"])
def test_a_file_that_was_cut_lasts_as_long_as_what_is_left(suffix: str, tmp_path: Path) -> None:
    """It states the duration of the whole: bits a pixel were too few, and a gain was promised that is not to be had."""
    options = {"qp": "30", "g": "10", "threads": "1"}
    muxer = {"movflags": "faststart"} if suffix == ".mp4" else {}
    whole = write_media(tmp_path / f"in{suffix}", frames=100, options={**options, "bf": "0"}, muxer=muxer)
    cut = tmp_path / f"cut{suffix}"
    data = whole.read_bytes()
    cut.write_bytes(data[: len(data) * 2 // 5])
    first, rest = inspect_file(whole, seconds_per_pixel=1e-6), inspect_file(cut, seconds_per_pixel=1e-6)
    assert first.frames == 100 and rest.frames == pytest.approx(40, abs=6)
    assert rest.duration == pytest.approx(rest.frames / 25)
    assert rest.bits_per_pixel == pytest.approx(first.bits_per_pixel, rel=0.2)
    assert compare_videos(reference=cut, candidates=[cut], frames=1).results[0].bit_rate == pytest.approx(
        8 * cut.stat().st_size / rest.duration
    )


@pytest.mark.parametrize("name", ["matroska", "nut"])
def test_what_states_no_duration_is_counted(name: str, tmp_path: Path) -> None:
    """From a pipe, or of a recorder that was stopped at once: it had neither bits a pixel, nor time, nor gain."""

    class Unseekable(io.BytesIO):
        def seekable(self) -> bool:
            return False

        def seek(self, *_: object) -> int:
            raise io.UnsupportedOperation("seek")

    options = {"qp": "30", "g": "10", "threads": "1"}
    clip = write_clip(tmp_path / "in.mp4", moving_picture(50), options=options)
    piped = Unseekable()
    with av.open(str(clip)) as source, av.open(piped, "w", format=name) as output:
        copy = output.add_stream_from_template(source.streams.video[0])
        for packet in source.demux():
            if packet.size:
                packet.stream = copy
                output.mux(packet)
    (tmp_path / "piped").write_bytes(piped.getvalue()[: -2000 if name == "nut" else None])
    found = inspect_file(tmp_path / "piped", seconds_per_pixel=1e-6)
    with av.open(str(tmp_path / "piped")) as container:
        assert found.frames == sum(packet.size > 0 for packet in container.demux())
    assert found.duration == pytest.approx(found.frames / 25) and found.bits_per_pixel and found.seconds


def test_too_few_clips_are_an_error() -> None:
    with pytest.raises(CarfixError, match="at least 3 clips, not 2"):
        fit_gain(points(clips=2), "abc")


def test_fits_survive_their_file() -> None:
    fits = {"fast": fit_gain(points(), "abc")}
    assert fits_from_json(fits_to_json(fits)) == fits


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    options = {"crf": "33", "g": "10", "threads": "1"}
    return write_clip(tmp_path_factory.mktemp("i") / "clip.mp4", moving_picture(30), options=options)


def test_a_file_is_described(clip: Path) -> None:
    fit = GainFit("abc", ("quantizer",), (0.0, 0.01), 0.05, 5, 60, (1, 51), (-9, 9))
    found = inspect_file(clip, fit=fit, seconds_per_pixel=1e-6)
    assert (found.codec, found.width, found.height, found.fps, found.frames) == ("h264", 96, 64, 25, 30)
    assert found.duration == pytest.approx(30 / 25, abs=0.05)
    exact = np.mean([frame.quantizer for frame in read_frames(clip, quantizers=True)])
    assert found.mean_quantizer == pytest.approx(exact, abs=2)
    assert found.bits_per_pixel == pytest.approx(8 * clip.stat().st_size / (30 * 96 * 64), rel=0.4)
    assert found.predicted_gain == pytest.approx(0.01 * (found.mean_quantizer or 0))
    assert found.gain_error == 0.05
    assert found.seconds == pytest.approx(1e-6 * 96 * 64 * 30)
    assert json.loads(json.dumps(found.to_json()))["codec"] == "h264"


def test_sound_does_not_count_as_video(tmp_path: Path) -> None:
    """Matroska states no bit rates: a camera's PCM would make ten times as many bits of few."""
    sounds = [Sound(codec="pcm_s16le", rate=44_100, seconds=1.2)]
    silent = write_media(tmp_path / "silent.mkv", frames=30, options={"crf": "35"})
    loud = write_media(tmp_path / "loud.mkv", frames=30, options={"crf": "35"}, sounds=sounds)
    assert loud.stat().st_size > 2 * silent.stat().st_size
    wanted = inspect_file(silent).bits_per_pixel
    assert wanted and inspect_file(loud).bits_per_pixel == pytest.approx(wanted, rel=0.2)


def test_what_is_not_known_is_none(tmp_path: Path) -> None:
    lossless = write_clip(tmp_path / "m.avi", moving_picture(3), codec="ffv1")
    fit = GainFit("abc", ("quantizer",), (0.0, 0.01), 0.05, 5, 60, (1, 51), (-9, 9))
    found = inspect_file(lossless, fit=fit)
    assert found.mean_quantizer is found.predicted_gain is found.gain_error is found.seconds is None
    hevc = write_clip(
        tmp_path / "h.mp4", moving_picture(8), codec="libx265", options={"x265-params": "log-level=none"}
    )
    found = inspect_file(hevc, fit=fit)
    assert found.mean_quantizer is not None and found.bits_per_pixel is not None
    assert found.predicted_gain is None  # the fit is of H.264
    whole = write_clip(tmp_path / "w.mp4", moving_picture(3), options={"qp": "0", "threads": "1"})
    found = inspect_file(whole, fit=fit)
    assert found.mean_quantizer == 0 and found.predicted_gain is found.gain_error is None
    raw = write_clip(tmp_path / "raw.h264", moving_picture(12), options={"crf": "33", "threads": "1"})
    found = inspect_file(raw, fit=fit)
    assert found.mean_quantizer is not None and found.duration is None and found.bits_per_pixel is None


def test_what_was_encoded_again_is_told_from_what_is_good(tmp_path: Path) -> None:
    """The sample clip as it is, and as someone exported it: the same pictures, much finer quantizers."""
    first = Path(__file__).parents[1] / "data" / "highway.mp4"
    again = tmp_path / "again.mp4"
    with av.open(str(first)) as read, av.open(str(again), "w") as written:
        video = read.streams.video[0]
        stream = written.add_stream("libx264", rate=25, options={"crf": "17", "threads": "1"})
        stream.width, stream.height, stream.pix_fmt = video.width, video.height, "yuv420p"
        for number, frame in enumerate(read.decode(video)):
            frame.pts, frame.time_base, frame.pict_type = number, Fraction(1, 25), PictureType.NONE
            written.mux(stream.encode(frame))
        written.mux(stream.encode(None))
    fit = GainFit("abc", ("quantizer", "log2 bits a pixel"), (0.0, 0.01, -0.1), 0.05, 5, 60, (1, 51), (-9, 9))
    once, twice = (inspect_file(path, fit=fit) for path in (first, again))
    assert not once.encoded_again
    assert twice.encoded_again
    assert once.level is not None and twice.level is not None
    assert once.mean_quantizer is not None and twice.mean_quantizer is not None
    assert twice.mean_quantizer < once.mean_quantizer - 8
    assert twice.level == pytest.approx(once.level, abs=5)
    assert once.predicted_gain is not None and twice.predicted_gain is not None
    assert twice.predicted_gain == pytest.approx(once.predicted_gain, abs=0.3)


def test_damage_in_the_middle_does_not_keep_a_file_from_being_inspected(clip: Path, tmp_path: Path) -> None:
    found = inspect_file(damage_packets(tmp_path / "damaged.mp4", clip, range(3, 8)))
    assert found.mean_quantizer is not None and found.frames == 30


def test_a_file_that_cannot_be_read_is_an_error(tmp_path: Path) -> None:
    broken = tmp_path / "broken.mp4"
    broken.write_bytes(b"nothing")
    with pytest.raises(CarfixError, match=r"broken\.mp4"):
        inspect_file(broken)


def test_the_speed_is_measured_with_the_engine(tmp_path: Path) -> None:
    restored = Restored(load_checkpoint(write_model(tmp_path / "tiny.safetensors")), device="cpu")
    assert 0 < measure_speed(restored) < 1e-3
    restored.close()


@pytest.mark.parametrize("milliseconds", [-1e9, 9.2e15])
def test_a_duration_that_damage_stated_is_none(milliseconds: float, tmp_path: Path) -> None:
    clip = write_clip(tmp_path / "clip.mkv", moving_picture(8))
    whole = clip.read_bytes()
    place = whole.index(b"\x44\x89\x88") + 3  # Matroska's Duration, 8 bytes long
    clip.write_bytes(whole[:place] + struct.pack(">d", milliseconds) + whole[place + 8 :])
    found = inspect_file(clip, seconds_per_pixel=1e-6)
    assert (found.duration, found.frames, found.seconds, found.bits_per_pixel) == (None,) * 4
    assert found.mean_quantizer is not None


#: As real encoders write these: with a clock that ticks once a frame.
EVERY_FRAME = Fraction(1, 25)


@pytest.mark.parametrize("name", ["m.mpg", "m.mkv", "m.avi"])
def test_a_variable_rates_marker_is_no_bit_rate(name: str, tmp_path: Path) -> None:
    clip = write_media(tmp_path / name, codec="mpeg1video", time_base=EVERY_FRAME, frames=50)
    found = inspect_file(clip)
    assert found.bits_per_pixel is not None and found.duration is not None
    whole = 8 * clip.stat().st_size / found.duration
    assert found.bits_per_pixel <= whole / (25 * WIDTH * HEIGHT) * 1.001


def test_a_duration_computed_from_that_marker_is_none(tmp_path: Path) -> None:
    clip = write_media(tmp_path / "m.m1v", codec="mpeg1video", time_base=EVERY_FRAME, frames=50)
    found = inspect_file(clip, seconds_per_pixel=1e-6)
    assert (found.duration, found.frames, found.seconds, found.bits_per_pixel) == (None,) * 4
    assert compare_videos(reference=clip, candidates=[clip], frames=1).results[0].bit_rate is None


def test_frame_rates_are_those_of_the_frames(tmp_path: Path) -> None:
    x264 = {"preset": "ultrafast", "bf": "0"}
    mp4 = write_media(tmp_path / "a.mp4", frames=50, options=x264)
    # A clock that ticks far more often than there are frames, as in an AVI that was made of an MP4.
    copied = write_media(tmp_path / "copied.avi", frames=50, options=x264)
    ivf = write_media(tmp_path / "v.ivf", codec="libvpx", time_base=EVERY_FRAME, frames=10)
    dv = write_media(
        tmp_path / "d.dv", codec="dvvideo", width=720, height=576, time_base=EVERY_FRAME, frames=2
    )
    for clip in (mp4, copied, ivf, dv):
        found = inspect_file(clip)
        assert found.fps == 25, clip.name
    assert inspect_file(copied).frames == 50
    # Most distances are a frame of 25 fps, but the camera paused: fewer frames, each of more bits.
    paused = write_media(
        tmp_path / "p.mp4", frames=40, options=x264, times=[512 * i + 6400 * (i // 10) for i in range(40)]
    )
    found = inspect_file(paused)
    assert found.fps == pytest.approx(40 / (40 / 25 + 3 * 0.5), rel=0.01) and found.frames == 40


def test_a_picture_that_cannot_be_sought_in_is_inspected(tmp_path: Path) -> None:
    still = write_media(
        tmp_path / "still.jpg",
        codec="mjpeg",
        format="image2",
        pix_fmt="yuvj420p",
        width=640,
        height=480,
        time_base=EVERY_FRAME,
        frames=1,
        muxer={"update": "1"},
    )
    found = inspect_file(still)
    assert (found.codec, found.width, found.height) == ("mjpeg", 640, 480)
    assert found.mean_quantizer is not None
