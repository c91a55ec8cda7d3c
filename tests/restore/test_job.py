"""One file from input to verified output: what is kept, resume, and what is left behind."""

import dataclasses
import errno
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import av
import media
import numpy as np
import pytest
from engines import Adding, Failing
from faults import sync_as_windows
from jobs import LOSSLESS, QUICK, names, restore
from media import Sound
from networks import save_awake

from carfix.errors import CarfixError
from carfix.restore.report import Progress
from carfix.restore.state import AtWorkError, discard_state, open_state, state_folder
from carfix.video.encoder import EncoderSettings
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
    with pytest.raises(CarfixError, match=r"\(-ss 0\.920\) into two files"):
        restore(source, tmp_path / "whole.mkv", encoder=LOSSLESS)
    shown = media.planes(source)
    parts = (({"end": 0.92}, shown[:12], 64), ({"start": 0.92}, shown[12:], 96))
    for bounds, wanted, width in parts:
        output = tmp_path / f"{width}.mkv"
        assert restore(source, output, encoder=LOSSLESS, **bounds).frames == len(wanted)
        restored = media.planes(output)
        assert [plane.shape[1] for plane in restored] == [width] * len(wanted)
        assert all(np.array_equal(a, b) for a, b in zip(restored, wanted, strict=True))


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


@pytest.mark.parametrize("moment", ["weights that are not there", "while it is looked through"])
def test_what_ends_a_run_before_it_goes_on_leaves_the_work(
    clip: Path, tmp_path: Path, moment: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    output = tmp_path / "out.mp4"
    interrupted(clip, output)
    if moment == "weights that are not there":
        with pytest.raises(CarfixError, match="nosuch"):
            restore(clip, output, model="nosuch")
    else:

        def stopped(folder: Path, segment: object) -> None:
            raise KeyboardInterrupt

        with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
            patch.setattr("carfix.restore.state.check_segment", stopped)
            restore(clip, output)
    assert restore(clip, output).resumed > 0


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
    with open_state(tmp_path / "out.mp4"), pytest.raises(CarfixError, match="another carfix is at work"):
        restore(clip, tmp_path / "out.mp4")


def test_a_lock_that_was_removed_while_it_was_taken_is_taken_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By a run that ends just then, and throws its folder away with the lock in it."""
    fcntl = pytest.importorskip("fcntl", reason="there are no locks on Windows")
    output = tmp_path / "out.mp4"
    moments = iter([lambda: shutil.rmtree(state_folder(output))] * 2)
    lock = fcntl.flock

    def late(descriptor: int, how: int) -> None:
        next(moments, lambda: None)()
        lock(descriptor, how)

    monkeypatch.setattr(fcntl, "flock", late)
    with open_state(output) as state, pytest.raises(AtWorkError), open_state(output):
        assert state.folder.exists()


def test_a_disk_that_numbers_its_files_anew_has_locks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os.path, "samestat", lambda *_: False)
    with open_state(tmp_path / "out.mp4"), pytest.raises(AtWorkError), open_state(tmp_path / "out.mp4"):
        pass


def test_a_journal_that_cannot_be_read_is_not_begun_anew(
    clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a disk or a network refuses at this moment, it may give at the next."""
    output = tmp_path / "out.mp4"
    interrupted(clip, output)
    before = names(state_folder(output))
    read = Path.read_text

    def refused(path: Path, *arguments: Any, **options: Any) -> str:  # noqa: ANN401 - as `read_text`
        if path.name == "journal.jsonl":
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return read(path, *arguments, **options)

    monkeypatch.setattr(Path, "read_text", refused)
    with pytest.raises(CarfixError, match=r"cannot read .*journal\.jsonl"):
        restore(clip, output)
    assert names(state_folder(output)) == before
    monkeypatch.undo()
    assert restore(clip, output).resumed > 0


def test_an_input_that_is_replaced_is_not_mixed_with_what_took_its_place(clip: Path, tmp_path: Path) -> None:
    """Video of the one with sound of the other, as recorders that use their names again would make it."""
    other = media.write_clip(tmp_path / "other.mp4", frames=40, sounds=[Sound()])
    output = tmp_path / "out.mp4"

    def replace(progress: Progress) -> None:
        if other.exists():
            other.replace(clip)

    with pytest.raises(CarfixError, match=r"in\.mp4 was replaced while it was restored"):
        restore(clip, output, progress=replace)
    assert not output.exists()
    assert restore(clip, output).frames == 40


@pytest.mark.parametrize("others", [True, False])
def test_an_input_that_is_deleted_leaves_no_work(clip: Path, tmp_path: Path, others: bool) -> None:
    """By a recorder in want of room, whose file does not come back; a disk that is away comes back with it."""
    (tmp_path / "in").mkdir()
    source = clip.rename(tmp_path / "in" / clip.name)
    if others:
        (tmp_path / "in" / "next.mp4").touch()
    output = tmp_path / "out.mp4"

    class Deleting(Adding):
        def restore(self, *arguments: Any, **options: Any) -> Any:  # noqa: ANN401
            if self.planes > 20:
                source.rename(tmp_path / "away")
                raise CarfixError("broke")
            return super().restore(*arguments, **options)

    with pytest.raises(CarfixError, match="broke"):
        restore(source, output, model=Deleting())
    assert state_folder(output).exists() != others
    if not others:
        (tmp_path / "away").rename(source)
        assert restore(source, output).resumed > 0


def test_a_state_that_cannot_be_written_is_named(clip: Path, tmp_path: Path) -> None:
    """One that another user has left: the folder around it can be written to, and is not what is wrong."""
    output = tmp_path / "out.mp4"
    (state_folder(output) / "lock").mkdir(parents=True)  # as good as root's; tests may be root
    with pytest.raises(CarfixError, match=r"cannot write to .*\.out\.mp4\.carfix: "):
        restore(clip, output)


def test_where_an_open_file_holds_its_folder_nothing_is_left(
    clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """NFS and FUSE give a file that is removed while it is open another name in its folder, until it is closed."""
    remove = shutil.rmtree

    def silly(folder: Path, *args: Any, **options: Any) -> None:  # noqa: ANN401 - as `rmtree`
        remove(folder, *args, **options)
        if Path(folder).name.endswith(".carfix"):
            Path(folder).mkdir()

    monkeypatch.setattr(shutil, "rmtree", silly)
    restore(clip, tmp_path / "out.mp4")
    assert names(tmp_path) == {"in.mp4", "out.mp4"}
    with open_state(tmp_path / "out.mp4"):
        pass  # as a run that was killed leaves it
    discard_state(tmp_path / "out.mp4")
    assert names(tmp_path) == {"in.mp4", "out.mp4"}


def test_nothing_is_open_in_the_state_that_windows_is_to_remove(
    clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    descriptors, remove = Path("/proc/self/fd"), shutil.rmtree
    if not descriptors.is_dir():
        pytest.skip("this system does not list open files")
    held: list[str] = []

    def removed(folder: Path, **options: object) -> None:
        held.extend(str(link.readlink()) for link in descriptors.iterdir() if link.is_symlink())
        remove(folder, **options)  # type: ignore[arg-type]

    monkeypatch.setattr("carfix.restore.state.WINDOWS", True)
    monkeypatch.setattr("carfix.restore.state.shutil.rmtree", removed)
    restore(clip, tmp_path / "out.mp4")
    assert held
    assert not [path for path in held if ".carfix" in path]


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


def test_what_an_earlier_run_has_left_is_room(
    clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a disk that is full of it the same command would be refused for ever."""
    output = tmp_path / "out.mp4"
    interrupted(clip, output)
    (state_folder(output) / "output.mp4").write_bytes(bytes(clip.stat().st_size))  # as `kill -9` leaves it
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=0))
    assert restore(clip, output).resumed > 0


def test_room_for_a_part_and_for_the_rest(
    clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = shutil.disk_usage(tmp_path)
    free = clip.stat().st_size // 3
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=free))
    assert restore(clip, tmp_path / "part.mp4", start=0.0, duration=0.1).warnings == ()
    output = tmp_path / "out.mp4"
    monkeypatch.undo()
    interrupted(clip, output)
    size = clip.stat().st_size
    kept = sum(path.stat().st_size for path in state_folder(output).glob("*.seg"))
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=2 * size - kept))
    assert not any("may be needed" in line for line in restore(clip, output).warnings)


def test_a_disk_that_will_get_full_is_told_early(
    clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Twice the input's size is free, but the output gets far larger than the input."""
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=2 * clip.stat().st_size))
    said: list[tuple[str, bool]] = []
    output = tmp_path / "out.mkv"
    report = restore(
        clip,
        output,
        encoder=LOSSLESS,
        say=lambda line: said.append((line, len(names(state_folder(output))) < 4)),
    )
    [(line, early)] = [pair for pair in said if "which will be about" in pair[0]]
    assert early and report.warnings == (line,)
    wanted = round(output.stat().st_size / 1e6)
    assert abs(int(line.split("about ")[1].split()[0]) - wanted) <= 1


@pytest.mark.parametrize("moment", [1, 3, 6, 11, 16])
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
    state = state_folder(tmp_path / "out.mp4")
    if state.exists():  # what no run goes on with would leave no room for other files
        assert {path.suffix for path in state.iterdir()} <= {".seg", ".jsonl", ""}
    monkeypatch.undo()
    restore(clip, tmp_path / "out.mp4")
    assert (tmp_path / "out.mp4").read_bytes() == whole.read_bytes()


def test_what_is_forced_to_the_disk_is_open_for_writing(
    clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "fsync", sync_as_windows)
    assert restore(clip, tmp_path / "out.mp4").frames == 30


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
