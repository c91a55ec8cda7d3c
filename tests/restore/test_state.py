"""Work that was interrupted: what stays of it, who may go on with it, and what does not count."""

import dataclasses
import errno
import json
import os
import re
import shutil
from pathlib import Path
from typing import Any

import av
import media
import pytest
from engines import Adding, Failing
from jobs import QUICK, interrupted, names, restore
from media import Sound

from carfix.errors import CarfixError
from carfix.restore.report import Progress
from carfix.restore.state import AtWorkError, discard_state, open_state, state_folder


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


def test_another_wheel_of_pyav_starts_anew(
    clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It may bring another x264 beside the same FFmpeg: one file is of one encoder."""
    interrupted(clip, tmp_path / "out.mp4")
    monkeypatch.setattr(av, "__version__", "18.1.0.post1")
    report = restore(clip, tmp_path / "out.mp4", encoder=QUICK)
    assert report.resumed == 0
    assert any("codec libraries" in line for line in report.warnings)


def test_another_source_starts_anew(clip: Path, tmp_path: Path) -> None:
    interrupted(clip, tmp_path / "out.mp4")
    media.write_clip(clip, frames=30, pictures=lambda i: media.picture(i + 100))
    report = restore(clip, tmp_path / "out.mp4", encoder=QUICK)
    assert report.resumed == 0
    assert any("source" in line for line in report.warnings)


@pytest.mark.parametrize(
    "harm", ["truncated", "emptied", "flipped", "removed", "torn journal", "number", "garbage journal"]
)
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
    elif harm == "flipped":  # in the middle, which is not decoded
        data = bytearray(segment.read_bytes())
        data[len(data) // 2] ^= 0xFF
        segment.write_bytes(data)
    elif harm == "removed":
        segment.unlink()
    elif harm == "torn journal":
        journal.write_bytes(journal.read_bytes()[:-20])
    elif harm == "number":
        journal.write_text(journal.read_text().replace('"shift": ', '"shift": 1', 1))
    else:
        journal.write_bytes(b"\xff\x00garbage")
    engine = Failing(1000, CarfixError(""))
    report = restore(clip, output, model=engine)
    assert engine.planes == 30 - report.resumed
    assert report.resumed < 13
    assert output.read_bytes() == whole.read_bytes()


@pytest.mark.parametrize(
    ("field", "number"), [("shift", "7"), ("first", "1" + "0" * 30), ("frames", "7"), ("frames", "\xff")]
)
def test_a_damaged_line_of_the_journal_costs_its_segment_alone(
    field: str, number: str, clip: Path, tmp_path: Path
) -> None:
    output = tmp_path / "out.mp4"
    with pytest.raises(KeyboardInterrupt):
        restore(clip, output, model=Failing(28, KeyboardInterrupt()))
    journal = state_folder(output) / "journal.jsonl"
    lines = journal.read_text().splitlines(keepends=True)
    frames = [json.loads(line)["frames"] for line in lines[1:]]
    assert len(frames) > 1
    lines[1] = re.sub(f'"{field}": ', f'"{field}": {number}', lines[1])
    journal.write_bytes("".join(lines).encode("latin-1"))
    assert restore(clip, output).resumed == sum(frames[1:])


def test_a_journal_without_checksums_is_gone_on_with(clip: Path, tmp_path: Path) -> None:
    """As carfix wrote it earlier."""
    output = tmp_path / "out.mp4"
    interrupted(clip, output)
    journal = state_folder(output) / "journal.jsonl"
    header, *segments = map(json.loads, journal.read_text().splitlines())
    for segment in segments:
        for field in ("crc32", "crc32 of line", "unflagged"):
            del segment[field]
    journal.write_text("".join(json.dumps(line) + "\n" for line in [header, *segments]))
    assert restore(clip, output).resumed == sum(segment["frames"] for segment in segments) > 0


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


@pytest.mark.parametrize("how", ["replaced", "rewritten", "cut"])
def test_an_input_that_is_replaced_is_not_mixed_with_what_took_its_place(tmp_path: Path, how: str) -> None:
    """Video of the one with sound of the other, as recorders that use their names or files again would make it."""
    clip = media.write_clip(tmp_path / "in.ts", frames=400, sounds=[Sound(seconds=16.0)])
    other = media.write_clip(tmp_path / "other.ts", frames=440, sounds=[Sound()])
    output = tmp_path / "out.mp4"

    def replace(progress: Progress) -> None:
        if other.exists():
            if how == "replaced":
                other.replace(clip)
            elif how == "rewritten":
                clip.write_bytes(other.read_bytes())
            else:
                os.truncate(clip, clip.stat().st_size // 2)
            other.unlink(missing_ok=True)

    with pytest.raises(CarfixError, match=r"in\.ts was replaced or cut while it was restored"):
        restore(clip, output, progress=replace)
    assert not output.exists()
    assert (restore(clip, output).frames == 440) == (how != "cut")


def test_an_output_that_somebody_else_makes_costs_no_work(clip: Path, tmp_path: Path) -> None:
    output = tmp_path / "out.mp4"
    with pytest.raises(CarfixError, match=r"out\.mp4 was created meanwhile; -y overwrites it"):
        restore(clip, output, progress=lambda _: output.write_text("mine"))  # type: ignore[func-returns-value]
    assert output.read_text() == "mine"
    done = restore(clip, output, overwrite=True)
    assert done.resumed == done.frames
    assert not state_folder(output).exists()


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
