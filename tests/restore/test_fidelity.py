"""For each kind of file, everything but the luma samples is as in the input."""

import itertools
import re
import struct
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import av
import media
import numpy as np
import pytest
from av.video.frame import VideoFrame
from av.video.stream import VideoStream
from fidelity import assert_same_times, assert_same_video, restore
from media import Sound

from carfix.video.encoder_settings import EncoderSettings

LOSSLESS = EncoderSettings(codec="ffv1")

VFR = [0, 512, 600, 601, 2500, 2501, 3000, 5000, 5100, 9000, 9010, 9020]

TIMING: dict[str, tuple[str, Callable[[Path], Path]]] = {
    "vfr": (".mp4", lambda path: media.write_clip(path, times=VFR)),
    "vfr mkv": (
        ".mkv",
        lambda path: media.write_clip(path, times=[t * 3 for t in range(12)], time_base=Fraction(1, 1000)),
    ),
    "start offset": (".mp4", lambda path: media.write_clip(path, times=[64000 + 512 * i for i in range(12)])),
    "start offset mkv": (
        ".mkv",
        lambda path: media.write_clip(path, times=[64000 + 512 * i for i in range(12)]),
    ),
    "24000/1001": (
        ".mp4",
        lambda path: media.write_clip(
            path,
            times=[1001 * i for i in range(12)],
            time_base=Fraction(1, 24000),
            rate=Fraction(24000, 1001),
        ),
    ),
    "90 kHz ts": (
        ".ts",
        lambda path: media.write_clip(
            path, times=[90000 + 3600 * i for i in range(12)], time_base=Fraction(1, 90000)
        ),
    ),
    "one frame": (".mp4", lambda path: media.write_clip(path, frames=1)),
    "two frames": (".mkv", lambda path: media.write_clip(path, frames=2)),
    "negative dts": (
        ".mp4",
        lambda path: media.write_clip(path, muxer={"movflags": "negative_cts_offsets"}),
    ),
    "open gop": (
        ".mp4",
        lambda path: media.write_clip(path, frames=30, options={**media.X264, "x264-params": "open-gop=1"}),
    ),
    "intra refresh": (
        ".mp4",
        lambda path: media.write_clip(
            path, frames=30, options={"preset": "ultrafast", "intra-refresh": "1", "g": "8"}
        ),
    ),
}


@pytest.mark.parametrize("output", [".mp4", ".mkv", ".mov", ".ts"])
@pytest.mark.parametrize("kind", TIMING)
def test_every_frame_keeps_its_time(kind: str, output: str, tmp_path: Path) -> None:
    suffix, make = TIMING[kind]
    source = make(tmp_path / f"in{suffix}")
    report = restore(source, tmp_path / f"out{output}")
    assert_same_times(source, tmp_path / f"out{output}")
    assert report.frames == len(media.frame_times(source))
    assert not report.damaged
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([f"in{suffix}", f"out{output}"])


def test_edit_list_that_skips_the_first_frames(tmp_path: Path) -> None:
    """A cut by packet copy: frames before the cut are in the file, but not shown."""
    whole = media.write_clip(tmp_path / "whole.mp4", frames=24, options={**media.X264, "g": "24"})
    source = tmp_path / "in.mp4"
    with (
        av.open(str(whole)) as container,
        av.open(str(source), "w", container_options={"avoid_negative_ts": "disabled"}) as cut,
    ):
        video = container.streams.video[0]
        copy = cut.add_stream_from_template(video, opaque=True)
        for packet in container.demux(video):
            if packet.size and packet.pts is not None and packet.dts is not None:
                packet.pts -= 512 * 7
                packet.dts -= 512 * 7
                packet.stream = copy
                cut.mux(packet)
    shown = media.frame_times(source)
    assert 0 < len(shown) < 24 and min(shown) >= 0
    restore(source, tmp_path / "out.mp4")
    assert_same_times(source, tmp_path / "out.mp4")
    reference = media.planes(source)
    restore(source, tmp_path / "exact.mkv", encoder=LOSSLESS)
    assert all(
        np.array_equal(a, b) for a, b in zip(media.planes(tmp_path / "exact.mkv"), reference, strict=True)
    )


@pytest.mark.parametrize("kind", ["avi", "h264"])
def test_containers_without_presentation_times(kind: str, tmp_path: Path) -> None:
    """AVI and raw H.264 hold frames, not times: each frame takes the next slot, in the order that it is shown."""
    source = media.write_clip(tmp_path / f"in.{'264' if kind == 'h264' else kind}", format=kind)
    restore(source, tmp_path / "out.mp4", encoder=EncoderSettings(options={"qp": "0"}))
    assert media.frame_times(tmp_path / "out.mp4") == [Fraction(i, 25) for i in range(media.FRAMES)]
    assert all(
        np.array_equal(a, b)
        for a, b in zip(media.planes(tmp_path / "out.mp4"), media.planes(source), strict=True)
    )


def test_a_clock_that_jumps_back_is_repaired_with_its_sound(tmp_path: Path) -> None:
    parts = []
    for number, offset in enumerate((20.0, 5.0)):
        times = [round((offset + i / 25) * 90000) for i in range(12)]
        parts.append(
            media.write_clip(
                tmp_path / f"part{number}.ts",
                times=times,
                time_base=Fraction(1, 90000),
                sounds=[Sound(codec="mp2", start=offset, seconds=0.48)],
                muxer={"mpegts_copyts": "1"},
            )
        )
    source = tmp_path / "in.ts"
    source.write_bytes(b"".join(part.read_bytes() for part in parts))
    report = restore(source, tmp_path / "out.mkv")
    assert any("jumped back" in line for line in report.warnings)
    times = media.frame_times(tmp_path / "out.mkv")
    assert len(times) == 24
    assert [b - a for a, b in itertools.pairwise(times)] == [Fraction(1, 25)] * 23
    assert media.packets_digest(tmp_path / "out.mkv", 1) == media.packets_digest(source, 1)
    with av.open(str(tmp_path / "out.mkv")) as container:
        sound = [packet.pts for packet in container.demux(audio=0) if packet.size]
    assert sound == sorted(sound)
    # The second part's sound begins with its picture, as it did.
    assert abs(float(times[12] * 1000) - sound[len(sound) // 2]) < 60


LOOKS: dict[str, Callable[[Path], Path]] = {
    "sar 16:11": lambda path: media.write_clip(
        path, setup=lambda video: setattr(video.codec_context, "sample_aspect_ratio", Fraction(16, 11))
    ),
    **{
        f"rotated {angle}": lambda path, angle=angle: media.write_clip(path, matrix=rotation(angle))  # type: ignore[misc]
        for angle in (90, 180, 270)
    },
    "flipped": lambda path: media.write_clip(path, matrix=(-65536, 0, 0, 0, 65536, 0, 0, 0, 1 << 30)),
    **{
        f"{name} {'full' if full else 'limited'}": lambda path, codes=codes, full=full: media.write_clip(  # type: ignore[misc]
            path, setup=lambda video: tag(video, codes, full)
        )
        for name, codes in {"bt601": (6, 6, 6), "bt709": (1, 1, 1), "bt2020": (9, 14, 9)}.items()
        for full in (False, True)
    },
    "10 bit": lambda path: media.write_clip(path, pix_fmt="yuv420p10le"),
    "4:2:2": lambda path: media.write_clip(path, pix_fmt="yuv422p"),
    "4:4:4 10 bit": lambda path: media.write_clip(path, pix_fmt="yuv444p10le"),
    "gray": lambda path: media.write_clip(path, pix_fmt="gray"),
    "gray 10 bit": lambda path: media.write_clip(path, pix_fmt="gray10le"),
    "odd size": lambda path: media.write_clip(path, width=67, height=45, pix_fmt="yuv444p"),
    "top field first": lambda path: media.write_clip(
        path, interlaced=True, options={**media.X264, "x264-params": "tff=1"}
    ),
    "bottom field first": lambda path: media.write_clip(
        path, interlaced=True, options={**media.X264, "x264-params": "bff=1"}
    ),
}


def rotation(angle: int) -> tuple[int, ...]:
    one = 65536
    cos, sin = {90: (0, one), 180: (-one, 0), 270: (0, -one)}[angle]
    return (cos, sin, 0, -sin, cos, 0, 0, 0, 1 << 30)


def tag(video: av.VideoStream, codes: tuple[int, int, int], full: bool) -> None:
    context = video.codec_context
    context.color_primaries, context.color_trc, context.colorspace = codes
    context.color_range = 2 if full else 1


@pytest.mark.parametrize("output", [".mp4", ".mkv"])
@pytest.mark.parametrize("kind", LOOKS)
def test_the_look_of_the_video_is_kept(kind: str, output: str, tmp_path: Path) -> None:
    source = LOOKS[kind](tmp_path / "in.mp4")
    restore(source, tmp_path / f"out{output}")
    assert_same_video(source, tmp_path / f"out{output}")


@pytest.mark.parametrize(
    "kind", ["top field first", "bottom field first", "10 bit", "4:2:2", "bt709 full", "odd size"]
)
def test_chroma_is_untouched_and_luma_is_the_engines(kind: str, tmp_path: Path) -> None:
    source = LOOKS[kind](tmp_path / "in.mp4")
    output = tmp_path / "out.mkv"
    restore(source, output, add=1, encoder=LOSSLESS)
    for plane, add in ((0, 1), (1, 0), (2, 0)):
        wanted, got = media.planes(source, plane), media.planes(output, plane)
        assert len(got) == len(wanted) == media.FRAMES
        assert all(np.array_equal(a, b + add) for a, b in zip(got, wanted, strict=True))


@pytest.mark.parametrize(
    ("codec", "pix_fmt", "encoder"),
    [
        ("ffv1", "yuv420p12le", EncoderSettings(codec="libx265", preset="ultrafast")),
        ("ffv1", "yuv422p16le", LOSSLESS),
        ("ffv1", "gray12le", LOSSLESS),
        ("ffv1", "gray16le", LOSSLESS),
    ],
)
def test_deep_formats(codec: str, pix_fmt: str, encoder: EncoderSettings, tmp_path: Path) -> None:
    source = media.write_clip(tmp_path / "in.mkv", codec=codec, pix_fmt=pix_fmt)
    restore(source, tmp_path / "out.mkv", encoder=encoder, add=3)
    assert_same_video(source, tmp_path / "out.mkv")
    if encoder is LOSSLESS:
        for a, b in zip(media.planes(tmp_path / "out.mkv"), media.planes(source), strict=True):
            assert np.array_equal(a, b + 3)


HDR = "mastering-display=G(13250,34500)B(7500,3000)R(34000,16000)WP(15635,16450)L(10000000,50):cll=1000,400"


@pytest.mark.parametrize(("codec", "suffix"), [("libx264", ".mkv"), ("libx264", ".mp4"), ("ffv1", ".mkv")])
def test_colours_that_the_user_names_count(codec: str, suffix: str, tmp_path: Path) -> None:
    """Containers said the input's, and FFV1 has no word of its own."""
    source = media.write_clip(tmp_path / "in.mp4", setup=lambda video: tag(video, (5, 6, 5), False))
    names = {"color_primaries": "smpte170m", "color_trc": "smpte170m"}
    restore(source, tmp_path / f"out{suffix}", encoder=EncoderSettings(codec=codec, options=names))
    with av.open(str(tmp_path / f"out{suffix}")) as container:
        context = container.streams.video[0].codec_context
        assert (context.color_primaries, context.color_trc, context.colorspace) == (6, 6, 5)


def hdr_clip(path: Path) -> Path:
    return media.write_clip(
        path,
        pix_fmt="yuv420p10le",
        width=128,
        height=96,
        options={**media.X264, "x264-params": HDR},
        setup=lambda video: tag(video, (9, 16, 9), False),
    )


@pytest.mark.parametrize("codec", ["libx264", "libx265", "libsvtav1"])
def test_hdr10_metadata_is_kept(codec: str, tmp_path: Path) -> None:
    source = hdr_clip(tmp_path / "in.mp4")
    preset = "12" if codec == "libsvtav1" else "ultrafast"
    restore(source, tmp_path / "out.mp4", encoder=EncoderSettings(codec=codec, preset=preset))
    assert_same_video(source, tmp_path / "out.mp4")
    wanted, got = media.side_data(source), media.side_data(tmp_path / "out.mp4")
    assert got["CONTENT_LIGHT_LEVEL"] == wanted["CONTENT_LIGHT_LEVEL"]
    assert mastering(got) == pytest.approx(mastering(wanted), abs=1e-4)


def test_hdr_metadata_that_change_are_told_of(tmp_path: Path) -> None:
    """HDR10+ and Dolby Vision are not carried; they went without a word."""
    quick = {"x265-params": "log-level=none:bframes=0", "preset": "ultrafast"}
    plain = media.write_clip(
        tmp_path / "plain.hevc", codec="libx265", pix_fmt="yuv420p10le", frames=4, options=quick
    )
    # SMPTE ST 2094-40, in an SEI message before each picture.
    message = bytes.fromhex("000000014e010416b5003c0001040140001f402710138809c402ee000a0080")
    source = tmp_path / "in.hevc"
    slices = re.compile(rb"\x00\x00\x01(?=[\x26\x28\x02]\x01)")
    source.write_bytes(slices.sub(lambda found: message + found[0], plain.read_bytes()))
    report = restore(source, tmp_path / "out.mkv", encoder=EncoderSettings(codec="libx265"))
    assert any("HDR10+ is left out" in line for line in report.warnings)
    assert not restore(plain, tmp_path / "plain.mkv", encoder=EncoderSettings(codec="libx265")).warnings


@pytest.mark.parametrize(
    ("codec", "key", "name"),
    [
        ("libx264", "x264-params", "cll"),
        ("libx265", "x265-params", "max-cll"),
        ("libsvtav1", "svtav1-params", "content-light"),
    ],
)
def test_hdr10_metadata_of_the_users_counts(codec: str, key: str, name: str, tmp_path: Path) -> None:
    source = hdr_clip(tmp_path / "in.mp4")
    preset = "12" if codec == "libsvtav1" else "ultrafast"
    own = EncoderSettings(codec=codec, preset=preset, options={key: f"{name}=4000,100"})
    restore(source, tmp_path / "out.mp4", encoder=own)
    wanted, got = media.side_data(source), media.side_data(tmp_path / "out.mp4")
    assert struct.unpack_from("@2I", got["CONTENT_LIGHT_LEVEL"]) == (4000, 100)
    assert mastering(got) == pytest.approx(mastering(wanted), abs=1e-4)


def mastering(data: dict[str, bytes]) -> list[float]:
    numbers = struct.unpack("@20i2i", data["MASTERING_DISPLAY_METADATA"])
    return [n / d for n, d in zip(numbers[:20:2], numbers[1:20:2], strict=True)]


@pytest.mark.parametrize("fields", [None, 4])  # 4: the top field is coded first, and shown second
@pytest.mark.parametrize("location", ["topleft", "center"])
def test_chroma_location_is_kept(location: str, fields: int | None, tmp_path: Path) -> None:
    from carfix.video.source import probe

    def order(video: VideoStream) -> None:
        if fields is not None:
            video.codec_context.field_order = fields

    source = media.write_clip(
        tmp_path / "in.mkv",
        interlaced=fields is not None,
        options={**media.X264, "chroma_sample_location": location, "x264-params": "tff=1"},
        setup=order,
    )
    assert probe(source).field_order == fields or fields is None
    assert probe(source).colour.chroma_location == location
    restore(source, tmp_path / "out.mkv")
    assert probe(tmp_path / "out.mkv").colour.chroma_location == location


@pytest.mark.parametrize("tagged", [0, 2])
def test_what_was_rgb_is_shown_in_its_colours(tagged: int, tmp_path: Path) -> None:
    """As `-pix_fmt` asks for: the output says by which matrix it was converted, not RGB's that there is none."""
    orange = np.full((128, 128, 3), (220, 120, 20), np.uint8)

    def tag_it(video: VideoStream) -> None:
        video.codec_context.colorspace = tagged
        video.codec_context.color_range = 2

    source = media.write_clip(
        tmp_path / "in.mkv",
        codec="ffv1",
        pix_fmt="bgr0",
        frames=1,
        setup=tag_it,
        pictures=lambda _: VideoFrame.from_ndarray(orange, "rgb24").reformat(format="bgr0"),
        width=128,
        height=128,
    )
    restore(source, tmp_path / "out.mkv", encoder=EncoderSettings(codec="ffv1", pix_fmt="yuv444p"))
    with av.open(str(tmp_path / "out.mkv")) as container:
        frame = next(container.decode(video=0))
        assert frame.colorspace == 6  # BT.601
        assert np.abs(frame.to_ndarray(format="rgb24").astype(int) - orange).max() <= 2
