"""Files on Windows, as far as Linux can play it: what is open there can be neither renamed nor removed."""

import errno
import runpy
import sys
from pathlib import Path
from types import SimpleNamespace

import faults
import pytest
from windows import refuse_as_windows

from carfix import lock
from carfix.errors import CarfixError
from carfix.restore import state
from carfix.restore.one_file import restore_video
from carfix.restore.state import discard_state, open_state, state_folder

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="asks Linux which files are open")


def test_a_restore_is_whole_and_leaves_nothing_behind(
    clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    refuse_as_windows(monkeypatch)
    output = tmp_path / "out.mp4"
    for _ in range(2):
        restore_video(
            source=clip,
            output=output,
            model=faults.Slow(),
            encoder=faults.ENCODER,
            segment_seconds=faults.SEGMENT,
            overwrite=True,
        )
        assert sorted(tmp_path.iterdir()) == [clip, output]


def test_what_a_killed_run_left_is_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    refuse_as_windows(monkeypatch)
    folder = state_folder(tmp_path / "out.mp4")
    folder.mkdir()
    (folder / "000000.seg").write_bytes(b"")
    discard_state(tmp_path / "out.mp4")
    assert not folder.exists()


def test_two_runs_for_one_output_are_kept_apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import fcntl

    def locking(descriptor: int, mode: int, count: int) -> None:
        assert (mode, count) == (2, 1)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise PermissionError(errno.EACCES, "Permission denied") from None

    monkeypatch.setitem(sys.modules, "msvcrt", SimpleNamespace(locking=locking, LK_NBLCK=2))  # type: ignore[misc]
    monkeypatch.setattr(sys, "platform", "win32")
    monkeypatch.setattr(state, "lock_file", runpy.run_path(lock.__file__)["lock_file"])
    monkeypatch.setattr(state, "WINDOWS", True)
    output = tmp_path / "out.mp4"
    with open_state(output) as first:
        with pytest.raises(CarfixError, match="another carfix is at work"), open_state(output):
            pass
        discard_state(output)
        assert state_folder(output).is_dir()
        first.discard()
    assert not state_folder(output).exists()
    with open_state(output):
        pass
