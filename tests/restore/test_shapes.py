"""Anamorphic video: the shape of its pixels goes along, or it is said that it does not."""

import io
import zlib
from fractions import Fraction
from pathlib import Path

import av
import media
import pytest
from av.video.stream import VideoStream
from engines import Adding
from jobs import LOSSLESS, restore

from carfix.restore.models import EngineChoice
from carfix.restore.pipe import restore_pipe
from carfix.video.encoder_settings import EncoderSettings
from carfix.video.matroska import ROOM

PAL = Fraction(16, 11)
TRACKS, CHECKSUM, CHECKSUM_LENGTH = b"\x16\x54\xae\x6b", b"\xbf\x84", 6


def narrow(video: VideoStream) -> None:
    video.codec_context.sample_aspect_ratio = PAL


def shapes(path: Path) -> list[tuple[Fraction | None, str | None]]:
    with av.open(str(path)) as container:
        return [(video.sample_aspect_ratio, video.metadata.get("title")) for video in container.streams.video]


def is_sound(path: Path) -> bool:
    """Whether the checksum of the tracks is that of what is there, and nothing is left of the room."""
    data = path.read_bytes()
    start = data.index(TRACKS, data.index(TRACKS) + 1) + len(
        TRACKS
    )  # the first time it is an index that names them
    wide = 9 - data[start].bit_length()
    size = int.from_bytes(data[start : start + wide], "big") & ((1 << 7 * wide) - 1)
    tracks = data[start + wide :][:size]
    if not tracks.startswith(CHECKSUM):  # as in WebM
        return ROOM.encode() not in data
    told, content = tracks[len(CHECKSUM) : CHECKSUM_LENGTH], tracks[CHECKSUM_LENGTH:]
    return told == zlib.crc32(content).to_bytes(4, "little") and ROOM.encode() not in data


@pytest.mark.parametrize("name", [None, "Gate 3", "g" * 200])
@pytest.mark.parametrize(
    ("encoder", "suffix"),
    [
        (LOSSLESS, ".mkv"),
        (EncoderSettings(preset="ultrafast"), ".mkv"),
        (EncoderSettings(codec="libsvtav1", preset="12"), ".mkv"),
        (EncoderSettings(codec="libvpx-vp9", options={"cpu-used": "8", "deadline": "realtime"}), ".webm"),
        (EncoderSettings(codec="libvpx-vp9", options={"cpu-used": "8", "deadline": "realtime"}), ".mp4"),
    ],
)
def test_pixels_keep_their_shape(
    encoder: EncoderSettings, suffix: str, name: str | None, tmp_path: Path
) -> None:
    tags = {} if name is None else {"title": name}
    # Eleven sixteenths of it are whole pixels, which is all that WebM knows.
    source = media.write_clip(
        tmp_path / "in.mkv", width=88, height=64, setup=narrow, video_tags=tags, chapters=[(0, 0.4, "a")]
    )
    output = tmp_path / f"out{suffix}"
    report = restore(source, output, encoder=encoder)
    assert not report.warnings
    assert shapes(output) == [(PAL, name if suffix != ".mp4" else None)]
    assert suffix == ".mp4" or is_sound(output)
    assert len(media.frame_times(output)) == media.FRAMES


@pytest.mark.parametrize("way", ["file", "pipe", "pipe into a file"])
def test_y4m_tells_of_pixels_what_the_video_did(way: str, tmp_path: Path) -> None:
    """FFmpeg's own program writes the same line; where chroma lies is H.264's usual place."""
    source = media.write_clip(tmp_path / "in.mkv", setup=narrow)
    output = tmp_path / "out.y4m"
    if way == "file":
        restore(source, output, encoder=None)
    else:
        target = io.BytesIO()
        restore_pipe(
            source=io.BytesIO(source.read_bytes()),
            output=target if way == "pipe" else output,
            format="yuv4mpegpipe",
            choice=EngineChoice(model=Adding(0)),
        )
        if way == "pipe":
            output.write_bytes(target.getvalue())
    header = output.read_bytes().partition(b"\n")[0].split(b" ")
    assert b"A16:11" in header and b"C420mpeg2" in header
    assert shapes(output) == [(PAL, None)]
    with av.open(str(output)) as container:
        assert sum(1 for _ in container.decode(video=0)) == media.FRAMES


@pytest.mark.parametrize("name", [None, "Gate 3"])
def test_a_file_from_a_pipe_has_the_shape_in_its_container(name: str | None, tmp_path: Path) -> None:
    tags = {} if name is None else {"title": name}
    source = media.write_clip(tmp_path / "in.mkv", setup=narrow, video_tags=tags)
    output = tmp_path / "out.mkv"
    with source.open("rb") as data:
        restore_pipe(source=data, output=output, encoder=LOSSLESS, choice=EngineChoice(model=Adding(0)))
    assert shapes(output) == [(PAL, name)]
    assert is_sound(output)
    assert len(media.frame_times(output)) == media.FRAMES


def test_a_copied_video_has_its_own(tmp_path: Path) -> None:
    large = media.write_clip(tmp_path / "large.mp4")
    small = media.write_clip(
        tmp_path / "small.mp4",
        codec="libvpx-vp9",
        width=48,
        height=32,
        setup=narrow,
        options={"cpu-used": "8", "deadline": "realtime"},
    )
    source = tmp_path / "in.mp4"
    with av.open(str(large)) as one, av.open(str(small)) as other, av.open(str(source), "w") as output:
        copies = [
            output.add_stream_from_template(part.streams.video[0], opaque=True) for part in (one, other)
        ]
        narrow(copies[1])
        for part, copy in zip((one, other), copies, strict=True):
            for packet in part.demux(video=0):
                if packet.size:
                    packet.stream = copy
                    output.mux(packet)
    assert [shape or Fraction(1) for shape, _ in shapes(source)] == [Fraction(1), PAL]
    restore(source, tmp_path / "out.mp4")
    assert [shape or Fraction(1) for shape, _ in shapes(tmp_path / "out.mp4")] == [Fraction(1), PAL]
    restore(source, tmp_path / "out.mkv", encoder=LOSSLESS)
    assert [shape or Fraction(1) for shape, _ in shapes(tmp_path / "out.mkv")] == [Fraction(1), PAL]
    assert is_sound(tmp_path / "out.mkv")


def test_a_shape_that_is_lost_is_told_before_work(tmp_path: Path) -> None:
    source = media.write_clip(tmp_path / "in.mp4", setup=narrow)
    report = restore(source, tmp_path / "out.avi", encoder=LOSSLESS)
    (line,) = report.warnings
    assert line.startswith("the pixels are 16:11, and with ffv1 avi says 1:1")
