"""A source is never overwritten, removed or taken for one when carfix itself made it."""

import dataclasses
from pathlib import Path

import pytest
from scenes import save_png, scene, write_scene

from carfix.errors import CarfixError, UsageError
from carfix.training.dataset import build_dataset
from carfix.training.encoding import Encoding
from carfix.training.recipe import BuildReport, Recipe
from carfix.video.manifest import read_manifest

ONE = Recipe(encodings=[Encoding(crf=45)])
PACK = Recipe(encodings=[], pack=12)


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def pictures(folder: Path) -> Path:
    for index, frame in enumerate(scene(4)):
        save_png(folder / f"{index}.png", frame)
    return folder


@pytest.mark.parametrize(
    ("recipe", "source", "output"),
    [
        (ONE, "clips", "."),  # its clip foo would be written to ./clips/foo
        (ONE, "clips/foo", "."),
        (ONE, "link", "."),
        (ONE, "clips/foo", "clips/foo"),
        (ONE, "clips/foo", "clips/foo/data"),
        (ONE, ".", "."),
        (PACK, "clips/foo", "clips/foo"),
        (PACK, "clips/foo", "clips/foo/data"),
        (PACK, ".", "."),
    ],
)
def test_an_output_where_a_source_lies_is_refused_and_nothing_is_touched(
    recipe: Recipe, source: str, output: str, tmp_path: Path
) -> None:
    pictures(tmp_path / "clips" / "foo")
    (tmp_path / "link").symlink_to("clips/foo", target_is_directory=True)
    (tmp_path / "clips" / "foo" / "notes.txt").write_text("mine")
    before = contents(tmp_path)
    with pytest.raises(UsageError, match="lies"):
        build_dataset(sources=[tmp_path / source], output=tmp_path / output, recipe=recipe)
    assert contents(tmp_path) == before
    assert not (tmp_path / "clips" / "foo" / "data").exists()


def test_a_link_to_a_source_in_the_dataset_is_seen_through(tmp_path: Path) -> None:
    source = pictures(tmp_path / "foo")
    (tmp_path / "data" / "clips").mkdir(parents=True)
    (tmp_path / "data" / "clips" / "foo").symlink_to(source, target_is_directory=True)
    before = contents(source)
    with pytest.raises(UsageError, match="lies"):
        build_dataset(sources=[source], output=tmp_path / "data", recipe=ONE)
    assert contents(source) == before


def test_files_that_carfix_did_not_make_stay_when_a_clip_is_built_anew(tmp_path: Path) -> None:
    source = write_scene(tmp_path / "street.mkv")
    build_dataset(sources=[source], output=tmp_path / "data", recipe=ONE)
    folder = tmp_path / "data" / "clips" / "street"
    (folder / "notes.txt").write_text("mine")
    later = Recipe(encodings=[Encoding(crf=50)], start=2)
    assert build_dataset(sources=[source], output=tmp_path / "data", recipe=later).built == ["street"]
    assert sorted(path.name for path in folder.iterdir()) == ["crf50.mp4", "notes.txt", "pristine.mkv"]


@pytest.mark.parametrize("name", ["a.mkv", "b.mkv"], ids=["it is the source", "it is another source"])
def test_packing_over_a_source_is_refused_before_anything_is_written(name: str, tmp_path: Path) -> None:
    paths = [
        write_scene(tmp_path / "there" / "a.mkv", seed=1),
        write_scene(tmp_path / name if name == "b.mkv" else tmp_path / "here" / "c.mkv", seed=2),
    ]
    if name == "b.mkv":  # whose pack would be there/b.mkv, the same file under another name
        (tmp_path / "there" / "b.mkv").hardlink_to(paths[0])
        paths = [tmp_path / "there" / "a.mkv", tmp_path / "b.mkv"]
    before = contents(tmp_path)
    with pytest.raises(UsageError, match="lies"):
        build_dataset(sources=paths, output=tmp_path / "there", recipe=PACK)
    assert contents(tmp_path) == before


def test_packing_leaves_files_of_others_alone_and_no_half_ones(tmp_path: Path) -> None:
    sources = [write_scene(tmp_path / "raw" / f"{name}.mkv", seed=ord(name)) for name in "ab"]
    write_scene(tmp_path / "corpus" / "a.mkv", seed=9)
    mine = contents(tmp_path / "corpus")
    report = build_dataset(sources=sources, output=tmp_path / "corpus", recipe=PACK)
    assert report.built == ["b"]
    assert "not of this corpus" in report.failed[str(sources[0])]
    assert contents(tmp_path / "corpus").items() >= mine.items()
    smaller = dataclasses.replace(PACK, frames=99, size=(32, 16))
    assert build_dataset(sources=sources[1:], output=tmp_path / "corpus", recipe=smaller).built == ["b"]
    sources[1].write_bytes(b"broken")
    packed = contents(tmp_path / "corpus")
    assert build_dataset(sources=sources[1:], output=tmp_path / "corpus", recipe=PACK).failed
    assert contents(tmp_path / "corpus") == packed, "what was packed stays, and nothing is left beside it"


def test_what_carfix_built_is_no_source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_scene(tmp_path / "street.mkv", seed=1)
    write_scene(tmp_path / "photos" / "manifest" / "yard.mkv", seed=2)
    (tmp_path / "photos" / "manifest" / "manifest.json").write_text('{"format": "another program\'s"}')
    monkeypatch.chdir(tmp_path)

    def build(output: str) -> BuildReport:
        return build_dataset(sources=[Path()], output=Path(output), recipe=ONE)

    assert sorted(build("data").built) == ["street", "yard"]
    report = build("data")
    assert (report.built, sorted(report.kept), report.failed) == ([], ["street", "yard"], {})
    assert sorted(build("other").built) == ["street", "yard"], "nor is another dataset beside the clips"
    assert set(read_manifest(Path("data")).clips) == {"street", "yard"}
    for built in ("data", "data/clips", "data/clips/street", "data/clips/street/crf45.mp4"):
        with pytest.raises(UsageError, match=f"{built} is what carfix built"):
            build_dataset(sources=[Path(built)], output=Path("third"), recipe=ONE)
    assert not Path("third").exists()
    pristine = Path("data/clips/street/pristine.mkv")
    assert build_dataset(sources=[pristine], output=Path("third"), recipe=ONE).built == ["pristine"]


@pytest.mark.parametrize("turned", ["source", "output"])
def test_links_that_lead_in_a_circle_are_told(tmp_path: Path, turned: str) -> None:
    source = write_scene(tmp_path / "clip.mkv", 2)
    try:
        (tmp_path / "loop").symlink_to("loop")
    except OSError:
        pytest.skip("links may not be made here")
    places = {"source": source, "output": tmp_path / "data", turned: tmp_path / "loop"}
    with pytest.raises(CarfixError, match="loop"):
        build_dataset(sources=[places["source"]], output=places["output"], recipe=ONE)
