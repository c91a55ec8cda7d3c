from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from scenes import scene

from carfix.errors import CarfixError
from carfix.training.encoding import (
    Encoding,
    _write,
    cap_scale,
    check_encodings,
    draw,
    encode,
    encode_lossless,
    paper_grid,
)
from carfix.training.sources import read_video
from carfix.video.x264 import PRESETS, PROFILES


def test_the_grid_is_the_papers() -> None:
    grid = paper_grid()
    assert len(grid) == 12
    assert {(e.crf, e.maxrate) for e in grid} == {
        (crf, rate) for crf in (29, 35, 41, 47) for rate in (2_000_000, 1_500_000, 1_000_000)
    }
    assert grid[0].name == "crf29-2000k"
    options = grid[0].options(Fraction(1))
    assert (options["crf"], options["maxrate"], options["bufsize"]) == ("29", "2000000", "4000000")


def test_caps_follow_the_pixel_rate_below_1080p30() -> None:
    assert cap_scale(1920, 1080, Fraction(30)) == 1
    assert cap_scale(3840, 2160, Fraction(60)) == 1
    assert cap_scale(960, 540, Fraction(30)) == Fraction(1, 4)
    assert cap_scale(960, 540, Fraction(15)) == Fraction(1, 8)
    assert Encoding(crf=29, maxrate=2_000_000).options(Fraction(1, 8))["maxrate"] == "250000"


def test_draws_are_repeatable_and_varied() -> None:
    drawn = draw(60, "clip")
    assert drawn == draw(60, "clip")
    assert drawn != draw(60, "other")
    assert len({encoding.name for encoding in drawn}) == 60
    assert {encoding.codec for encoding in drawn} == {"libx264", "libx265", "mpeg4", "mjpeg"}
    assert draw(3, "clip") == drawn[:3]  # asking for more keeps what is there


@pytest.mark.parametrize("encoding", [e for e in {d.codec: d for d in draw(60, "clip")}.values()], ids=str)
def test_every_codec_that_is_drawn_encodes_every_frame(tmp_path: Path, encoding: Encoding) -> None:
    frames = scene()
    encode(tmp_path / "variant.mp4", frames, Fraction(25), encoding)
    decoded, fps = read_video(tmp_path / "variant.mp4", size=None, start=0, frames=100)
    assert decoded.shape == frames.shape
    assert fps == 25
    assert 0 < np.abs(decoded.astype(int) - frames).mean() < 25


@pytest.mark.parametrize("fps", [Fraction(2700000, 90113), Fraction(1080000, 2981), Fraction(1, 600)])
def test_every_codec_takes_the_odd_rates_of_phones_and_cameras(tmp_path: Path, fps: Fraction) -> None:
    """The mean of frames that come when they will. MPEG-4 Part 2 states no such rate exactly."""
    for encoding in draw(40, "street"):
        if encoding.codec != "libx264":
            encode(tmp_path / "clip.mp4", scene(4), fps, encoding)
            decoded, rate = read_video(tmp_path / "clip.mp4", size=None, start=0, frames=9)
            assert len(decoded) == 4
            if encoding.codec == "mpeg4":
                assert float(rate) == pytest.approx(float(fps), rel=1e-4)


class Delayed:
    """An encoder and its container: all packets come at the end, their times of decoding as x265 leaves them."""

    pix_fmt = "gray"

    def __init__(self) -> None:
        self.times: list[int | None] = []
        self.written: list[tuple[int | None, int | None]] = []

    def start_encoding(self) -> None:
        pass

    def encode(self, frame: av.VideoFrame | None) -> list[av.Packet]:
        if frame is not None:
            self.times.append(frame.pts)
            return []
        packets = [av.Packet(b"picture") for _ in self.times]
        for packet, time in zip(packets, self.times, strict=True):
            packet.pts, packet.dts = time, -(2**61) if len(self.times) < 3 else (time or 0) - 2
        return packets

    def mux(self, packets: list[av.Packet]) -> None:
        self.written += [(packet.pts, packet.dts) for packet in packets]


@pytest.mark.parametrize(
    ("frames", "expected"), [(1, [(0, 0)]), (2, [(0, 0), (1, 1)]), (3, [(0, -2), (1, -1), (2, 0)])]
)
def test_clips_of_a_few_frames_get_the_times_that_x265_does_not_set(
    frames: int, expected: list[tuple[int, int]]
) -> None:
    """What lies in memory there was refused by the muxer now and then."""
    both = Delayed()
    _write(both, both, scene(frames), Fraction(25))  # type: ignore[arg-type]
    assert both.written == expected


@pytest.mark.parametrize("frames", [1, 2, 3])
def test_every_codec_takes_a_few_frames(tmp_path: Path, frames: int) -> None:
    for encoding in draw(40, "street"):
        encode(tmp_path / "clip.mp4", scene(frames), Fraction(25), encoding)
        assert len(read_video(tmp_path / "clip.mp4", size=None, start=0, frames=9)[0]) == frames


def test_the_cap_binds(tmp_path: Path) -> None:
    frames = scene(50)
    sizes = []
    for maxrate in (None, 10_000_000_000, 4_000_000):
        path = tmp_path / "variant.mp4"
        encode(path, frames, Fraction(25), Encoding(crf=10, maxrate=maxrate, gop=1))
        sizes.append(path.stat().st_size)
    assert sizes[2] < 0.7 * sizes[0]
    assert sizes[1] > 0.9 * sizes[0]


def test_quality_falls_with_the_quantizer(tmp_path: Path) -> None:
    frames = scene()
    for codec in ("mpeg4", "mjpeg"):
        errors = []
        for qscale in (3, 12, 24):
            encode(
                tmp_path / "q.mp4", frames, Fraction(25), Encoding(codec=codec, qscale=qscale, preset=None)
            )
            decoded, _ = read_video(tmp_path / "q.mp4", size=None, start=0, frames=100)
            errors.append(np.square(decoded.astype(float) - frames).mean())
        assert errors == sorted(errors)
        assert errors[2] > 3 * errors[0]


def test_lossless_is_lossless(tmp_path: Path) -> None:
    frames = scene(height=50, width=70)
    encode_lossless(tmp_path / "pristine.mkv", frames, Fraction(30000, 1001))
    decoded, fps = read_video(tmp_path / "pristine.mkv", size=None, start=0, frames=100)
    assert np.array_equal(decoded, frames)
    assert abs(fps - Fraction(30000, 1001)) < Fraction(1, 10)


def test_all_that_is_drawn_and_x264s_own_settings_pass_the_check() -> None:
    own = [Encoding(crf=20, preset=preset, profile="main") for preset in PRESETS]
    own += [Encoding(crf=20, profile=profile) for profile in PROFILES]
    check_encodings([*paper_grid(), *draw(60, "clip"), *own])


def test_settings_that_the_encoder_refuses_are_named(tmp_path: Path) -> None:
    with pytest.raises(CarfixError, match="libx264"):
        encode(tmp_path / "x.mp4", scene(), Fraction(25), Encoding(crf=29, preset="hasty"))
