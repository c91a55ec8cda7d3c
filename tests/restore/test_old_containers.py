"""Containers of old archives: written so that they can be read back, or refused before any work."""

import re
from pathlib import Path
from typing import Any

import av
import media
import numpy as np
import pytest
from av.packet import Packet
from av.video.frame import PictureType
from engines import Adding
from jobs import LOSSLESS, names, restore
from media import Sound

from carfix.errors import CarfixError
from carfix.video.encoder_settings import EncoderSettings
from carfix.video.muxed import Muxed

MILLISECOND = media.Fraction(1, 1000)


def exact(path: Path, source: Path) -> bool:
    """Whether luma is that of `source`, code for code."""
    one, other = media.planes(path), media.planes(source)
    return len(one) == len(other) and all(np.array_equal(a, b) for a, b in zip(one, other, strict=True))


def test_flash_video(tmp_path: Path) -> None:
    """FLV's reader counts streams as they come, and FLV has no times below 0, for B-frames to be decoded at."""
    times = [media.Fraction(i, 25) + media.Fraction(46, 1000) for i in range(12)]
    source = media.write_clip(
        tmp_path / "in.flv",
        codec="flv",
        options={"q": "2"},
        time_base=MILLISECOND,
        times=[round(time / MILLISECOND) for time in times],
        sounds=[Sound(codec="aac")],
    )
    with av.open(str(source)) as container:
        assert [stream.type for stream in container.streams] == ["audio", "video"]
    restore(source, tmp_path / "out.flv", encoder=EncoderSettings(options={"qp": "0", "bf": "2"}))
    assert media.frame_times(tmp_path / "out.flv") == media.frame_times(source)
    assert exact(tmp_path / "out.flv", source)


@pytest.mark.parametrize("suffix", [".flv", ".nut"])
def test_times_below_zero(suffix: str, tmp_path: Path) -> None:
    """Sound that begins with its encoder's delay, and B-frames from 0: everything is moved by as much as need be."""
    source = media.write_clip(tmp_path / "in.mkv", sounds=[Sound(start=-1024 / 48_000)])
    with av.open(str(source)) as container:
        assert next(container.demux(audio=0)).pts < 0  # type: ignore[operator]
    output = tmp_path / f"out{suffix}"
    report = restore(source, output, encoder=EncoderSettings(options={"qp": "0"}))
    (line,) = (line for line in report.warnings if "no times below 0: everything is" in line)
    late = media.Fraction(re.findall(r"[0-9.]+", line)[-1])
    assert 0 < late < media.Fraction(1, 5)
    got, wanted = media.frame_times(output), media.frame_times(source)
    assert max(abs(a - b - late) for a, b in zip(got, wanted, strict=True)) <= media.Fraction(2, 1000)
    with av.open(str(source)) as before, av.open(str(output)) as after:
        starts = [
            media.Fraction(next(c.demux(audio=0)).pts * c.streams.audio[0].time_base) for c in (before, after)
        ]  # type: ignore[operator]
    assert abs(starts[1] - starts[0] - late) <= media.Fraction(2, 1000)
    assert exact(output, source)


@pytest.mark.parametrize("encoder", ["mpeg2video", "libx264"])
@pytest.mark.parametrize("audio_codec", ["copy", "ac3"])
def test_sound_before_zero_in_a_program_stream(encoder: str, audio_codec: str, tmp_path: Path) -> None:
    """Behind a picture that begins at 0 it was read at the end of the clock, and the file was 26 hours long."""
    source = media.write_clip(
        tmp_path / "in.mkv", frames=30, sounds=[Sound(codec="mp2", seconds=1.2, start=-0.01)]
    )
    output = tmp_path / "out.mpg"
    report = restore(source, output, encoder=EncoderSettings(codec=encoder), audio_codec=audio_codec)
    (line,) = (line for line in report.warnings if "no times below 0: everything is" in line)
    late = float(re.findall(r"[0-9.]+", line)[-1])
    with av.open(str(output)) as container:
        sound, video = container.streams.audio[0], container.streams.video[0]
        packets = [packet for packet in container.demux() if packet.size and packet.pts is not None]
        heard = [float(packet.pts * sound.time_base) for packet in packets if packet.stream == sound]  # type: ignore[operator]
        shown = [float(packet.pts * video.time_base) for packet in packets if packet.stream == video]  # type: ignore[operator]
    begins = float(media.frame_times(source)[0])
    assert min(shown) == pytest.approx(begins + late, abs=1e-3) and max(shown + heard) < late + 1.3
    assert min(heard) == pytest.approx(late - 0.01, abs=0.03)


@pytest.mark.parametrize("start", [None, 0.1])
def test_frames_decoded_below_zero_beside_sound_keep_their_times_in_nut(
    start: float | None, tmp_path: Path
) -> None:
    """Its marks are of decoding: below 0 they are read back as nonsense where streams have several clocks."""
    source = media.write_clip(tmp_path / "in.mkv", sounds=[Sound(codec="pcm_s16le")])
    with av.open(str(source)) as container:
        assert next(container.demux(audio=0)).pts == 0
    encoder = EncoderSettings(options={"bf": "2", "b_strategy": "0"})
    report = restore(source, tmp_path / "out.nut", encoder=encoder, start=start)
    restore(source, tmp_path / "out.mp4", encoder=encoder, start=start)
    (line,) = (line for line in report.warnings if "no times below 0: everything is" in line)
    late = media.Fraction(re.findall(r"[0-9.]+", line)[-1])
    assert 0 < late < media.Fraction(1, 5)
    got, wanted = media.frame_times(tmp_path / "out.nut"), media.frame_times(tmp_path / "out.mp4")
    assert max(abs(a - b - late) for a, b in zip(got, wanted, strict=True)) <= media.Fraction(2, 1000)


@pytest.mark.parametrize("codec", ["libx264", "h264"])
@pytest.mark.parametrize(("options", "reordered"), [({}, False), ({"bf": "2", "b_strategy": "0"}, True)])
def test_avi_gets_no_b_frames_unless_told(
    options: dict[str, str], reordered: bool, codec: str, tmp_path: Path
) -> None:
    """AVI counts frames as they are decoded, so that reordered ones would be shown late."""
    source = media.write_clip(
        tmp_path / "in.avi", codec="mjpeg", pix_fmt="yuvj420p", time_base=media.Fraction(1, 25)
    )
    encoder = EncoderSettings(codec=codec, preset="medium", options=options)
    restore(source, tmp_path / "out.avi", encoder=encoder)
    with av.open(str(tmp_path / "out.avi")) as container:
        kinds = [PictureType(frame.pict_type) for frame in container.decode(video=0)]
    assert len(kinds) == media.FRAMES and (PictureType.B in kinds) == reordered


def test_windows_media_is_refused_before_work(tmp_path: Path) -> None:
    """FFmpeg reads from ASF other times than it wrote."""
    source = media.write_clip(
        tmp_path / "in.wmv", codec="wmv2", options={"q": "2"}, time_base=media.Fraction(1, 25)
    )
    engine = Adding(0)
    with pytest.raises(CarfixError, match=r"in\.wmv: asf would not give the video back: its frame .*\.mkv"):
        restore(source, tmp_path / "out.wmv", model=engine)
    assert engine.planes == 0 and names(tmp_path) == {"in.wmv"}
    restore(source, tmp_path / "out.mkv", model=engine)
    assert len(media.frame_times(tmp_path / "out.mkv")) == media.FRAMES


@pytest.mark.parametrize(
    ("name", "codec"), [("out.vob", "libx264"), ("out.264", "libx264"), ("out.hevc", "libx265")]
)
def test_containers_without_a_place_for_headers(name: str, codec: str, clip: Path, tmp_path: Path) -> None:
    """Every part of the file can be decoded on its own: parameter sets stand before every keyframe."""
    lossless = {"libx264": {"qp": "0"}, "libx265": {"x265-params": "lossless=1"}}[codec]
    output = tmp_path / name
    audio = "none" if name == "out.vob" else "copy"  # a bare stream leaves it out
    settings = EncoderSettings(codec=codec, preset="ultrafast", options=lossless)
    restore(clip, output, encoder=settings, audio_codec=audio, segment_seconds=0.2)
    assert exact(output, clip)
    with av.open(str(output)) as container:
        packets = [packet for packet in container.demux(video=0) if packet.size]
        last = max(index for index, packet in enumerate(packets) if packet.is_keyframe)
        data = b"".join(bytes(packet) for packet in packets[last:])
    assert last > 0
    (tmp_path / "last").write_bytes(data)
    with av.open(str(tmp_path / "last"), format="h264" if codec == "libx264" else "hevc") as container:
        assert sum(1 for _ in container.decode(video=0)) == len(packets) - last


def test_program_streams_count_their_streams_as_they_come(tmp_path: Path) -> None:
    source = media.write_clip(
        tmp_path / "in.vob",
        codec="mpeg2video",
        width=320,  # a frame fills some packs: of several in one, the reader knows the first one's time alone
        height=240,
        options={"q": "2"},
        time_base=media.Fraction(1, 25),
        sounds=[Sound(codec="mp2"), Sound(codec="ac3")],
    )
    restore(source, tmp_path / "out.vob")
    assert media.frame_times(tmp_path / "out.vob") == media.frame_times(source)
    digests = [
        {media.packets_digest(path, stream) for stream in range(3) if is_sound(path, stream)}
        for path in (source, tmp_path / "out.vob")
    ]
    assert len(digests[0]) == 2 and digests[0] == digests[1]


def is_sound(path: Path, stream: int) -> bool:
    with av.open(str(path)) as container:
        return container.streams[stream].type == "audio"


def test_sound_that_the_reader_cuts_anew(tmp_path: Path) -> None:
    """MXF holds a frame's time of PCM a packet, MP4's reader gives 1024 samples: the same bytes."""
    source = media.write_clip(
        tmp_path / "in.mxf",
        codec="mpeg2video",
        width=128,
        height=96,
        options={"q": "2"},
        time_base=media.Fraction(1, 25),
        sounds=[Sound(codec="pcm_s16le")],
    )
    restore(source, tmp_path / "out.mov")
    payloads = []
    for path in (source, tmp_path / "out.mov"):
        with av.open(str(path)) as container:
            payloads.append([bytes(packet) for packet in container.demux(audio=0) if packet.size])
    assert len(payloads[0]) != len(payloads[1])
    assert b"".join(payloads[0]) == b"".join(payloads[1]) != b""


@pytest.mark.parametrize(
    ("codec", "rate", "suffix", "why"),
    [
        ("flac", 48_000, ".ts", "may not be recognized upon reading"),
        ("libmp3lame", 8_000, ".mp4", "muxing mp3 at 8000hz is not standard"),
        ("pcm_alaw", 8_000, ".mp4", "codec not currently supported in container"),
    ],
)
def test_sound_is_refused_in_the_muxers_own_words(
    codec: str, rate: int, suffix: str, why: str, tmp_path: Path
) -> None:
    source = media.write_clip(tmp_path / "in.nut", sounds=[Sound(codec=codec, rate=rate)])
    engine = Adding(0)
    with pytest.raises(
        CarfixError, match=rf"in\.nut: \w+ cannot hold audio stream 1 \(\w+\): .*{why}.*-c:a aac"
    ):
        restore(source, tmp_path / f"out{suffix}", model=engine)
    assert engine.planes == 0


@pytest.mark.parametrize("codec", ["pcm_alaw", "pcm_mulaw"])
def test_telephone_sound_goes_into_flv(codec: str, tmp_path: Path) -> None:
    """NUT and Matroska tell a number of channels and no layout, without which FFmpeg's muxer aborts the process."""
    source = media.write_clip(tmp_path / "in.nut", sounds=[Sound(codec=codec, rate=8_000)])
    with av.open(str(source)) as container:
        assert container.streams.audio[0].layout.name == "1 channels"
    restore(source, tmp_path / "out.flv")
    with av.open(str(tmp_path / "out.flv")) as container:
        (sound,) = container.streams.audio
        assert (sound.codec_context.name, sound.sample_rate) == (codec, 8_000)
        size = sum(packet.size for packet in container.demux(sound))
    assert size == 4_800


@pytest.mark.parametrize(
    ("codec", "rate"),
    [("pcm_alaw", 16_000), ("pcm_s16le", 8_000), ("pcm_s16le", 48_000), ("pcm_s16be", 44_100)],
)
def test_sound_that_flv_would_call_by_another_rate_is_refused(codec: str, rate: int, tmp_path: Path) -> None:
    source = media.write_clip(tmp_path / "in.nut", sounds=[Sound(codec=codec, rate=rate)])
    engine = Adding(0)
    with pytest.raises(CarfixError, match=rf"flv cannot hold audio stream 1 \({codec}\): it .*-c:a aac"):
        restore(source, tmp_path / "out.flv", model=engine)
    assert engine.planes == 0


def test_lost_sound_is_found(clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A muxer that takes packets and does not write them all."""
    count = Muxed.count

    def twice(muxed: Muxed, packet: "Packet[Any]") -> None:
        count(muxed, packet)
        count(muxed, packet)

    monkeypatch.setattr(Muxed, "count", twice)
    why = r"audio stream 1 should hold \d+ packets; found: \d+"
    # Not by the name of a file in the state folder, which is not there any more.
    with pytest.raises(
        CarfixError, match=rf"{tmp_path.name}.lost\.mp4 was read back.* not as it was written: .*{why}"
    ):
        restore(clip, tmp_path / "lost.mp4")
    assert not (tmp_path / "lost.mp4").exists()


def test_y4m_is_frames_alone(clip: Path, tmp_path: Path) -> None:
    report = restore(clip, tmp_path / "out.y4m", encoder=None)
    assert any(
        "audio stream 1 is left out: yuv4mpegpipe holds nothing but video" in line for line in report.warnings
    )
    assert exact(tmp_path / "out.y4m", clip)
    restore(tmp_path / "out.y4m", tmp_path / "again.mkv", encoder=LOSSLESS)
    assert exact(tmp_path / "again.mkv", clip)
    restore(clip, tmp_path / "named", format="y4m", encoder=None, audio_codec="aac")
    assert (tmp_path / "named").read_bytes() == (tmp_path / "out.y4m").read_bytes()


def test_a_picture_without_luma_is_refused_by_name(tmp_path: Path) -> None:
    source = media.write_clip(
        tmp_path / "in.avi",
        codec="rawvideo",
        pix_fmt="bgr24",
        pictures=lambda i: media.picture(i).reformat(format="bgr24"),
    )
    with pytest.raises(
        CarfixError, match=r"in\.avi: the video's pixel format bgr24 has no luma.*-pix_fmt yuv444p"
    ):
        restore(source, tmp_path / "out.mkv")
    restore(source, tmp_path / "out.mkv", encoder=EncoderSettings(pix_fmt="yuv444p"))
    assert len(media.planes(tmp_path / "out.mkv")) == media.FRAMES


@pytest.mark.parametrize("codec", ["pcm_s16le", "pcm_alaw", "adpcm_ima_wav", "libmp3lame"])
@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
def test_sound_of_avi_can_be_encoded(codec: str, suffix: str, tmp_path: Path) -> None:
    """AVI tells the number of channels and no layout, and its clock for MP3 counts packets."""
    source = media.write_clip(
        tmp_path / "in.avi", codec="mpeg4", frames=30, sounds=[Sound(codec=codec, rate=44_100, seconds=1.2)]
    )
    output = tmp_path / f"out{suffix}"
    restore(source, output, audio_codec="aac")
    with av.open(str(output)) as container:
        (sound,) = container.streams.audio
        assert sound.codec_context.name == "aac" and sound.codec_context.layout.name == "mono"
        times = [float(p.pts * p.time_base) for p in container.demux(sound) if p.size]  # type: ignore[operator]
    assert np.diff(times) == pytest.approx(1024 / 44_100, abs=0.0011)  # Matroska counts milliseconds
    assert times[-1] == pytest.approx(1.2, abs=0.06)
