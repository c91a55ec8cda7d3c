"""Files on Windows, as far as Linux can play it: what is open there can be neither renamed nor removed."""

import sys
from pathlib import Path

import faults
import pytest
from windows import refuse_as_windows

from carfix.restore.job import restore_video

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="asks Linux which files are open")


def test_a_restore_and_another_over_it(clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
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
        assert output.is_file()
