from fractions import Fraction
from pathlib import Path

import pytest
from media import write_clip

import carfix.video.set_back
from carfix.video.choice import find_video
from carfix.video.set_back import is_set
from carfix.video.source import open_input


@pytest.mark.parametrize(
    ("suffix", "copies", "expected"),
    [
        ("ts", 1, False),
        ("ts", 2, True),
        ("ts", 5, True),
        ("mpg", 1, False),
        ("mpg", 2, True),
        ("mkv", 1, False),
    ],
)
def test_recordings_put_together_are_seen(suffix: str, copies: int, expected: bool, tmp_path: Path) -> None:
    part = write_clip(tmp_path / f"part.{suffix}", frames=50, options={"qp": "4", "threads": "1"})
    whole = tmp_path / f"whole.{suffix}"
    whole.write_bytes(copies * part.read_bytes())
    with open_input(whole) as container:
        assert is_set(whole, container, find_video(container, whole)) is expected


def test_a_clock_that_stands_still_is_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """FFmpeg's duration of it is that of a frame, or of what is before."""
    clip = write_clip(tmp_path / "in.ts", frames=50)
    times = iter([0, 1, 2, *[2] * 20])
    monkeypatch.setattr(carfix.video.set_back, "_time_at", lambda *_: Fraction(next(times)))
    with open_input(clip) as container:
        assert is_set(clip, container, find_video(container, clip))
