import io
import os
import subprocess
import sys
from pathlib import Path

import pytest
from quality.clips import moving_picture, write_clip

from carfix.cli.standard_streams import spell_unknown_letters


@pytest.mark.parametrize("encoding", ["cp1252", "ascii"])
def test_a_name_that_the_code_page_of_stdout_lacks(encoding: str, tmp_path: Path) -> None:
    write_clip(tmp_path / "\u65e5.mp4", moving_picture(4), options={"crf": "33", "threads": "1"})
    done = subprocess.run(
        [sys.executable, "-m", "carfix", "compare", "\u65e5.mp4", "\u65e5.mp4", "--metric", "psnr", "--csv"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONIOENCODING": encoding},
        capture_output=True,
        check=True,
        timeout=60,
    )
    assert b"\n\\u65e5.mp4,0,0.0" in done.stdout


def test_handlers_that_were_asked_for_stay(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = io.TextIOWrapper(io.BytesIO(), encoding="cp1252", errors="replace")
    monkeypatch.setattr(sys, "stdout", asked)
    spell_unknown_letters()
    assert asked.errors == "replace"
