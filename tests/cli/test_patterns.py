from pathlib import Path

import pytest

from carfix.cli.patterns import expanded


@pytest.fixture(autouse=True)
def names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("b.mp4", "a.mp4", "cam1.mp4", "cam[1].mp4"):
        (tmp_path / name).touch()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", "HOME")
    monkeypatch.setenv("USERPROFILE", "HOME")


@pytest.mark.parametrize(
    ("given", "meant"),
    [
        ("inspect ?.mp4", "inspect a.mp4 b.mp4"),
        ("inspect *.avi -m fast", "inspect *.avi -m fast"),
        ("inspect ~/x.mp4", "inspect HOME/x.mp4"),
        ("restore cam[1].mp4 out.mp4", "restore cam[1].mp4 out.mp4"),
        (
            "restore -r in --include *.mp4 out --exclude=?.mp4 --exclude a*",
            "restore -r in --include *.mp4 out --exclude=?.mp4 --exclude a*",
        ),
    ],
)
def test_patterns_become_names_where_names_are_wanted(given: str, meant: str) -> None:
    assert expanded(given.split()) == meant.split()
