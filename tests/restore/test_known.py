"""Finished archives are not read again every night."""

import os
import time
from collections.abc import Mapping
from pathlib import Path

import media
import pytest
from jobs import restore

from carfix.restore import existing
from carfix.restore.engine.tune_cache import cache_folder
from carfix.restore.existing import what_is_there
from carfix.restore.known import FILE_NAME, SETTLED
from carfix.restore.tasks import Task


def aged(path: Path, seconds: float = 2 * SETTLED) -> None:
    then = time.time() - seconds
    os.utime(path, (then, then))


@pytest.fixture
def finished(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Task:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "caches"))
    source = media.write_clip(tmp_path / os.fsdecode(b"in\xff.mp4"), frames=4)
    restore(source, tmp_path / "out.mp4")
    aged(source)
    aged(tmp_path / "out.mp4")
    return Task(source, tmp_path / "out.mp4")


@pytest.fixture
def compared(monkeypatch: pytest.MonkeyPatch) -> list[Task]:
    """The tasks whose files were read."""
    found: list[Task] = []
    compare = existing.why_unfinished

    def counted(task: Task, options: Mapping[str, object]) -> str | None:
        found.append(task)
        return compare(task, options)

    monkeypatch.setattr(existing, "why_unfinished", counted)
    return found


def look(task: Task, **options: object) -> str:
    there = what_is_there(task, options)
    assert there is not None
    return there.status


def test_what_was_compared_is_not_read_again(finished: Task, compared: list[Task]) -> None:
    assert [look(finished) for _ in range(3)] == ["skipped"] * 3
    assert len(compared) == 1


@pytest.mark.parametrize("which", ["source", "output"])
def test_a_file_that_was_touched_is_compared_again(which: str, finished: Task, compared: list[Task]) -> None:
    look(finished)
    aged(getattr(finished, which), 5 * SETTLED)
    assert look(finished) == "skipped"
    assert len(compared) == 2


def test_an_output_that_was_cut_is_noticed(finished: Task, compared: list[Task]) -> None:
    look(finished)
    times = finished.output.stat().st_mtime
    finished.output.write_bytes(finished.output.read_bytes()[:-100])
    os.utime(finished.output, (times, times))
    assert look(finished) == "failed"
    assert look(finished) == "failed"


def test_files_of_this_moment_are_not_remembered(finished: Task, compared: list[Task]) -> None:
    finished.source.touch()
    assert [look(finished), look(finished)] == ["skipped", "skipped"]
    assert len(compared) == 2


def test_files_of_a_clock_that_was_ahead_are_remembered(finished: Task, compared: list[Task]) -> None:
    """Recorders' clocks are; else such files would be read again every night."""
    aged(finished.source, -1e6)
    aged(finished.output, -1e6)
    assert [look(finished), look(finished)] == ["skipped", "skipped"]
    assert len(compared) == 1


def test_a_part_is_never_the_whole(finished: Task, compared: list[Task]) -> None:
    assert look(finished) == "skipped"
    assert look(finished, start=0.04) == "failed"


def test_another_video_of_the_file_is_compared(finished: Task, compared: list[Task]) -> None:
    look(finished)
    look(finished, stream="v:0")
    assert len(compared) == 2


@pytest.mark.parametrize("damage", [b"", b"no list" * 1000])
def test_a_damaged_list_is_made_anew(damage: bytes, finished: Task, compared: list[Task]) -> None:
    folder = cache_folder()
    assert folder is not None
    look(finished)
    (folder / FILE_NAME).write_bytes(damage)
    assert [look(finished) for _ in range(3)] == ["skipped"] * 3
    assert len(compared) in (2, 3)


def test_without_a_place_for_the_list_files_are_compared(
    finished: Task, compared: list[Task], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    assert [look(finished), look(finished)] == ["skipped", "skipped"]
    assert len(compared) == 2
