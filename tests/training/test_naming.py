"""Clips keep their names from run to run, and none takes another's."""

import json
from pathlib import Path

from scenes import write_scene

from carfix.training.dataset import build_dataset
from carfix.training.encoding import Encoding
from carfix.training.naming import clip_names
from carfix.training.recipe import BuildReport, Recipe
from carfix.video.manifest import Clip, read_manifest

ONE = Recipe(encodings=[Encoding(crf=45)])


def build(folder: Path, *names: str, recipe: Recipe = ONE) -> BuildReport:
    return build_dataset(sources=[folder / name for name in names], output=folder / "data", recipe=recipe)


def clips(folder: Path) -> dict[str, Clip]:
    return dict(read_manifest(folder / "data").clips)


def test_no_clip_is_in_two_splits_and_names_are_unique() -> None:
    paths = [Path(name) for name in ("a/x.mp4", "b/x.mp4", "b/x.mkv", "c/y z.mp4")]
    names = clip_names(paths)
    assert len(names) == 4
    assert all(" " not in name and "/" not in name for name in names)


def test_letters_of_every_script_make_names(tmp_path: Path) -> None:
    names = ["улица", "広場", "cafe\u0301", "cafe!"]
    paths = [tmp_path / f"{name}.mp4" for name in names]
    for path in paths:
        path.touch()
    assert list(clip_names(paths)) == ["улица", "広場", "caf\u00e9", "cafe"]


def test_clips_of_one_name_from_several_folders_stand_beside_each_other(tmp_path: Path) -> None:
    for seed, folder in enumerate("abc"):
        write_scene(tmp_path / folder / "street.mkv", seed=seed)
    assert build(tmp_path, "a").built == ["street"]
    first = clips(tmp_path)["street"]
    (second,) = build(tmp_path, "b").built
    assert clips(tmp_path)["street"] == first
    assert set(clips(tmp_path)) == {"street", second}
    build(tmp_path, "c")
    before = clips(tmp_path)
    assert len({clip.source_sha256 for clip in before.values()}) == len(before) == 3
    for order in (["a", "b", "c"], ["c", "b", "a"], ["b"]):
        report = build(tmp_path, *order)
        assert (report.built, len(report.kept), report.failed) == ([], len(order), {})
    assert clips(tmp_path) == before


def test_a_source_that_changed_where_it_lies_is_built_anew(tmp_path: Path) -> None:
    write_scene(tmp_path / "a" / "street.mkv", seed=1)
    build(tmp_path, "a")
    write_scene(tmp_path / "a" / "street.mkv", seed=2)
    assert build(tmp_path, "a").built == ["street"]
    assert len(clips(tmp_path)) == 1


def test_a_dataset_of_an_earlier_carfix_is_kept(tmp_path: Path) -> None:
    """It made other names of other letters, and did not keep where sources lie."""
    write_scene(tmp_path / "café.mkv")
    build(tmp_path, "café.mkv")
    path = tmp_path / "data" / "manifest.json"
    fields = json.loads(path.read_text())
    clip = fields["clips"].pop("café")
    del clip["settings"]["path"]
    fields["clips"]["caf"] = json.loads(json.dumps(clip).replace("caf\\u00e9/", "caf/"))
    path.write_text(json.dumps(fields))
    (tmp_path / "data" / "clips" / "café").rename(tmp_path / "data" / "clips" / "caf")
    report = build(tmp_path, "café.mkv")
    assert (report.built, report.kept) == ([], ["caf"])
    assert set(clips(tmp_path)) == {"caf"}


def test_packed_clips_of_one_name_stand_beside_each_other(tmp_path: Path) -> None:
    pack = Recipe(encodings=[], pack=12)
    for seed, folder in enumerate("ab"):
        write_scene(tmp_path / folder / "street.mkv", seed=seed)
        assert len(build(tmp_path, folder, recipe=pack).built) == 1
    assert len(list((tmp_path / "data").glob("*.mkv"))) == 2
    assert len(build(tmp_path, "a", "b", recipe=pack).kept) == 2


def test_a_folder_without_a_name_gets_its_own(tmp_path: Path) -> None:
    (tmp_path / "shots" / "more").mkdir(parents=True)
    assert list(clip_names([tmp_path / "shots" / "more" / ".."])) == ["shots"]
