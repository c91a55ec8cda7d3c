"""Clips that several rooms of tests measure."""

from pathlib import Path

import pytest
from quality.clips import FRAMES, moving_picture, write_clip


@pytest.fixture(scope="module")
def reference(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("reference") / "reference.mkv"
    return write_clip(path, moving_picture(FRAMES), codec="ffv1")


@pytest.fixture(scope="module")
def compressed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    options = {"crf": "38", "bf": "2", "threads": "1"}
    return write_clip(tmp_path_factory.mktemp("c") / "camera.mp4", moving_picture(FRAMES), options=options)
