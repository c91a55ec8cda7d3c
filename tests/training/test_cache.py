"""Decoded frames are kept between trainings, and never taken for those of another dataset."""

import errno
import os
import sys
from pathlib import Path

import numpy as np
import pytest
from scenes import write_scene
from windows import refuse_as_windows

from carfix.errors import CarfixError
from carfix.training import cache
from carfix.training.dataset import build_dataset
from carfix.training.encoding import Encoding
from carfix.training.patches import FramePairs, load_pairs
from carfix.training.recipe import Recipe
from carfix.training.sources import read_video
from carfix.video.manifest import read_manifest


@pytest.fixture
def data(tmp_path: Path) -> Path:
    write_scene(tmp_path / "street.mkv", frames=8)
    return rebuilt(tmp_path / "data")


def rebuilt(data: Path, **changes: object) -> Path:
    recipe = Recipe(encodings=[Encoding(crf=45)], split="train", frames=4, **changes)  # type: ignore[arg-type]
    assert build_dataset(sources=[data.parent / "street.mkv"], output=data, recipe=recipe).built
    return data


def pair(data: Path, frames: int = 3) -> FramePairs:
    (found,) = load_pairs(data, "train", frames=frames)
    return found


def files(data: Path) -> list[Path]:
    return sorted((data / cache.FOLDER).rglob("*.npy"))


@pytest.mark.parametrize("changes", [{"start": 3}, {"size": (48, 32)}], ids=str)
def test_a_dataset_that_was_built_anew_is_read_anew(data: Path, changes: dict[str, object]) -> None:
    pair(data, frames=4)
    rebuilt(data, **changes)
    clip = read_manifest(data).clips["street"]
    read = pair(data, frames=4)
    truth, _ = read_video(data / clip.pristine, size=None, start=0, frames=9)
    assert np.array_equal(read.pristine, truth)
    assert read.decoded.shape == truth.shape


def test_what_is_kept_is_not_decoded_again(data: Path) -> None:
    before = pair(data)
    for file in (data / "clips").rglob("*.m*"):
        file.unlink()
    again = pair(data)
    assert np.array_equal(before.pristine, again.pristine)
    assert np.array_equal(before.decoded, again.decoded)


@pytest.mark.parametrize(
    "damage",
    [
        lambda whole: b"",
        lambda whole: whole[:-1],
        lambda whole: whole[:40],
        lambda whole: whole.replace(b"}", b"{", 1),
        lambda whole: b"PK\3\4" + whole[4:],
    ],
)
def test_damaged_files_are_made_again(data: Path, damage: object) -> None:
    expected = pair(data)
    pristine, decoded = np.array(expected.pristine), np.array(expected.decoded)
    del expected
    assert len(files(data)) == 2
    for file in files(data):
        file.write_bytes(damage(file.read_bytes()))  # type: ignore[operator]
    found = pair(data)
    assert np.array_equal(found.pristine, pristine)
    assert np.array_equal(found.decoded, decoded)
    other = files(data)[0]
    np.save(other, np.zeros((1, 2, 3), np.uint8))
    assert np.array_equal(pair(data).decoded, decoded)


@pytest.mark.parametrize(
    ("number", "words"),
    [
        (errno.ENOSPC, r"cache .*: the disk is full; it needs room"),
        (errno.EROFS, r"cache .*: .*; link the dataset's manifest.json and clips"),
    ],
)
def test_a_disk_that_takes_no_files_is_one_clear_error_and_leaves_no_part(
    data: Path, monkeypatch: pytest.MonkeyPatch, number: int, words: str
) -> None:
    def refused(self: Path, target: Path) -> Path:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(Path, "replace", refused)
    with pytest.raises(CarfixError, match=words):
        pair(data)
    monkeypatch.undo()
    assert [path for path in (data / cache.FOLDER).rglob("*") if path.is_file()] == []


def test_a_dataset_that_may_only_be_read_is_trained_on_through_links(data: Path, tmp_path: Path) -> None:
    mine = tmp_path / "mine"
    mine.mkdir()
    try:
        for name in ("manifest.json", "clips"):
            (mine / name).symlink_to(data / name)
    except OSError:
        pytest.skip("links may not be made here")
    assert np.array_equal(pair(mine).decoded, pair(data).decoded)
    assert files(mine)


@pytest.mark.skipif(sys.platform != "linux", reason="asks Linux which files are open")
def test_windows_replaces_no_file_that_another_thread_has_mapped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    refuse_as_windows(monkeypatch)
    frames = np.full((2, 8, 8), 7, np.uint8)
    ahead = []

    def make() -> cache.Luma:
        ahead.append(cache.kept(tmp_path / "pristine.npy", frames.shape, lambda: frames))
        return frames

    assert np.array_equal(cache.kept(tmp_path / "pristine.npy", frames.shape, make), frames)
    assert [path.name for path in tmp_path.iterdir()] == ["pristine.npy"]
