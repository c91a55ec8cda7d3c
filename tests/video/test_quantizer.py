"""What decoders tell of quantizers, on the scales that people know and on H.264's."""

from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from av.codec.codec import codecs_available
from quality.clips import moving_picture

from carfix.quality.reader import decode
from carfix.training.encoding import Encoding, encode
from carfix.video.quantizer import Scale, as_h264, exported_quantizer, h264_quantizer, mean_quantizer

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
        assert exported_quantizer(frame) == (Scale.MPEG2, pytest.approx(2 * quantizer))
        assert mean_quantizer(frame) == pytest.approx(quantizer)
        assert h264_quantizer(frame) == pytest.approx(as_h264(Scale.MPEG2, 2 * quantizer))


@pytest.mark.skipif("libvpx-vp9" not in codecs_available, reason="this FFmpeg does not encode VP9")
def test_vp9_tells_its_index(tmp_path: Path) -> None:
    found = []
    for crf in (20, 50):
        path = encoded(tmp_path / f"{crf}.mkv", Encoding(codec="libvpx-vp9", crf=crf, preset=None, gop=12))
        frames = list(decode(path, quantizers=True))
        scales = {scale for frame in frames if (told := exported_quantizer(frame)) for scale in told[:1]}
        assert scales == {Scale.VP9}
        found.append(np.mean([mean_quantizer(frame) for frame in frames]))
    assert 0 < found[0] < found[1] <= 255


def test_h264_tells_its_own(tmp_path: Path) -> None:
    path = encoded(tmp_path / "clip.mkv", Encoding(crf=30))
    for frame in decode(path, quantizers=True):
        told = mean_quantizer(frame)
        assert told is not None and 20 < told < 40
        assert h264_quantizer(frame) == told


def test_a_codec_that_tells_nothing(tmp_path: Path) -> None:
    path = encoded(tmp_path / "clip.mkv", Encoding(codec="mjpeg", qscale=8, preset=None))
    assert [mean_quantizer(frame) for frame in decode(path, quantizers=True)] == [None] * 6
    assert [h264_quantizer(frame) for frame in decode(path, quantizers=True)] == [None] * 6


def test_nothing_is_told_unasked(tmp_path: Path) -> None:
    path = encoded(tmp_path / "clip.mkv", Encoding(crf=30))
    assert {mean_quantizer(frame) for frame in decode(path)} == {None}


@pytest.mark.parametrize("scale", Scale)
def test_coarser_is_coarser_and_twice_the_step_is_six_more(scale: Scale) -> None:
    top = {Scale.H264: 51, Scale.MPEG2: 112, Scale.VP9: 255}[scale]
    values = [as_h264(scale, value) for value in range(1, top + 1)]
    assert values == sorted(values)
    assert values[0] < 12 < 44 < values[-1]
    if scale is Scale.MPEG2:
        assert as_h264(scale, 32) - as_h264(scale, 16) == pytest.approx(6)
    if scale is Scale.VP9:  # 204 eighths of a code at 137.25, 102 at 95
        assert as_h264(scale, 137.25) - as_h264(scale, 95) == pytest.approx(6, abs=0.01)
