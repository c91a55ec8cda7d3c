"""Damage that FFV1's decoder conceals without a word: its checksums tell."""

from pathlib import Path

import av
import pytest
from jobs import restore
from media import write_clip

from carfix.video.source import probe
from carfix.video.timeline import scan

WITH = {"level": "3", "slicecrc": "1", "slices": "4"}


def ffv1(path: Path, options: dict[str, str]) -> Path:
    return write_clip(path, codec="ffv1", frames=8, options=options)


def with_a_flipped_bit(path: Path, *numbers: int) -> Path:
    """In the middle of some packets."""
    data = bytearray(path.read_bytes())
    with av.open(str(path)) as container:
        packets = [packet for packet in container.demux(video=0) if packet.size]
    for number in numbers:
        packet = packets[number]
        assert packet.pos is not None
        data[packet.pos + packet.size // 2] ^= 4
    path.write_bytes(data)
    return path


@pytest.mark.parametrize("numbers", [(), (3,), (0, 7), tuple(range(8))])
def test_wrong_checksums_are_counted(tmp_path: Path, numbers: tuple[int, ...]) -> None:
    """Also in the first packets, from before a right one proved that there are any."""
    path = with_a_flipped_bit(ffv1(tmp_path / "a.mkv", WITH), *numbers)
    assert scan(probe(path)).corrupt == len(numbers)


@pytest.mark.parametrize(
    ("codec", "options"),
    [("ffv1", {"level": "3", "slicecrc": "0"}), ("ffv1", {"level": "1"}), ("libx264", {})],
)
def test_what_has_none_counts_as_whole(tmp_path: Path, codec: str, options: dict[str, str]) -> None:
    path = write_clip(tmp_path / "a.mkv", codec=codec, frames=8, options=options)
    assert scan(probe(path)).corrupt == 0


def test_a_restore_tells_of_them(tmp_path: Path) -> None:
    path = with_a_flipped_bit(ffv1(tmp_path / "a.mkv", WITH), 3)
    report = restore(path, tmp_path / "out.mkv")
    assert report.frames == 8 and report.damaged
    assert any("1 packets are flagged as damaged" in line for line in report.warnings)
