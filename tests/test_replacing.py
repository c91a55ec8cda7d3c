import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from carfix.replacing import replacing


def test_a_file_is_replaced_when_the_new_one_is_complete(tmp_path: Path) -> None:
    path = tmp_path / ("n" * 255)  # what file systems take
    for text in ("one", "two"):
        with replacing(path) as temporary:
            temporary.write_text(text)
            assert not path.exists() or path.read_text() == "one"
        assert path.read_text() == text
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("error", [OSError, KeyboardInterrupt])
def test_half_a_file_replaces_none(tmp_path: Path, error: type[BaseException]) -> None:
    path = tmp_path / "name"
    path.write_text("whole")
    with pytest.raises(error), replacing(path) as temporary:
        temporary.write_text("ha")
        raise error
    assert path.read_text() == "whole"
    assert list(tmp_path.iterdir()) == [path]


def test_threads_write_beside_each_other(tmp_path: Path) -> None:
    both = threading.Barrier(2)

    def write(name: str) -> None:
        with replacing(tmp_path / name) as temporary:
            temporary.write_text(name)
            both.wait(timeout=30)

    with ThreadPoolExecutor(2) as threads:
        list(threads.map(write, ("one", "two")))
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {"one": "one", "two": "two"}
