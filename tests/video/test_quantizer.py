"""What decoders tell of quantizers, on the scales that people know and on H.264's."""

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from av.codec.codec import codecs_available
from quality.clips import moving_picture, write_clip

from carfix.quality.reader import decode
from carfix.training.encoding import Encoding, encode
from carfix.video.quantizer import (
    Scale,
    Told,
    export_quantizers,
    h264_quantizer,
    mean_quantizer,
    told_quantizer,
)

RATE = Fraction(25)


def encoded(path: Path, encoding: Encoding) -> Path:
    encode(path, np.stack(list(moving_picture(6))), RATE, encoding)
    return path


@pytest.mark.parametrize("codec", ["mpeg4", "mpeg2video", "mpeg1video"])
@pytest.mark.parametrize("quantizer", [3, 8, 24])
def test_the_mpeg_family_tells_what_q_v_asked_for(codec: str, quantizer: int, tmp_path: Path) -> None:
    path = encoded(tmp_path / "clip.mkv", Encoding(codec=codec, qscale=quantizer, preset=None, gop=12))
    frames = list(decode(path, quantizers=True))
    assert len(frames) == 6
    # FFmpeg's MPEG-1 and MPEG-2 decoder tells nothing of the last frame of a stream, which it flushes.
    for frame in frames[:-1]:
        assert told_quantizer(frame) == Told(Scale.MPEG2, pytest.approx(2 * quantizer))  # type: ignore[arg-type]
        assert mean_quantizer(frame) == pytest.approx(quantizer)


@pytest.mark.parametrize(("codec", "scale"), [("libvpx-vp9", Scale.VP9), ("libsvtav1", Scale.AV1)])
def test_vp9_and_av1_tell_an_index(codec: str, scale: Scale, tmp_path: Path) -> None:
    if codec not in codecs_available:
        pytest.skip(f"this FFmpeg has no {codec}")
    found = []
    for crf in (20, 50):
        path = encoded(tmp_path / f"{crf}.mkv", Encoding(codec=codec, crf=crf, preset=None, gop=12))
        told = [told_quantizer(frame) for frame in decode(path, quantizers=True)]
        assert len(told) == 6
        assert {each.scale for each in told if each} == {scale}
        found.append(np.mean([each.value for each in told if each]))
    assert 0 < found[0] < found[1] <= 255


def test_av1_is_not_decoded_ahead(tmp_path: Path) -> None:
    """Else closing or seeking waits, with Python's lock, for threads that want it: `inspect` hung half the time."""
    if "libsvtav1" not in codecs_available:
        pytest.skip("this FFmpeg has no libsvtav1")
    path = encoded(tmp_path / "clip.mkv", Encoding(codec="libsvtav1", crf=30, preset=None, gop=12))
    with av.open(str(path)) as container:
        context = container.streams.video[0].codec_context
        context.thread_count = 4
        note = export_quantizers(context)
        for packet in container.demux(video=0):
            note(packet)
            assert len(context.decode(packet)) == (1 if packet.size else 0)


def test_h264_tells_its_own(tmp_path: Path) -> None:
    path = encoded(tmp_path / "clip.mkv", Encoding(crf=30))
    for frame in decode(path, quantizers=True):
        told = mean_quantizer(frame)
        assert told is not None and 20 < told < 40
        assert h264_quantizer(frame) == told


@pytest.mark.parametrize(("pix_fmt", "asked"), [("yuv420p", 32), ("yuv420p10le", 44), ("yuv422p10le", 44)])
def test_h264_of_ten_bits_is_as_coarse_as_of_eight(pix_fmt: str, asked: int, tmp_path: Path) -> None:
    """x264 counts 12 more there, and FFmpeg exports that: clean video was corrected as if it were a ruin."""
    planes = moving_picture(8) if pix_fmt == "yuv420p" else moving_picture(8).astype(np.uint16) * 4
    options = {"qp": str(asked), "x264-params": "ipratio=1:pbratio=1:aq-mode=0", "threads": "1"}
    clip = write_clip(tmp_path / "clip.mp4", planes, pix_fmt=pix_fmt, options=options)
    told = [told_quantizer(frame) for frame in decode(clip, quantizers=True)]
    assert told == [Told(Scale.H264, 32)] * 8


@pytest.mark.parametrize("pix_fmt", ["yuv420p", "yuv420p10le"])
@pytest.mark.parametrize("quantizer", [18, 37])
def test_hevc_tells_its_slices(quantizer: int, pix_fmt: str, tmp_path: Path) -> None:
    options = {"x265-params": f"qp={quantizer}:ipratio=1:pbratio=1:aq-mode=0:bframes=3:log-level=none"}
    planes = moving_picture(12) if pix_fmt == "yuv420p" else moving_picture(12).astype(np.uint16) * 4
    clip = write_clip(tmp_path / "clip.mp4", planes, codec="libx265", pix_fmt=pix_fmt, options=options)
    told = [told_quantizer(frame) for frame in decode(clip, quantizers=True)]
    assert told == [Told(Scale.HEVC, quantizer)] * 12


def test_jpeg_tells_its_tables(tmp_path: Path) -> None:
    found = []
    for quantizer in (2, 8, 16):
        path = encoded(tmp_path / "clip.mkv", Encoding(codec="mjpeg", qscale=quantizer, preset=None))
        values = {mean_quantizer(frame) for frame in decode(path, quantizers=True)}
        assert len(values) == 1
        found.append(values.pop() or 0)
    assert 2 < found[0] < found[1]
    assert found[2] == pytest.approx(2 * found[1], rel=0.1)  # but for rounding of the tables' entries


def test_a_codec_that_tells_nothing(tmp_path: Path) -> None:
    path = encoded(tmp_path / "clip.mkv", Encoding(codec="ffv1", preset=None))
    assert [mean_quantizer(frame) for frame in decode(path, quantizers=True)] == [None] * 6
    assert [h264_quantizer(frame) for frame in decode(path, quantizers=True)] == [None] * 6


def test_nothing_is_told_unasked(tmp_path: Path) -> None:
    path = encoded(tmp_path / "clip.mkv", Encoding(crf=30))
    assert {mean_quantizer(frame) for frame in decode(path)} == {None}


@pytest.mark.parametrize("scale", Scale)
def test_coarser_is_coarser_and_twice_the_step_is_six_more(scale: Scale) -> None:
    top = {Scale.H264: 51, Scale.HEVC: 51, Scale.MPEG2: 112, Scale.JPEG: 100, Scale.VP9: 255, Scale.AV1: 255}[
        scale
    ]
    values = [Told(scale, value).h264 for value in range(1, top + 1)]
    assert values == sorted(values)
    assert values[0] < 12 < 40 < values[-1]  # the range of the curves
    if scale in (Scale.H264, Scale.HEVC):
        assert Told(scale, 30).h264 - Told(scale, 24).h264 == 6
    if scale in (Scale.MPEG2, Scale.JPEG):
        assert Told(scale, 32).h264 - Told(scale, 16).h264 == pytest.approx(6)
    if scale in (Scale.VP9, Scale.AV1):  # 204 eighths of a code at 137.25, 102 at 95
        assert Told(scale, 137.25).h264 - Told(scale, 95).h264 == pytest.approx(6, abs=0.01)
