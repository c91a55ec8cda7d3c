"""Machine code that outlives the process: the same code, and never what somebody else may have written."""

import sys
from pathlib import Path

import numpy as np
import pytest
from backends import picture
from networks import awake_model

pytest.importorskip("llvmlite", reason="llvmlite has no wheels for this machine")

from carfix.net.config import FastConfig
from carfix.restore.engine.llvm import code_cache, linking
from carfix.restore.engine.llvm.code_cache import made_once
from carfix.restore.engine.winograd import program
from carfix.restore.engine.winograd.net import WinogradNet


class Maker:
    """Makes code, a different one each time."""

    def __init__(self) -> None:
        self.made = 0

    def __call__(self) -> bytes:
        self.made += 1
        return b"code %d" % self.made


def test_code_is_made_once_for_a_key(tmp_path: Path) -> None:
    make = Maker()
    folder = tmp_path / "not/there/yet"
    assert [made_once("a", make, folder) for _ in range(3)] == [b"code 1"] * 3
    assert made_once("b", make, folder) == b"code 2"
    assert sorted(path.suffix for path in folder.iterdir()) == [".o", ".o"]


def test_other_writers_write_other_code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make = Maker()
    made_once("a", make, tmp_path)
    monkeypatch.setattr(code_cache, "_writers_sha256", lambda: "changed")
    assert made_once("a", make, tmp_path) == b"code 2"


@pytest.mark.parametrize("harm", [b"", b"short", b"x" * 40])
def test_harmed_code_is_made_again(tmp_path: Path, harm: bytes) -> None:
    make = Maker()
    made_once("a", make, tmp_path)
    (file,) = tmp_path.iterdir()
    file.write_bytes(harm)
    assert [made_once("a", make, tmp_path) for _ in range(2)] == [b"code 2"] * 2


def test_code_under_the_name_of_other_code_is_not_run(tmp_path: Path) -> None:
    make = Maker()
    made_once("a", make, tmp_path)
    (first,) = tmp_path.iterdir()
    made_once("b", make, tmp_path)
    (second,) = set(tmp_path.iterdir()) - {first}
    second.write_bytes(first.read_bytes())
    assert made_once("b", make, tmp_path) == b"code 3"
    assert made_once("a", make, tmp_path) == b"code 1"


@pytest.mark.skipif(sys.platform == "win32", reason="Windows keeps other users out of the folder itself")
@pytest.mark.parametrize("mode", [0o620, 0o602])
def test_code_that_others_may_write_is_not_run(tmp_path: Path, mode: int) -> None:
    make = Maker()
    made_once("a", make, tmp_path)
    (file,) = tmp_path.iterdir()
    file.chmod(mode)
    assert made_once("a", make, tmp_path) == b"code 2"
    assert file.stat().st_mode & 0o077 == 0
    assert made_once("a", make, tmp_path) == b"code 2"


def test_a_folder_that_cannot_be_written_to_keeps_nothing(tmp_path: Path) -> None:
    make = Maker()
    (tmp_path / "file").write_text("no folder")
    assert [made_once("a", make, tmp_path / "file") for _ in range(2)] == [b"code 1", b"code 2"]


def test_a_network_from_the_cache_computes_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    model = awake_model(FastConfig(scale=2, features=12, blocks=1))
    codes = picture(20, 34, 16)[0]
    results = []
    for _ in range(2):
        program._compiled.cache_clear()  # what this process knows
        net = WinogradNet(model)
        results.append(net.restore(codes, 16, 1.0, (slice(None), slice(None)), net.memory(20, 34)))
        # From now on nothing can be made.
        monkeypatch.setattr(linking, "_object_of", None)
    assert len(list(tmp_path.rglob("code-*.o"))) == 1
    assert np.array_equal(results[0], results[1])
    assert not np.array_equal(results[0], codes)
