"""One file from input to verified output: what is taken, what is kept, and what is refused."""

import dataclasses
import errno
import os
import subprocess
import sys
from fractions import Fraction
from pathlib import Path

import av
import media
import numpy as np
import pytest
from engines import Adding
from jobs import LOSSLESS, QUICK, names, restore
from media import Sound
from networks import save_awake

from carfix.errors import CarfixError
from carfix.restore.report import Progress
from carfix.video.encoder_settings import EncoderSettings
from carfix.video.headers.nal import nal_units


def test_sound_that_the_container_cannot_hold(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Found before an engine is opened or a frame inferred, and the message names both cures, which work."""
    source = media.write_clip(tmp_path / "in.mov", sounds=[Sound(codec="pcm_alaw", rate=8000)])
    weights = save_awake(tmp_path / "awake.safetensors")
    opened: list[object] = []
    monkeypatch.setattr("carfix.restore.models.open_engine", lambda *args, **options: opened.append(args))
    engine = Adding()
    for model in (engine, str(weights)):
        with pytest.raises(
            CarfixError, match=r"mp4 cannot hold audio stream 1 \(pcm_alaw\).*\.mkv.*-c:a aac"
        ):
            restore(source, tmp_path / "out.mp4", model=model)
    assert engine.planes == 0
    assert opened == []
    assert names(tmp_path) == {"in.mov", "awake.safetensors"}
    restore(source, tmp_path / "out.mkv")
    assert media.packets_digest(tmp_path / "out.mkv", 1) == media.packets_digest(source, 1)
    restore(source, tmp_path / "out.mp4", audio_codec="aac")
    with av.open(str(tmp_path / "out.mp4")) as container:
        sound = container.streams.audio[0]
        assert sound.codec_context.name == "aac"
        samples = sum(frame.samples for frame in container.decode(sound))
    assert abs(samples / 8000 - 0.6) < 0.15


def test_no_sound(clip: Path, tmp_path: Path) -> None:
    restore(clip, tmp_path / "out.mp4", audio_codec="none")
    with av.open(str(tmp_path / "out.mp4")) as container:
        assert [stream.type for stream in container.streams] == ["video"]


@pytest.mark.parametrize(
    ("pix_fmt", "cure"),
    [("yuv420p12le", "-c:v libx265"), ("yuv411p", "-c:v ffv1"), ("bgr0", "-pix_fmt yuv444p")],
)
def test_pixel_formats_that_the_encoder_does_not_take(pix_fmt: str, cure: str, tmp_path: Path) -> None:
    def pictures(index: int) -> av.VideoFrame:
        return media.picture(index).reformat(format=pix_fmt)

    source = media.write_clip(tmp_path / "in.mkv", codec="ffv1", pix_fmt=pix_fmt, pictures=pictures)
    with pytest.raises(CarfixError, match=cure):
        restore(source, tmp_path / "out.mkv")
    assert names(tmp_path) == {"in.mkv"}
    key, value = cure.split()
    settings = EncoderSettings(codec=value) if key == "-c:v" else EncoderSettings(pix_fmt=value)
    restore(source, tmp_path / "out.mkv", encoder=settings)
    assert len(media.frame_times(tmp_path / "out.mkv")) == media.FRAMES


def test_odd_sizes_are_refused_by_x264_with_a_cure(tmp_path: Path) -> None:
    source = media.write_clip(tmp_path / "in.mkv", codec="ffv1", width=67, height=45)
    with pytest.raises(CarfixError, match=r"odd sizes work with -c:v ffv1"):
        restore(source, tmp_path / "out.mkv")
    restore(source, tmp_path / "out.mkv", encoder=LOSSLESS)
    for plane in range(3):
        for a, b in zip(media.planes(tmp_path / "out.mkv", plane), media.planes(source, plane), strict=True):
            assert np.array_equal(a, b)


def test_full_range_goes_to_encoders_that_name_it_otherwise(tmp_path: Path) -> None:
    """yuvj420p and full-range yuv420p are the same samples: nothing may be scaled on the way."""
    source = media.write_clip(
        tmp_path / "in.mp4", setup=lambda video: setattr(video.codec_context, "color_range", 2)
    )
    assert media.video_properties(source)["pix_fmt"] == "yuvj420p"
    restore(source, tmp_path / "out.mkv", encoder=LOSSLESS)
    assert media.video_properties(tmp_path / "out.mkv")["range"] == 2
    for plane in range(3):
        for a, b in zip(media.planes(tmp_path / "out.mkv", plane), media.planes(source, plane), strict=True):
            assert np.array_equal(a, b)


def test_a_part_of_the_input(clip: Path, tmp_path: Path) -> None:
    restore(clip, tmp_path / "out.mp4", start=0.4, duration=0.4, encoder=EncoderSettings(options={"qp": "0"}))
    assert media.frame_times(tmp_path / "out.mp4") == [media.Fraction(i, 25) for i in range(10)]
    for a, b in zip(media.planes(tmp_path / "out.mp4"), media.planes(clip)[10:20], strict=True):
        assert np.array_equal(a, b)
    with av.open(str(tmp_path / "out.mp4")) as container:
        times = [packet.pts * packet.time_base for packet in container.demux(audio=0) if packet.size]
    assert times and times[0] < 0.03 and times[-1] < 0.4


def test_both_parts_of_a_video_that_changes_its_size(tmp_path: Path) -> None:
    """One file, told where to cut, restored as two."""
    source = media.write_two_sizes(tmp_path / "in.ts")
    done: list[Progress] = []
    with pytest.raises(CarfixError, match=r"\(-ss 0\.920\) into two files"):
        restore(source, tmp_path / "whole.mkv", encoder=LOSSLESS, progress=done.append)
    assert not done  # it is told before the work
    shown = media.planes(source)
    parts = (({"end": 0.92}, shown[:12], 64), ({"start": 0.92}, shown[12:], 96))
    for bounds, wanted, width in parts:
        output = tmp_path / f"{width}.mkv"
        assert restore(source, output, encoder=LOSSLESS, **bounds).frames == len(wanted)
        restored = media.planes(output)
        assert [plane.shape[1] for plane in restored] == [width] * len(wanted)
        assert all(np.array_equal(a, b) for a, b in zip(restored, wanted, strict=True))


def test_a_range_without_frames(clip: Path, tmp_path: Path) -> None:
    with pytest.raises(CarfixError, match=r"no frame of .*in\.mp4 lies .* begin at 0\.000 s, .* at 1\.160 s"):
        restore(clip, tmp_path / "out.mp4", start=50.0)
    assert names(tmp_path) == {"in.mp4"}


def test_segments_do_not_change_what_is_encoded(clip: Path, tmp_path: Path) -> None:
    restore(clip, tmp_path / "one.mkv", encoder=LOSSLESS, segment_seconds=100)
    restore(clip, tmp_path / "many.mkv", encoder=LOSSLESS, segment_seconds=0.1)
    one, many = media.planes(tmp_path / "one.mkv"), media.planes(tmp_path / "many.mkv")
    assert len(one) == 30
    assert all(np.array_equal(a, b) for a, b in zip(one, many, strict=True))


def test_frames_are_not_cut_into_slices(tmp_path: Path) -> None:
    """Threads of the encoder share out frames: slices know nothing of each other, which costs bits."""
    clip = media.write_clip(tmp_path / "in.mkv", codec="ffv1", width=320, height=240)
    output = tmp_path / "out.mp4"
    restore(clip, output, encoder=dataclasses.replace(QUICK, options={"threads": "4"}))
    slices = (1, 5)  # types of units: a slice of an IDR picture, and of any other
    with av.open(output) as container:
        for packet in container.demux(video=0):
            kinds = [unit[0] & 31 for unit in nal_units(bytes(packet), 4)]
            assert sum(kind in slices for kind in kinds) == (1 if packet.size else 0)


def test_progress_and_report(clip: Path, tmp_path: Path) -> None:
    seen: list[Progress] = []
    lines: list[str] = []
    report = restore(clip, tmp_path / "out.mp4", progress=seen.append, say=lines.append)
    restoring = [progress.done for progress in seen if progress.phase == "restoring"]
    assert restoring == list(range(1, 31))
    assert {progress.total for progress in seen} == {30}
    assert lines == ["model adding-0: adds 0"]
    assert (report.frames, report.resumed, report.repeated, report.warnings) == (30, 0, 0, ())


@pytest.mark.parametrize(
    ("codec", "suffix"),
    [
        ("libx264", ".mkv"),
        ("libx265", ".mp4"),
        ("libsvtav1", ".mkv"),
        ("libvpx-vp9", ".webm"),
        ("ffv1", ".mkv"),
        ("mpeg4", ".mp4"),
        ("mpeg2video", ".mkv"),
        ("mjpeg", ".mov"),
    ],
)
def test_joined_segments_of_every_codec_decode(codec: str, suffix: str, tmp_path: Path) -> None:
    """Frames across the joins come out whole, in order, at their times."""
    source = media.write_clip(tmp_path / "in.mp4", frames=30, width=128, height=96)
    options = {
        "libvpx-vp9": {"deadline": "realtime", "cpu-used": "8"},
        "mpeg2video": {"b": "4M"},
        "mpeg4": {"b": "4M"},
        "mjpeg": {"strict": "unofficial"},
    }
    preset = {"libx264": "ultrafast", "libx265": "ultrafast", "libsvtav1": "12"}.get(codec)
    encoder = EncoderSettings(codec=codec, preset=preset, options=options.get(codec, {}))
    restore(source, tmp_path / f"out{suffix}", encoder=encoder)
    got, wanted = media.planes(tmp_path / f"out{suffix}"), media.planes(source)
    assert len(got) == 30
    for a, b in zip(got, wanted, strict=True):
        assert (
            np.abs(a.astype(int) - b).mean() < 6
        )  # the right picture in the right place: others differ by more
    for a, b in zip(media.frame_times(tmp_path / f"out{suffix}"), media.frame_times(source), strict=True):
        assert abs(a - b) <= (0 if suffix in (".mp4", ".mov") else media.Fraction(1, 2000))


def stated_rate(path: Path) -> object:
    """What H.264 itself says of its rate, whatever its container does."""
    with av.open(str(path)) as container:
        return container.streams.video[0].codec_context.framerate


@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".ts", ".h264"])
@pytest.mark.parametrize("lost", [(), (70,)])
def test_h264_states_its_frame_rate(suffix: str, lost: tuple[int, ...], tmp_path: Path) -> None:
    """It was the clock's, 6400 frames a second here; a program that wraps a bare stream goes by it."""
    rate, tick = Fraction(30000, 1001), Fraction(1, 12800)
    times = [round(i / rate / tick) for i in range(120) if i not in lost]
    source = media.write_clip(tmp_path / "in.mp4", rate=rate, times=times, frames=len(times))
    restore(source, tmp_path / f"out{suffix}", encoder=QUICK, segment_seconds=1)
    assert stated_rate(tmp_path / f"out{suffix}") == rate
    if suffix == ".mp4":
        assert media.frame_times(tmp_path / "out.mp4") == media.frame_times(source)


def test_but_for_video_that_has_none(tmp_path: Path) -> None:
    times = [(2 * i + i % 2) * 512 for i in range(24)]
    source = media.write_clip(tmp_path / "in.mp4", times=times, frames=len(times))
    restore(source, tmp_path / "out.mp4")
    assert stated_rate(tmp_path / "out.mp4") != media.RATE
    assert media.frame_times(tmp_path / "out.mp4") == media.frame_times(source)
    restore(source, tmp_path / "out.h264")
    with av.open(str(source)) as container:
        assert stated_rate(tmp_path / "out.h264") == container.streams.video[0].guessed_rate


@pytest.mark.parametrize("suffix", [".mov", ".mkv"])
@pytest.mark.parametrize(
    ("profile", "tag", "pix_fmt"), [("proxy", "apco", "yuv422p10le"), ("4444", "ap4h", "yuv444p10le")]
)
def test_prores(suffix: str, profile: str, tag: str, pix_fmt: str, tmp_path: Path) -> None:
    """Editors, and FFmpeg's decoder, go by the tag: it is the profile's."""
    source = media.write_clip(tmp_path / "in.mp4", frames=12, pix_fmt=pix_fmt)
    output = tmp_path / f"out{suffix}"
    restore(source, output, encoder=EncoderSettings(codec="prores_ks", options={"profile": profile}))
    assert media.frame_times(output) == media.frame_times(source)
    with av.open(str(output)) as container:
        assert container.streams.video[0].codec_context.codec_tag == tag


def test_a_tag_that_tells_the_pixel_format(tmp_path: Path) -> None:
    source = media.write_clip(tmp_path / "in.mp4", frames=4)
    restore(source, tmp_path / "out.avi", encoder=EncoderSettings(codec="utvideo"))
    with av.open(str(tmp_path / "out.avi")) as container:
        assert container.streams.video[0].codec_context.codec_tag == "ULY0"


def test_the_times_of_the_file_are_kept_if_asked_for(clip: Path, tmp_path: Path) -> None:
    recorded = 1_234_567_890_123_456_700  # ns, in 2009; file systems of 100 ns hold it, too
    os.utime(clip, ns=(recorded, recorded))
    restore(clip, tmp_path / "new.mp4")
    assert (tmp_path / "new.mp4").stat().st_mtime_ns > recorded
    report = restore(clip, tmp_path / "kept.mp4", keep_times=True)
    assert (tmp_path / "kept.mp4").stat().st_mtime_ns == recorded
    assert report.warnings == ()


def test_times_that_cannot_be_kept_do_not_cost_the_work(
    clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr("os.utime", refuse)
    report = restore(clip, tmp_path / "out.mp4", keep_times=True)
    assert len(report.warnings) == 1 and "the times of" in report.warnings[0]
    assert len(media.frame_times(tmp_path / "out.mp4")) == report.frames


WITHOUT_TORCH = """
import sys
from carfix import restore_video
from carfix.restore.engine import choose

choose.choose = lambda model, precision: choose.Choice(choose.WINOGRAD_FP32)
report = restore_video(source=sys.argv[1], output=sys.argv[2], model="tiny", device="cpu")
assert report.engine.startswith("winograd"), report.engine
print(report.frames, *sorted(name for name in sys.modules if name in ("torch", "scipy", "skimage")))
"""


def test_an_engine_of_carfix_s_own_restores_without_torch(tmp_path: Path) -> None:
    """torch takes longer to load than a short clip to restore, and 200 MB."""
    pytest.importorskip("llvmlite", reason="llvmlite has no wheels for this machine")
    source = media.write_clip(tmp_path / "in.mp4", frames=3)
    run = subprocess.run(
        [sys.executable, "-c", WITHOUT_TORCH, str(source), str(tmp_path / "out.mp4")],
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    assert run.stdout.split() == ["3"]
