"""Copied videos whose pixel format is in their four letters alone."""

from fractions import Fraction
from pathlib import Path

import av
import pytest
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from carfix.video.streams import add_copy


@pytest.mark.parametrize(
    ("codec", "pix_fmt", "given"),
    [
        ("utvideo", "yuv422p", "avi"),
        ("utvideo", "yuv422p", "nut"),
        ("rawvideo", "yuyv422", "avi"),
        ("rawvideo", "yuyv422", "mov"),
        ("rawvideo", "nv12", "nut"),
    ],
)
@pytest.mark.parametrize("taken", ["avi", "mkv", "nut"])
def test_a_copy_has_its_pixel_format(
    codec: str, pix_fmt: str, given: str, taken: str, tmp_path: Path
) -> None:
    """UT Video became planes of red, green and blue in AVI and NUT, raw video what its muxer guessed."""
    source, target = tmp_path / f"in.{given}", tmp_path / f"out.{taken}"
    with av.open(str(source), "w") as output:
        video = output.add_stream(codec, rate=25)
        assert isinstance(video, VideoStream)
        video.width, video.height, video.pix_fmt = 32, 16, pix_fmt
        frame = VideoFrame(32, 16, pix_fmt)
        frame.pts, frame.time_base = 0, Fraction(1, 25)
        output.mux(video.encode(frame))
        output.mux(video.encode(None))
    with av.open(str(source)) as container, av.open(str(target), "w") as output:
        copy = add_copy(output, container.streams.video[0])
        for packet in container.demux(container.streams.video[0]):
            if packet.size:
                packet.pts = packet.dts = 0
                packet.stream = copy
                output.mux(packet)
    with av.open(str(target)) as container:
        (stream,) = container.streams
        assert isinstance(stream, VideoStream)
        assert stream.codec_context.pix_fmt == pix_fmt


def test_a_copy_of_prores_has_its_profile(tmp_path: Path) -> None:
    """MOV called all of it HQ."""
    source, target = tmp_path / "in.mov", tmp_path / "out.mov"
    with av.open(str(source), "w") as output:
        video = output.add_stream("prores_ks", rate=25, options={"profile": "proxy"})
        assert isinstance(video, VideoStream)
        video.width, video.height, video.pix_fmt = 64, 48, "yuv422p10le"
        output.mux(video.encode(VideoFrame(64, 48, "yuv422p10le")))
        output.mux(video.encode(None))
    with av.open(str(source)) as container, av.open(str(target), "w") as output:
        copy = add_copy(output, container.streams.video[0])
        for packet in container.demux(container.streams.video[0]):
            if packet.size:
                packet.stream = copy
                output.mux(packet)
    with av.open(str(target)) as container:
        assert container.streams.video[0].codec_context.codec_tag == "apco"
