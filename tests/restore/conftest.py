"""What tests of whole restores and of engines share."""

from collections.abc import Iterator
from pathlib import Path

import media
import pytest
import torch
from media import Sound


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    return media.write_clip(tmp_path / "in.mp4", frames=30, sounds=[Sound(seconds=1.2)])


@pytest.fixture
def nut(tmp_path: Path) -> Path:
    """What a pipe can take, of a variable frame rate."""
    return media.write_clip(
        tmp_path / "in.nut",
        frames=30,
        times=[i * 512 + (i % 3) * 40 for i in range(30)],
        sounds=[Sound(codec="flac", seconds=1.2)],
    )


@pytest.fixture
def one_torch_thread() -> Iterator[None]:
    """Eager PyTorch on all cores stands still as soon as other tests run beside it."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
