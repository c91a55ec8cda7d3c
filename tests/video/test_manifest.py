"""The manifest of a dataset: plain JSON, which people edit."""

import json
from pathlib import Path

import pytest
from scenes import write_scene

from carfix.errors import CarfixError
from carfix.training.dataset import build_dataset
from carfix.training.encoding import paper_grid
from carfix.training.recipe import Recipe
from carfix.video.manifest import read_manifest


def build(folder: Path) -> None:
    recipe = Recipe(encodings=paper_grid()[:1])
    build_dataset(sources=[folder / "street.mkv"], output=folder / "data", recipe=recipe)


@pytest.mark.parametrize(
    "text", ["", "{", "[]", '{"format": 1}', '{"format": 9, "clips": {}, "carfix": "1"}']
)
def test_a_damaged_manifest_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "manifest.json").write_text(text)
    with pytest.raises(CarfixError, match=r"manifest\.json"):
        read_manifest(tmp_path)
    with pytest.raises(CarfixError, match="not a dataset"):
        read_manifest(tmp_path / "elsewhere")


def test_the_manifest_is_plain_json(tmp_path: Path) -> None:
    write_scene(tmp_path / "street.mkv")
    build(tmp_path)
    fields = json.loads((tmp_path / "data" / "manifest.json").read_text())
    assert fields["clips"]["street"]["variants"]["crf29-2000k"]["encoder"]["crf"] == 29


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("split", "validation"),
        ("frames", "12"),
        ("fps", "fast"),
        ("fps", "25/0"),
        ("settings", None),
        ("pristine", 7),
    ],
)
def test_a_field_that_was_edited_amiss_is_named(tmp_path: Path, field: str, value: object) -> None:
    write_scene(tmp_path / "street.mkv", seed=1)
    build(tmp_path)
    manifest = tmp_path / "data" / "manifest.json"
    fields = json.loads(manifest.read_text())
    fields["clips"]["street"][field] = value
    manifest.write_text(json.dumps(fields))
    with pytest.raises(CarfixError, match=rf"manifest\.json is damaged .*street {field} is"):
        read_manifest(tmp_path / "data")
    with pytest.raises(CarfixError, match=rf"{field} is .*correct that"):
        build(tmp_path)
