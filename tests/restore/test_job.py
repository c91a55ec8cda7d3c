"""One file from input to verified output: refusals, resume, and what is left behind."""

import dataclasses
import errno
import json
import os
import shutil
import stat
from pathlib import Path

import av
import media
import numpy as np
import pytest
from engines import Adding, Failing
from media import Sound
from networks import save_awake

from carfix.errors import CarfixError, UsageError
from carfix.restore.job import restore_video
from carfix.restore.report import Progress, Report
from carfix.restore.state import state_folder
from carfix.video.encoder import EncoderSettings

QUICK = EncoderSettings(preset="ultrafast", options={"bf": "2", "b_strategy": "0"})
LOSSLESS = EncoderSettings(codec="ffv1")


def restore(source: Path, output: Path, **options: object) -> Report:
    options = {"model": Adding(0), "encoder": QUICK, "segment_seconds": 0.2, **options}
    return restore_video(source=source, output=output, **options)  # type: ignore[arg-type]


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    return media.write_clip(tmp_path / "in.mp4", frames=30, sounds=[Sound(seconds=1.2)])


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(CarfixError, match=r"no such file: .*absent\.mp4") as failure:
        restore(tmp_path / "absent.mp4", tmp_path / "out.mp4")
    assert failure.value.exit_code == 1
    assert names(tmp_path) == set()


def test_text_named_mp4(tmp_path: Path) -> None:
    (tmp_path / "in.mp4").write_text("not a video\n" * 100)
    with pytest.raises(CarfixError, match=r"cannot read .*in\.mp4") as failure:
        restore(tmp_path / "in.mp4", tmp_path / "out.mp4")
    assert failure.value.exit_code == 1
    assert names(tmp_path) == {"in.mp4"}


def test_sound_only(tmp_path: Path) -> None:
    source = tmp_path / "in.mka"
    whole = media.write_clip(tmp_path / "whole.mkv", sounds=[Sound()])
    with av.open(str(whole)) as container, av.open(str(source), "w", format="matroska") as output:
        copy = output.add_stream_from_template(container.streams.audio[0])
        for packet in container.demux(audio=0):
            if packet.size:
                packet.stream = copy
                output.mux(packet)
    with pytest.raises(CarfixError, match="no video stream to restore, only audio"):
        restore(source, tmp_path / "out.mkv")


def test_folder_as_input(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="is a folder"):
        restore(tmp_path, tmp_path / "out.mp4")


@pytest.mark.parametrize("link", ["same", "symbolic", "hard"])
def test_output_that_is_the_input(clip: Path, link: str, tmp_path: Path) -> None:
    output = clip if link == "same" else tmp_path / "other.mp4"
    if link == "symbolic":
        output.symlink_to(clip)
    elif link == "hard":
        os.link(clip, output)
    before = clip.read_bytes()
    with pytest.raises(UsageError, match="same file"):
        restore(clip, output, overwrite=True)
    assert clip.read_bytes() == before


def test_existing_output_needs_permission(clip: Path, tmp_path: Path) -> None:
    output = tmp_path / "out.mp4"
    output.write_bytes(b"precious")
    with pytest.raises(CarfixError, match="exists already; -y overwrites it"):
        restore(clip, output)
    assert output.read_bytes() == b"precious"
    restore(clip, output, overwrite=True)
    assert len(media.frame_times(output)) == 30


@pytest.mark.skipif(os.geteuid() == 0, reason="the superuser may write everywhere")
def test_unwritable_folder(clip: Path, tmp_path: Path) -> None:
    folder = tmp_path / "sealed"
    folder.mkdir()
    folder.chmod(stat.S_IRUSR | stat.S_IXUSR)
    with pytest.raises(CarfixError, match="not writable"):
        restore(clip, folder / "out.mp4")


def test_missing_folder(clip: Path, tmp_path: Path) -> None:
    with pytest.raises(CarfixError, match="there is no folder"):
        restore(clip, tmp_path / "absent" / "out.mp4")
    assert names(tmp_path) == {"in.mp4"}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"encoder": EncoderSettings(codec="libx26")}, "unknown encoder 'libx26'; did you mean"),
        ({"encoder": EncoderSettings(codec="aac")}, "not a video encoder"),
        ({"encoder": EncoderSettings(options={"crv": "5"})}, "no option 'crv'; did you mean"),
        ({"encoder": EncoderSettings(codec="ffv1", crf=5)}, "no option 'crf'"),
        ({"encoder": EncoderSettings(crf=-1)}, "-crf must not be negative"),
        ({"encoder": EncoderSettings(preset="quick")}, "no preset 'quick'"),
        ({"encoder": EncoderSettings(bitrate="many")}, "refuses these options"),
        ({"encoder": EncoderSettings(options={"x264-params": "foo=1"})}, "foo"),
        ({"encoder": EncoderSettings(pix_fmt="yuv999")}, "unknown pixel format"),
        ({"encoder": EncoderSettings(pix_fmt="rgb24")}, "does not take rgb24"),
        ({"tile": -4}, "--tile must be positive"),
        ({"strength": -0.5}, "--strength is auto or a number from 0 to 2, not -0.5"),
        ({"batch": 0}, "--batch must be positive"),
        ({"segment_seconds": 0}, "--segment takes a positive length"),
        ({"audio_codec": "mp33"}, "unknown audio encoder"),
        ({"audio_codec": "libx264"}, "not an audio encoder"),
        ({"format": "mp44"}, "no container is called 'mp44'"),
        ({"start": -1.0}, "-ss must not be negative"),
        ({"start": 2.0, "end": 1.0}, "range is empty"),
        ({"duration": 1.0, "end": 1.0}, "not both"),
    ],
)
def test_settings_that_no_file_could_go_with(
    clip: Path, tmp_path: Path, options: dict[str, object], message: str
) -> None:
    with pytest.raises(UsageError, match=message) as failure:
        restore(clip, tmp_path / "out.mp4", **options)
    assert failure.value.exit_code == 2
    assert "\n" not in str(failure.value)
    assert names(tmp_path) == {"in.mp4"}


def test_name_without_a_container(clip: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="does not say which container"):
        restore(clip, tmp_path / "out.xyz")
    restore(clip, tmp_path / "out.xyz", format="matroska")
    with av.open(str(tmp_path / "out.xyz")) as container:
        assert "matroska" in container.format.name


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


def test_a_range_without_frames(clip: Path, tmp_path: Path) -> None:
    with pytest.raises(CarfixError, match="no frame of the video lies in the wanted range"):
        restore(clip, tmp_path / "out.mp4", start=50.0)
    assert names(tmp_path) == {"in.mp4"}


def test_segments_do_not_change_what_is_encoded(clip: Path, tmp_path: Path) -> None:
    restore(clip, tmp_path / "one.mkv", encoder=LOSSLESS, segment_seconds=100)
    restore(clip, tmp_path / "many.mkv", encoder=LOSSLESS, segment_seconds=0.1)
    one, many = media.planes(tmp_path / "one.mkv"), media.planes(tmp_path / "many.mkv")
    assert len(one) == 30
    assert all(np.array_equal(a, b) for a, b in zip(one, many, strict=True))


def test_a_failure_keeps_finished_segments_and_the_next_run_goes_on(clip: Path, tmp_path: Path) -> None:
    output = tmp_path / "out.mp4"
    whole = tmp_path / "whole.mp4"
    restore(clip, whole)
    with pytest.raises(CarfixError, match="broke"):
        restore(clip, output, model=Failing(13, CarfixError("the backend broke")))
    assert names(tmp_path) == {"in.mp4", "whole.mp4", ".out.mp4.carfix"}
    engine = Adding(0)
    engine.model = Failing(0, CarfixError("")).model
    report = restore(clip, output, model=engine)
    assert 0 < report.resumed <= 13
    assert engine.planes == 30 - report.resumed
    assert output.read_bytes() == whole.read_bytes()
    assert names(tmp_path) == {"in.mp4", "whole.mp4", "out.mp4"}


def interrupted(clip: Path, output: Path, **options: object) -> None:
    with pytest.raises(KeyboardInterrupt):
        restore(clip, output, model=Failing(13, KeyboardInterrupt()), **options)
    assert not output.exists()


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"model": Adding(1)}, "model"),
        ({"encoder": dataclasses.replace(QUICK, crf=30)}, "encoder settings"),
        ({"segment_seconds": 0.5}, "segments"),
        ({"strength": 0.5}, "strength"),
        ({"resume": False}, "--no-resume"),
    ],
)
def test_other_settings_start_anew(clip: Path, tmp_path: Path, change: dict[str, object], word: str) -> None:
    interrupted(clip, tmp_path / "out.mp4")
    report = restore(clip, tmp_path / "out.mp4", **change)
    assert report.resumed == 0
    assert any("earlier work" in line and word in line for line in report.warnings)


def test_another_source_starts_anew(clip: Path, tmp_path: Path) -> None:
    interrupted(clip, tmp_path / "out.mp4")
    media.write_clip(clip, frames=30, pictures=lambda i: media.picture(i + 100))
    report = restore(clip, tmp_path / "out.mp4", encoder=QUICK)
    assert report.resumed == 0
    assert any("source" in line for line in report.warnings)


@pytest.mark.parametrize("harm", ["truncated", "emptied", "removed", "torn journal", "garbage journal"])
def test_a_damaged_state_is_not_believed(clip: Path, tmp_path: Path, harm: str) -> None:
    whole = tmp_path / "whole.mp4"
    restore(clip, whole)
    output = tmp_path / "out.mp4"
    interrupted(clip, output)
    folder = state_folder(output)
    segment = folder / "000000.seg"
    journal = folder / "journal.jsonl"
    if harm == "truncated":
        segment.write_bytes(segment.read_bytes()[:-100])
    elif harm == "emptied":
        segment.write_bytes(bytes(segment.stat().st_size))
    elif harm == "removed":
        segment.unlink()
    elif harm == "torn journal":
        journal.write_bytes(journal.read_bytes()[:-20])
    else:
        journal.write_bytes(b"\xff\x00garbage")
    engine = Failing(1000, CarfixError(""))
    report = restore(clip, output, model=engine)
    assert engine.planes == 30 - report.resumed
    assert report.resumed < 13
    assert output.read_bytes() == whole.read_bytes()


def test_progress_and_report(clip: Path, tmp_path: Path) -> None:
    seen: list[Progress] = []
    lines: list[str] = []
    report = restore(clip, tmp_path / "out.mp4", progress=seen.append, say=lines.append)
    restoring = [progress.done for progress in seen if progress.phase == "restoring"]
    assert restoring == list(range(1, 31))
    assert {progress.total for progress in seen} == {30}
    assert lines == ["model adding-0: adds 0"]
    assert (report.frames, report.resumed, report.repeated, report.warnings) == (30, 0, 0, ())


def test_only_one_run_works_on_an_output(clip: Path, tmp_path: Path) -> None:
    from carfix.restore.state import open_state

    with open_state(tmp_path / "out.mp4"), pytest.raises(CarfixError, match="another carfix is at work"):
        restore(clip, tmp_path / "out.mp4")


def test_journal_names_what_it_holds(clip: Path, tmp_path: Path) -> None:
    interrupted(clip, tmp_path / "out.mp4")
    lines = (state_folder(tmp_path / "out.mp4") / "journal.jsonl").read_text().splitlines()
    header, *segments = map(json.loads, lines)
    assert header["source"][0] == str(clip.resolve())
    assert [segment["index"] for segment in segments] == list(range(len(segments)))
    assert len(segments) >= 1


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


def test_prores(tmp_path: Path) -> None:
    source = media.write_clip(tmp_path / "in.mp4", frames=12, pix_fmt="yuv422p10le")
    restore(source, tmp_path / "out.mov", encoder=EncoderSettings(codec="prores_ks"))
    assert media.frame_times(tmp_path / "out.mov") == media.frame_times(source)


def test_no_room(clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = shutil.disk_usage(tmp_path)
    size = clip.stat().st_size
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=size // 3))
    engine = Adding()
    with pytest.raises(CarfixError, match="there is no room"):
        restore(clip, tmp_path / "out.mp4", model=engine)
    assert engine.planes == 0
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=size))
    assert any("may be needed" in line for line in restore(clip, tmp_path / "out.mp4").warnings)


@pytest.mark.parametrize("moment", [1, 3, 6, 11])
def test_a_full_disk_is_survived(
    clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, moment: int
) -> None:
    """The write that does not fit fails; with room again, the next run goes on."""
    whole = tmp_path / "whole.mp4"
    restore(clip, whole)
    sync, count = os.fsync, 0

    def full(descriptor: int) -> None:
        nonlocal count
        count += 1
        if count >= moment:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        sync(descriptor)

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(CarfixError, match="disk is full"):
        restore(clip, tmp_path / "out.mp4")
    assert not (tmp_path / "out.mp4").exists()
    monkeypatch.undo()
    restore(clip, tmp_path / "out.mp4")
    assert (tmp_path / "out.mp4").read_bytes() == whole.read_bytes()
