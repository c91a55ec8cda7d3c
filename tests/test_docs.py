"""Python in the documentation runs as it stands."""

import re
import shutil
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
DATA = ROOT / "tests" / "data"
#: The README and docs/python.md promise that these run.
_BLOCK = re.compile(r"^```python\n(.*?)^```", re.DOTALL | re.MULTILINE)
_SNIPPETS = [
    pytest.param(block, id=f"{page.name}-{number}")
    for page in (ROOT / "README.md", ROOT / "docs" / "python.md")
    for number, block in enumerate(_BLOCK.findall(page.read_text(encoding="utf-8")), 1)
]


def test_there_are_snippets() -> None:
    assert len(_SNIPPETS) >= 6


@pytest.mark.parametrize("code", _SNIPPETS)
def test_snippet_runs(code: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import numpy as np

    shutil.copy(DATA / "highway.mp4", tmp_path / "in.mp4")
    shutil.copy(DATA / "highway_pristine.mp4", tmp_path / "pristine.mp4")
    monkeypatch.chdir(tmp_path)
    exec(compile(code, "snippet", "exec"), {"luma": np.zeros((64, 64), np.uint8)})
