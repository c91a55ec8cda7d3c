"""The container that is written: what it calls the video, what its muxer is told, and what it cannot hold."""

from fractions import Fraction
from pathlib import Path

import av
import media
import pytest
from engines import Adding
from jobs import restore

from carfix.errors import CarfixError, UsageError
from carfix.video.encoder_settings import EncoderSettings
from carfix.video.headers.nal import nal_units


@pytest.mark.parametrize(("suffix", "tag"), [(".mp4", "hvc1"), (".mov", "hvc1"), (".mkv", "")])
def test_hevc_is_named_as_apple_players_want_it(suffix: str, tag: str, clip: Path, tmp_path: Path) -> None:
    output = tmp_path / f"out{suffix}"
    restore(clip, output, encoder=EncoderSettings(codec="libx265", preset="ultrafast"))
    with av.open(str(output)) as container:
        context = container.streams.video[0].codec_context
        assert context.codec_tag.strip("\0") == tag
        # True of the stream: nothing between the frames that only hev1 allows (VPS, SPS, PPS).
        kinds = {
            unit[0] >> 1 & 0x3F for packet in container.demux(video=0) for unit in nal_units(bytes(packet), 4)
        }
    assert kinds and not kinds & {32, 33, 34}


def test_movflags(clip: Path, tmp_path: Path) -> None:
    restore(clip, tmp_path / "plain.mp4")
    restore(clip, tmp_path / "fast.mp4", movflags="+faststart")
    boxes = {name: (tmp_path / name).read_bytes() for name in ("plain.mp4", "fast.mp4")}
    assert boxes["plain.mp4"].index(b"mdat") < boxes["plain.mp4"].index(b"moov")
    assert boxes["fast.mp4"].index(b"moov") < boxes["fast.mp4"].index(b"mdat")
    assert media.frame_times(tmp_path / "fast.mp4") == media.frame_times(clip)


@pytest.mark.parametrize("suffix", [".mp4", ".mov"])
@pytest.mark.parametrize("start", [None, 0.13])
def test_transport_streams_begin_at_any_tick_in_mp4(start: float | None, suffix: str, tmp_path: Path) -> None:
    """MP4's edit lists count milliseconds unless told otherwise, transport streams ninety-thousandths."""
    first = 127_919
    source = media.write_clip(
        tmp_path / "in.ts",
        time_base=Fraction(1, 90_000),
        times=[first + 3600 * i for i in range(12)],
        sounds=[media.Sound(start=1.4)],
        muxer={"mpegts_copyts": "1", "avoid_negative_ts": "disabled"},
    )
    times = media.frame_times(source)
    assert times[0] == Fraction(first, 90_000)
    output = tmp_path / f"out{suffix}"
    restore(source, output, start=start)
    got = media.frame_times(output)
    if start is None:
        assert got == times
    else:
        with av.open(str(source)) as container:
            begin = Fraction(container.start_time, av.time_base) + Fraction(13, 100)
        wanted = [time - begin for time in times if time >= begin]
        assert 3 < len(wanted) < len(times)
        assert max(abs(a - b) for a, b in zip(got, wanted, strict=True)) <= Fraction(1, 90_000)


@pytest.mark.parametrize(
    "flags", ["+frag_keyframe", "frag_keyframe+default_base_moof", "+empty_moov+frag_keyframe"]
)
def test_fragments_keep_times(flags: str, clip: Path, tmp_path: Path) -> None:
    restore(clip, tmp_path / "out.mp4", movflags=flags)
    assert b"moof" in (tmp_path / "out.mp4").read_bytes()
    assert media.frame_times(tmp_path / "out.mp4") == media.frame_times(clip)
    assert media.packets_digest(tmp_path / "out.mp4", 1) == media.packets_digest(clip, 1)


def test_sound_that_only_fragments_cannot_hold_is_refused_before_work(tmp_path: Path) -> None:
    """AAC of transport streams tells its form in every packet, MP4 in its header, which fragments write too soon."""
    source = media.write_clip(tmp_path / "in.ts", sounds=[media.Sound(start=0.1)])
    engine = Adding(0)
    with pytest.raises(CarfixError, match=r"mp4 cannot hold audio stream 1 \(aac\).*-c:a aac"):
        restore(source, tmp_path / "out.mp4", movflags="+frag_keyframe", model=engine)
    assert engine.planes == 0
    restore(source, tmp_path / "out.mp4", movflags="+faststart")
    assert media.packets_digest(tmp_path / "out.mp4", 1)[0] == media.packets_digest(source, 1)[0]


@pytest.mark.parametrize(
    ("flags", "name", "why"),
    [("+fastest", "out.mp4", "refuses -movflags"), ("+faststart", "out.mkv", r"for \.mp4 and \.mov")],
)
def test_wrong_movflags_are_found_before_work(
    flags: str, name: str, why: str, clip: Path, tmp_path: Path
) -> None:
    engine = Adding()
    with pytest.raises(UsageError, match=why):
        restore(clip, tmp_path / name, movflags=flags, model=engine)
    assert engine.planes == 0


@pytest.mark.parametrize("pix_fmt", ["yuv420p", "yuv422p10le", "gray"])
def test_uncompressed_video_in_a_file_says_its_pixel_format(tmp_path: Path, pix_fmt: str) -> None:
    """NUT says it by the codec's tag, which comes from the encoder."""
    source = media.write_clip(tmp_path / "in.mkv", codec="ffv1", pix_fmt=pix_fmt, frames=4, options={})
    restore(source, tmp_path / "out.nut", encoder=EncoderSettings(codec="rawvideo"))
    with av.open(str(tmp_path / "out.nut")) as container:
        assert container.streams.video[0].pix_fmt == pix_fmt
        assert sum(1 for _ in container.decode(video=0)) == 4


def test_a_container_that_cannot_tell_raw_video_is_refused_before_work(tmp_path: Path) -> None:
    source = media.write_clip(tmp_path / "in.mp4")
    engine = Adding(0)
    with pytest.raises(CarfixError, match=r"mov cannot say what pixel format raw yuv420p is; write \.nut"):
        restore(source, tmp_path / "out.mov", model=engine, encoder=EncoderSettings(codec="rawvideo"))
    assert engine.planes == 0


def test_dnxhd_is_tried_on_a_picture_of_its_own_size(tmp_path: Path) -> None:
    source = media.write_clip(tmp_path / "in.mkv", width=1920, height=1080, frames=2, pix_fmt="yuv422p")
    settings = EncoderSettings(codec="dnxhd", bitrate="120M")
    restore(source, tmp_path / "out.mov", encoder=settings)
    assert len(media.frame_times(tmp_path / "out.mov")) == 2
    with pytest.raises(CarfixError, match="dnxhd refuses this video"):
        small = media.write_clip(tmp_path / "small.mkv", pix_fmt="yuv422p")
        restore(small, tmp_path / "small.mov", encoder=settings)
