"""Memory stays flat over any length."""

import sys
from pathlib import Path

import faults
import media
import pytest


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
def test_resident_memory_after_3000_frames(tmp_path: Path) -> None:
    pictures = [media.picture(i, 160, 128) for i in range(50)]
    source = media.write_clip(
        tmp_path / "in.mkv",
        frames=3000,
        width=160,
        height=128,
        pictures=lambda i: pictures[i % 50],
        sounds=[media.Sound(seconds=120.0)],
    )
    samples = tmp_path / "samples"
    process = faults.start(faults.resident, source, tmp_path / "out.mkv", samples, (300, 3000))
    process.join()
    assert process.exitcode == 0
    early, late = map(int, samples.read_text().split())
    assert late <= early * 1.05
