"""What the tests of training share."""

from pathlib import Path

import pytest
import scenes

from carfix.training.dataset import build_dataset
from carfix.training.encoding import Encoding
from carfix.training.recipe import Recipe


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("training")
    encodings = [Encoding(crf=35), Encoding(crf=45)]
    for split, seed in (("train", 1), ("val", 2)):
        source = scenes.write_scene(folder / f"{split}.mkv", 8, seed)
        recipe = Recipe(encodings=encodings, split=split)  # type: ignore[arg-type]
        build_dataset(sources=[source], output=folder / "data", recipe=recipe)
    return folder / "data"
