"""Quantizers read off packets: what encoders were told comes out, whatever else stands in the headers."""

from pathlib import Path

import av
import numpy as np
import pytest
from av.codec.codec import codecs_available
from quality.clips import moving_picture, write_clip

from carfix.video.headers import Headers, headers_of
from carfix.video.headers.bits import Bits, EndOfHeader
from carfix.video.headers.nal import nal_units, payload
from carfix.video.scheduling import kept_scheduling

#: x265 without anything that moves the quantizer: every slice has what `qp` says.
CONSTANT = "aq-mode=0:ipratio=1:pbratio=1:log-level=none"
#: What puts more, or other things, in front of slice_qp_delta.
HEVC = {
    "usual": ("mp4", ""),
    "intra and P": ("mkv", "bframes=0"),
    "start codes": ("ts", "bframes=8:b-pyramid=1:ref=5"),
    "raw stream": ("hevc", "repeat-headers=1:keyint=5:ctu=16"),
    "weights": ("mp4", "weightp=1:weightb=1:fades=1"),
    "open GOPs": ("mp4", "open-gop=1:keyint=6:min-keyint=6"),
    "slices": ("mp4", "slices=2:wpp=1"),
    "no SAO": ("mkv", "no-sao=1:no-temporal-mvp=1:ref=6"),
    "temporal layers": ("mp4", "temporal-layers=3:keyint=8"),
    "scaling lists": ("mp4", "scaling-list=default:tskip=1"),
    "fields": ("mkv", "interlace=tff"),
    "deblocking": ("mp4", "deblock=2,-1:cbqpoffs=3:crqpoffs=-2"),
}
#: x264 likewise.
H264 = {
    "usual": ("mp4", "bframes=3"),
    "baseline": ("ts", "cabac=0:bframes=0:ref=1:8x8dct=0"),
    "weights": ("mkv", "weightp=2:weightb=1:bframes=3"),
    "open GOPs": ("mp4", "open-gop=1:keyint=8:b-pyramid=normal"),
    "slices": ("h264", "slices=3:sliced-threads=1"),
    "fields": ("mkv", "tff=1:bframes=2"),
    "scaling lists": ("mp4", "cqm=jvt"),
    "marking": ("ts", "ref=8:b-pyramid=strict:bframes=5:keyint=12"),
    "refresh": ("mkv", "intra-refresh=1:keyint=8"),
}
AV1 = {
    "usual": ("mp4", "rc=0"),
    "tiles": ("mkv", "rc=0:tile-columns=1:tile-rows=1"),
    "superres": ("mp4", "rc=0:superres-mode=1:superres-denom=10"),
    "screen content": ("mkv", "rc=0:scm=1:film-grain=8"),
    "low delay": ("mp4", "rc=0:pred-struct=1"),
}


def read(path: Path) -> tuple[list[float | None], int]:
    """The quantizer of each packet, and how many frames the file shows."""
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        context = stream.codec_context
        headers = headers_of(context.codec.canonical_name, context.extradata or b"")
        assert headers is not None
        found = [headers.quantizer(bytes(packet)) for packet in container.demux(stream) if packet.size]
    with av.open(str(path)) as container:
        return found, sum(1 for _ in container.decode(video=0))


def fading(frames: int) -> np.ndarray:
    """For weighted prediction to have something to do."""
    return np.stack(
        [
            (plane * (0.4 + 0.6 * i / frames)).astype(np.uint8)
            for i, plane in enumerate(moving_picture(frames))
        ]
    )


@pytest.mark.parametrize("name", HEVC)
@pytest.mark.parametrize("quantizer", [17, 38])
def test_hevc(name: str, quantizer: int, tmp_path: Path) -> None:
    suffix, parameters = HEVC[name]
    options = {"x265-params": ":".join(filter(None, (CONSTANT, f"qp={quantizer}", parameters)))}
    clip = write_clip(tmp_path / f"clip.{suffix}", fading(16), codec="libx265", options=options)
    found, frames = read(clip)
    assert len(found) >= frames > 0
    assert set(found) == {float(quantizer)}


@pytest.mark.parametrize("name", H264)
@pytest.mark.parametrize("quantizer", [17, 38])
def test_h264(name: str, quantizer: int, tmp_path: Path) -> None:
    suffix, parameters = H264[name]
    options = {"x264-params": f"qp={quantizer}:ipratio=1:pbratio=1:{parameters}", "threads": "1"}
    clip = write_clip(tmp_path / f"clip.{suffix}", fading(16), options=options)
    found, frames = read(clip)
    assert len(found) >= frames > 0
    assert set(found) == {float(quantizer)}


@pytest.mark.parametrize("pix_fmt", ["yuv422p", "yuv444p", "gray"])
def test_h264_chroma(pix_fmt: str, tmp_path: Path) -> None:
    options = {"x264-params": "qp=29:ipratio=1:pbratio=1:weightp=2:chroma-qp-offset=3"}
    clip = write_clip(tmp_path / "clip.mp4", fading(8), pix_fmt=pix_fmt, options=options)
    assert set(read(clip)[0]) == {29.0}


@pytest.mark.parametrize("pix_fmt", ["yuv422p", "yuv444p", "gray"])
def test_hevc_chroma(pix_fmt: str, tmp_path: Path) -> None:
    options = {"x265-params": f"{CONSTANT}:qp=29:weightp=1"}
    clip = write_clip(tmp_path / "clip.mp4", fading(8), codec="libx265", pix_fmt=pix_fmt, options=options)
    assert set(read(clip)[0]) == {29.0}


# PyAV's wheels have SVT-AV1; one that was built against a distribution's FFmpeg may not, and cannot make the streams.
@pytest.mark.skipif("libsvtav1" not in codecs_available, reason="this FFmpeg has no libsvtav1")
@pytest.mark.parametrize("name", AV1)
def test_av1(name: str, tmp_path: Path) -> None:
    """The frames of the last layer, half of all, take what the encoder was told: four of its steps are one index."""
    suffix, parameters = AV1[name]
    found = {}
    for quantizer in (20, 50):
        options = {"preset": "10", "qp": str(quantizer), "svtav1-params": f"aq-mode=0:{parameters}"}
        with kept_scheduling():
            clip = write_clip(
                tmp_path / f"clip.{suffix}", moving_picture(16, 192, 128), codec="libsvtav1", options=options
            )
        values, frames = read(clip)
        assert len(values) == frames == 16
        assert None not in values
        found[quantizer] = sorted(value for value in values if value is not None)
        assert found[quantizer][0] > 0 and found[quantizer][-1] <= 255
    assert np.mean(found[20]) + 40 < np.mean(found[50])
    if name in ("usual", "tiles"):
        assert found[20][-1] == pytest.approx(80, abs=4)


def test_jpeg_tables_of_both_sizes() -> None:
    def picture(table: list[int], size: int, number: int = 0) -> bytes:
        entries = b"".join(entry.to_bytes(size, "big") for entry in table)
        tables = bytes([(size - 1) << 4 | number]) + entries
        frame = bytes([8, 0, 16, 0, 16, 1, 1, 0x11, number])
        parts = ((0xE0, b"JFIF\0"), (0xDB, tables), (0xC0, frame))
        segments = b"".join(
            bytes([0xFF, marker]) + (len(part) + 2).to_bytes(2, "big") + part for marker, part in parts
        )
        return b"\xff\xd8" + segments + b"\xff\xda\0\2\x12\x34\xff\xd9"

    headers = headers_of("mjpeg", b"")
    assert headers is not None
    assert headers.quantizer(picture([9] + [6] * 63, 1)) == pytest.approx(6)
    assert headers.quantizer(picture([300] * 64, 2)) == pytest.approx(300)
    assert headers.quantizer(picture([16] * 64, 1, number=3)) == pytest.approx(16)
    assert headers.quantizer(picture([0] * 64, 1)) is None
    # A stream may leave out tables that it has sent.
    headers.quantizer(picture([12] * 64, 1))
    whole = picture([12] * 64, 1)
    start = whole.index(b"\xff\xdb")
    assert headers.quantizer(whole[:start] + whole[start + 69 :]) == pytest.approx(12)


@pytest.mark.parametrize("codec", ["mpeg4", "vp9", "prores", "ffv1"])
def test_other_codecs_are_not_read(codec: str) -> None:
    assert headers_of(codec, b"") is None


@pytest.fixture(scope="module")
def streams(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[bytes, list[bytes]]]:
    """Extradata and packets by codec."""
    folder = tmp_path_factory.mktemp("streams")
    found = {}
    encoders = {"h264": "libx264", "hevc": "libx265", "av1": "libsvtav1", "mjpeg": "mjpeg"}
    for codec, encoder in encoders.items():
        if encoder not in codecs_available:
            continue
        with kept_scheduling():
            path = write_clip(
                folder / f"{codec}.mkv",
                moving_picture(10),
                codec=encoder,
                pix_fmt="yuvj420p" if codec == "mjpeg" else "yuv420p",
                options={"x265-params": "log-level=none"} if codec == "hevc" else {},
            )
        with av.open(str(path)) as container:
            stream = container.streams.video[0]
            packets = [bytes(packet) for packet in container.demux(stream) if packet.size]
            found[codec] = (stream.codec_context.extradata or b"", packets)
    return found


@pytest.mark.parametrize("codec", ["h264", "hevc", "av1", "mjpeg"])
def test_damage_is_no_error(codec: str, streams: dict[str, tuple[bytes, list[bytes]]]) -> None:
    """A number or None, whatever bits were changed, lost or made up."""
    if codec not in streams:
        pytest.skip("this FFmpeg does not encode it")
    extradata, packets = streams[codec]
    rng = np.random.default_rng(5)

    def damaged(data: bytes) -> bytes:
        content = bytearray(data)
        for _ in range(int(rng.integers(1, 5))):
            if content:
                content[int(rng.integers(min(len(content), 120)))] = int(rng.integers(256))
        return bytes(content[: int(rng.integers(len(content) + 1))] if rng.random() < 0.3 else content)

    told = 0
    for _ in range(150):
        headers: Headers | None = headers_of(codec, damaged(extradata) if rng.random() < 0.5 else extradata)
        assert headers is not None
        for packet in packets:
            found = headers.quantizer(damaged(packet))
            assert found is None or -60 < found < 70_000
            told += found is not None
    assert told > 100
    for junk in (b"", b"\0", b"\0\0\1", b"\xff" * 50, bytes(range(256))):
        fresh = headers_of(codec, junk)
        assert fresh is not None
        fresh.quantizer(junk)


def test_bits() -> None:
    bits = Bits(bytes([0b10100110, 0b01000010]))
    assert [bits.u(1), bits.ue(), bits.ue(), bits.se(), bits.u(2)] == [1, 1, 2, 2, 0]
    assert bits.u(2) == 0b10
    with pytest.raises(EndOfHeader):
        bits.skip(1)
    with pytest.raises(EndOfHeader):
        Bits(b"\0" * 8).ue()


def test_nal_units() -> None:
    assert list(nal_units(b"\0\0\1ab\0\0\1c", 0)) == [b"ab", b"c"]
    # The longer start code's first byte ends the unit before it, as zeros may.
    assert list(nal_units(b"\0\0\0\1ab\0\0\0\1c", 0)) == [b"ab\0", b"c"]
    assert list(nal_units(b"\0\2ab\0\1c", 2)) == [b"ab", b"c"]
    assert list(nal_units(b"\0\0\0\2ab", 4)) == [b"ab"]
    assert payload(b"\0\0\3\1\0\0\3\0\0\3") == b"\0\0\1\0\0\0\0"
