"""Files on Windows, as far as Linux can play it: what is open there can be neither renamed nor removed."""

import sys
from pathlib import Path

import faults
import pytest
from windows import refuse_as_windows

from carfix.restore.job import restore_video
from carfix.restore.state import discard_state, state_folder

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
