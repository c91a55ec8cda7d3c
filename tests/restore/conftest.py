"""What tests of whole restores share."""

from pathlib import Path

import media
import pytest
from media import Sound


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    return media.write_clip(tmp_path / "in.mp4", frames=30, sounds=[Sound(seconds=1.2)])
