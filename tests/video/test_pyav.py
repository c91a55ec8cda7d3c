"""PyAV 19, played on the versions before: its rationals are not `fractions.Fraction` any more; and what PyAV lacks."""

import numbers
import struct
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import media
import pytest
from av.sidedata.sidedata import Type as SideDataType

from carfix.video.copying import Ascending
from carfix.video.pyav import all_side_data, side_data
from carfix.video.source import describe, probe


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


def test_side_data_that_pyav_does_not_know_hides_nothing(tmp_path: Path) -> None:
    """EXIF in the pictures of a time lapse: PyAV refused all side data, so that nothing read such a file."""
    # Big-endian TIFF with one entry: an orientation that calls for a quarter turn.
    exif = b"Exif\0\0MM\0*" + struct.pack(">IHHHIHHI", 8, 1, 0x0112, 3, 1, 6, 0, 0)
    marker = b"\xff\xe1" + struct.pack(">H", len(exif) + 2) + exif
    plain = media.write_clip(
        tmp_path / "plain.avi", codec="mjpeg", pix_fmt="yuvj420p", time_base=Fraction(1, 25), frames=3
    )
    path = tmp_path / "lapse.avi"
    with av.open(str(plain)) as source, av.open(str(path), "w") as target:
        copy = target.add_stream_from_template(source.streams.video[0])
        for packet in source.demux(video=0):
            if packet.size:
                photo = av.Packet(bytes(packet)[:2] + marker + bytes(packet)[2:])
                photo.pts, photo.dts, photo.time_base = packet.pts, packet.dts, packet.time_base
                photo.stream = copy
                target.mux(photo)
    with av.open(str(path)) as container:
        frame = next(container.decode(video=0))
        assert len(all_side_data(frame, SideDataType.DISPLAYMATRIX)) == 1
        assert side_data(frame, SideDataType.MASTERING_DISPLAY_METADATA) is None
    assert probe(path).display_matrix is not None


def test_side_data_without_a_name() -> None:
    unknown = max(kind.value for kind in SideDataType) + 1000
    kind = SideDataType(unknown)
    assert kind.value == unknown
    assert kind not in list(SideDataType)
    with pytest.raises(ValueError, match="words"):
        SideDataType("words")
