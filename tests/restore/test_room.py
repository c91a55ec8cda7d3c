"""Disks that are full, or will be."""

import errno
import os
import shutil
from pathlib import Path

import pytest
from engines import Adding
from faults import sync_as_windows
from jobs import LOSSLESS, interrupted, names, restore

from carfix.errors import CarfixError
from carfix.restore.state import state_folder


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


def test_a_full_folder_for_temporary_files_is_no_fault_of_the_container(
    clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("carfix.video.rehearsal._write", full)
    with pytest.raises(CarfixError, match=r"the folder for temporary files is full: .*TMPDIR"):
        restore(clip, tmp_path / "out.mp4")


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
    with pytest.raises(CarfixError, match="is full"):
        restore(clip, tmp_path / "out.mp4")
    assert not (tmp_path / "out.mp4").exists()
    state = state_folder(tmp_path / "out.mp4")
    if state.exists():  # what no run goes on with would leave no room for other files
        assert {path.suffix for path in state.iterdir()} <= {".seg", ".jsonl", ""}
    monkeypatch.undo()
    restore(clip, tmp_path / "out.mp4")
    assert (tmp_path / "out.mp4").read_bytes() == whole.read_bytes()


@pytest.mark.parametrize("code", [errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP])
def test_a_disk_that_cannot_be_forced_is_written_to(
    clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    def never(_: int) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(os, "fsync", never)
    assert restore(clip, tmp_path / "out.mp4").frames == 30


def test_what_is_forced_to_the_disk_is_open_for_writing(
    clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "fsync", sync_as_windows)
    assert restore(clip, tmp_path / "out.mp4").frames == 30
