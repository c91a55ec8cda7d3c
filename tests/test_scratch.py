"""Folders for files of a moment, where there is no place for them."""

import errno
import os
import tempfile
from pathlib import Path

import pytest

from carfix.errors import CarfixError, UsageError
from carfix.scratch import scratch


def full() -> OSError:
    return OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_it_is_there_for_the_block_alone() -> None:
    with scratch() as folder:
        (folder / "file").write_text("here")
        assert folder.parent == Path(tempfile.gettempdir())
    assert not folder.exists()


def test_no_place_for_it_names_the_cure(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "nowhere"))
    with pytest.raises(CarfixError, match="TMPDIR"), scratch():
        pass


def test_a_full_one_is_told_and_not_what_came_of_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    with pytest.raises(CarfixError, match="make room in"), scratch():
        try:
            raise full()
        except OSError as error:
            raise UsageError("mp4 cannot hold libx264 video") from error
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(UsageError, match="cannot hold"), scratch():
        raise UsageError("mp4 cannot hold libx264 video")
