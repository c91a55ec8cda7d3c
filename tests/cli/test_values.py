"""Values as FFmpeg's users type them."""

import pytest

from carfix.cli.values import seconds
from carfix.errors import UsageError


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("90", 90),
        ("1:30", 90),
        ("0:01:30.5", 90.5),
        (".5", 0.5),
        ("1:.5", 60.5),
        ("500ms", 0.5),
        (".5s", 0.5),
        ("200us", 0.0002),
        ("2.s", 2),
    ],
)
def test_times(text: str, wanted: float) -> None:
    assert seconds(text, "-t") == pytest.approx(wanted)


@pytest.mark.parametrize("text", ["", ".", "s", "-1", "1:2:3:4", "1h", "1e3", "nan"])
def test_no_times(text: str) -> None:
    with pytest.raises(UsageError, match=r"-t takes seconds or \[HH:\]MM:SS"):
        seconds(text, "-t")
