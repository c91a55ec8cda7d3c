"""Names beside an output, on disks of all kinds."""

import os
from pathlib import Path

import pytest

from carfix.restore.place import fitting, part_of
from carfix.restore.state import state_folder


@pytest.mark.skipif(os.name == "nt", reason="Windows does not tell how long names may be")
@pytest.mark.parametrize(("told", "longest"), [(143, 143), (255, 255), (1530, 255), (-1, 255)])
def test_names_beside_an_output_are_no_longer_than_its_disk_takes(
    told: int, longest: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "pathconf", lambda *_: told)
    output = tmp_path / ("n" * (longest - 4) + ".mp4")
    for beside in (state_folder(output), part_of(output)):
        assert len(beside.name) <= longest
        assert beside.parent == tmp_path
    assert fitting("n" * longest, output).name == "n" * longest


def test_a_folder_that_is_not_there_yet_takes_usual_names(tmp_path: Path) -> None:
    output = tmp_path / "later" / "out.mp4"
    assert state_folder(output) == tmp_path / "later" / ".out.mp4.carfix"
