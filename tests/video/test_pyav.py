"""PyAV 19, played on the versions before: its rationals are not `fractions.Fraction` any more."""

import numbers
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import media
import pytest
from av.sidedata.sidedata import Type as SideDataType

from carfix.video.copying import Ascending
from carfix.video.source import describe


class Rational:
    """As `av.rational.AVRational`, without what that has not: `//`, `%`, `round`, `math.ceil`."""

    def __init__(self, value: Fraction) -> None:
        self.numerator, self.denominator = value.as_integer_ratio()

    def __gt__(self, other: Any) -> bool:  # noqa: ANN401
        return bool(Fraction(self) > other)

    def __le__(self, other: Any) -> bool:  # noqa: ANN401
        return bool(Fraction(self) <= other)


numbers.Rational.register(Rational)


class Stream:
    """A stream whose rationals are of that kind."""

    def __init__(self, stream: Any) -> None:  # noqa: ANN401
        self._stream = stream

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401
        value = getattr(self._stream, name)
        return Rational(value) if isinstance(value, Fraction) else value


def test_what_is_calculated_with_are_fractions(tmp_path: Path) -> None:
    path = media.write_clip(tmp_path / "clip.mkv", frames=3)
    with av.open(str(path)) as container:
        (video,) = container.streams.video
        stream: Any = Stream(video)
        info = describe(container, stream, next(container.decode(video)), path)
        found = (info.time_base, info.rate, Ascending(stream, None)._time_base)
        assert [type(value) for value in found] == [Fraction] * 3
        assert found == (video.time_base, video.guessed_rate, video.time_base)


def test_side_data_without_a_name() -> None:
    # FFmpeg's next one brings kinds that this PyAV does not know: the others are read all the same.
    unknown = max(kind.value for kind in SideDataType) + 1000
    kind = SideDataType(unknown)
    assert kind.value == unknown
    assert kind not in list(SideDataType)
    assert SideDataType(SideDataType.DISPLAYMATRIX.value) is SideDataType.DISPLAYMATRIX
    with pytest.raises(ValueError, match="words"):
        SideDataType("words")
