"""Disks and networks that do not give an input for a moment: nothing of it is missing in the output."""

import errno
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import av.error
import media
import pytest
from jobs import restore
from media import Sound

from carfix.errors import CarfixError
from carfix.video import demux as packets
from carfix.video.source import probe
from carfix.video.timeline import scan

FRAMES = 30


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    return media.write_clip(tmp_path / "in.mkv", frames=FRAMES, sounds=[Sound(seconds=1.2)])


def failing(monkeypatch: pytest.MonkeyPatch, where: str, *, times: int = 1) -> Callable[[], int]:
    """Let reading in a module fail amid the file, `times`; returns how often it has."""
    failed = 0

    def demux(*streams: Any) -> Iterator[Any]:  # noqa: ANN401
        nonlocal failed
        for number, packet in enumerate(packets.demux(*streams)):
            if number == FRAMES // 2 and failed < times:
                failed += 1
                av.error.err_check(-errno.EIO)
            yield packet

    monkeypatch.setattr(f"carfix.video.{where}.demux", demux)
    return lambda: failed


def test_what_fails_as_a_file_is_examined_is_read_again(clip: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    failed = failing(monkeypatch, "timeline")
    timeline = scan(probe(clip))
    assert failed() == 1
    assert (len(timeline.pts), timeline.truncated) == (FRAMES, None)


def test_what_a_disk_does_not_give_at_all_is_an_error(clip: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    failing(monkeypatch, "timeline")

    def checksum(_: Path) -> int:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr("carfix.video.timeline.checksum", checksum)
    with pytest.raises(CarfixError, match=r"cannot read .*in\.mkv: Input/output error"):
        scan(probe(clip))


def test_what_always_ends_there_is_cut_short(clip: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """FFmpeg says so, too, of files that end within a packet."""
    failed = failing(monkeypatch, "timeline", times=2)
    timeline = scan(probe(clip))
    assert failed() == 2
    assert len(timeline.pts) == FRAMES // 2 and timeline.truncated is not None


@pytest.mark.parametrize("where", ["decode", "copying"])
def test_what_fails_on_the_way_fails_the_file_and_the_next_run_makes_it_whole(
    clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    whole, output = tmp_path / "whole.mp4", tmp_path / "out.mp4"
    restore(clip, whole)
    failed = failing(monkeypatch, where)
    with pytest.raises(CarfixError, match=r"in\.mkv"):
        restore(clip, output)
    assert failed() == 1 and not output.exists()
    report = restore(clip, output)
    assert report.frames == FRAMES and not report.damaged
    assert output.read_bytes() == whole.read_bytes()


def test_an_input_that_goes_away_is_named(
    clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def gone(*_: object, **__: object) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO), str(clip))

    monkeypatch.setattr("carfix.restore.job.check_room", gone)
    with pytest.raises(CarfixError, match=r"cannot read .*in\.mkv: Input/output error"):
        restore(clip, tmp_path / "out.mkv")
