"""Luma planes in and out: every depth, every layout that has such a plane, nothing else touched."""

from pathlib import Path

import av
import media
import numpy as np
import pytest
from av.video.frame import VideoFrame

from carfix.errors import CarfixError
from carfix.video.convert import with_luma
from carfix.video.luma import luma_format, read_luma, write_luma


@pytest.mark.parametrize(
    ("pix_fmt", "depth"),
    [
        ("yuv420p", 8),
        ("yuvj422p", 8),
        ("nv12", 8),
        ("gray", 8),
        ("yuv420p9le", 9),
        ("yuv422p10le", 10),
        ("yuv420p10be", 10),
        ("p010le", 10),
        ("p012le", 12),
        ("yuv444p12le", 12),
        ("gray14le", 14),
        ("yuv420p16le", 16),
        ("gray16be", 16),
        ("yuva420p", 8),
    ],
)
@pytest.mark.parametrize("size", [(64, 48), (67, 45), (2, 2)])
def test_round_trip(pix_fmt: str, depth: int, size: tuple[int, int]) -> None:
    width, height = size
    frame = VideoFrame(width, height, pix_fmt)
    for plane in frame.planes:
        plane.update(bytes(plane.buffer_size))
    format = luma_format(pix_fmt)
    assert format.bit_depth == depth
    codes = np.random.default_rng(1).integers(0, 1 << depth, (height, width)).astype(format.native)
    others = [bytes(plane) for plane in frame.planes[1:]]
    write_luma(frame, codes, format)
    read = read_luma(frame, format)
    assert read.dtype == (np.uint8 if depth == 8 else np.uint16)
    assert read.flags.c_contiguous
    assert np.array_equal(read, codes)
    assert [bytes(plane) for plane in frame.planes[1:]] == others


@pytest.mark.parametrize(
    "pix_fmt", ["yuv420p10be", "p010le", "p012le", "gray16be", "yuv444p10msble", "yuv444p12msble"]
)
def test_layouts_agree_with_ffmpeg(pix_fmt: str) -> None:
    """FFmpeg's own conversion to a plain layout shows the same codes."""
    plain = {
        "yuv420p10be": "yuv420p10le",
        "p010le": "yuv420p10le",
        "p012le": "yuv420p12le",
        "gray16be": "gray16le",
    }.get(pix_fmt, pix_fmt.replace("msb", ""))
    frame = media.picture(0, pix_fmt=plain)
    other = frame.reformat(format=pix_fmt)
    assert np.array_equal(read_luma(other, luma_format(pix_fmt)), read_luma(frame, luma_format(plain)))


@pytest.mark.parametrize(
    ("pix_fmt", "cure"),
    [
        ("rgb24", "-pix_fmt yuv444p"),
        ("gbrp", "-pix_fmt yuv444p"),
        ("pal8", "-pix_fmt yuv444p"),
        ("yuyv422", "-pix_fmt yuv422p"),
        ("uyvy422", "-pix_fmt yuv422p"),
        ("grayf32le", "-pix_fmt"),
        ("monob", "-pix_fmt"),
        ("y210le", "-pix_fmt yuv422p"),
    ],
)
def test_formats_without_a_luma_plane_name_the_cure(pix_fmt: str, cure: str) -> None:
    with pytest.raises(CarfixError, match=cure):
        luma_format(pix_fmt)


def test_a_decoders_reference_is_not_written_to(tmp_path: Path) -> None:
    """The decoder predicts later frames from the one that is restored: it must keep its own samples."""
    source = media.write_clip(tmp_path / "in.mp4", options={"preset": "ultrafast", "g": "50"})
    wanted = media.planes(source)
    format = luma_format("yuv420p")
    with av.open(str(source)) as container:
        for frame, luma in zip(container.decode(video=0), wanted, strict=True):
            assert np.array_equal(read_luma(frame, format), luma)
            write_luma(frame, np.zeros_like(luma), format)
            assert not read_luma(frame, format).any()


@pytest.mark.parametrize("colour_range", [0, 1, 2])
@pytest.mark.parametrize("pix_fmt", ["gray", "ya8", "yuyv422"])
def test_luma_beside_something_else_keeps_its_codes(pix_fmt: str, colour_range: int) -> None:
    """swscale takes gray for full range, and would scale it on the way to other formats."""
    codes = np.arange(64 * 64, dtype=np.uint32).astype(np.uint8).reshape(64, 64)
    frame = VideoFrame(64, 64, pix_fmt)
    frame.color_range = colour_range
    both = codes if pix_fmt == "gray" else np.stack([codes, np.full_like(codes, 128)], axis=2)
    frame.planes[0].update(both)
    assert np.array_equal(read_luma(*with_luma(frame, "yuv444p")), codes)
