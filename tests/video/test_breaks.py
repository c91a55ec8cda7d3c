"""Damage that FFmpeg passes over without a word: told, and nothing else taken for it."""

import random
from pathlib import Path

import av
import media
import pytest
from engines import Adding
from media import Sound

from carfix.restore.one_file import restore_video
from carfix.restore.report import Report
from carfix.video.breaks import first_break
from carfix.video.encoder_settings import EncoderSettings

#: Matroska whole and as live recordings write it, MP4 in fragments, and FLV.
KINDS = {
    "mkv": (".mkv", {"fflags": "bitexact"}),
    "live": (".mkv", {"fflags": "bitexact", "live": "1"}),
    "webm": (".webm", {"fflags": "bitexact"}),
    "fragments": (".mp4", {"movflags": "frag_keyframe+empty_moov"}),
    "flash": (".flv", {}),
}


def clip(folder: Path, kind: str) -> Path:
    suffix, muxer = KINDS[kind]
    codec, sound = ("libvpx-vp9", "libopus") if kind == "webm" else ("libx264", "aac")
    options = media.X264 if codec == "libx264" else {"deadline": "realtime", "g": "6"}
    return media.write_clip(
        folder / f"in{suffix}",
        codec=codec,
        frames=50,
        options=options,
        sounds=[Sound(codec=sound, seconds=2.0)],
        muxer=muxer,
    )


def restore(source: Path) -> Report:
    return restore_video(
        source=source,
        output=source.parent / "out.mkv",
        model=Adding(0),
        encoder=EncoderSettings(preset="ultrafast"),
        overwrite=True,
    )


@pytest.mark.parametrize("kind", KINDS)
def test_whole_files_have_none(kind: str, tmp_path: Path) -> None:
    source = clip(tmp_path, kind)
    assert first_break(source) is None
    data = source.read_bytes()
    source.write_bytes(data[:-900])
    assert first_break(source) is None  # that the end is missing is told otherwise


@pytest.mark.parametrize("kind", KINDS)
def test_zeros_at_the_end_as_a_power_cut_leaves_them(kind: str, tmp_path: Path) -> None:
    source = clip(tmp_path, kind)
    data = source.read_bytes()
    place = _boundary(source, kind)
    source.write_bytes(data[:place] + bytes(len(data) - place))
    assert first_break(source) == place
    report = restore(source)
    assert report.frames < 50
    assert report.damaged
    assert f"the input's structure is damaged at byte {place}: what is not found behind that is lost" in (
        report.warnings
    )


def test_a_damaged_head_of_a_packet_costs_the_rest_of_its_cluster(tmp_path: Path) -> None:
    source = clip(tmp_path, "mkv")
    data = bytearray(source.read_bytes())
    place = _heads(source)[20]
    data[place + 1 : place + 5] = b"\x1f\xff\xff\xff"  # its size
    source.write_bytes(data)
    assert first_break(source) == place
    report = restore(source)
    assert report.frames < 50
    assert report.damaged


@pytest.mark.parametrize("kind", KINDS)
def test_any_damage_is_survived(kind: str, tmp_path: Path) -> None:
    source = clip(tmp_path, kind)
    whole = source.read_bytes()
    for seed in range(100):
        chance = random.Random(seed)
        data = bytearray(whole)
        for _ in range(5):
            data[chance.randrange(len(data))] = chance.choice((0, 255, chance.randrange(256)))
        source.write_bytes(data[: chance.choice((len(data), chance.randrange(len(data))))])
        found = first_break(source)
        assert found is None or 0 <= found < len(data)
    source.write_bytes(b"")
    assert first_break(source) is None


def test_a_cut_fragment_is_told(tmp_path: Path) -> None:
    source = clip(tmp_path, "fragments")
    data = source.read_bytes()
    place = data.rindex(b"moof")
    source.write_bytes(data[: (place + data.index(b"mfra")) // 2])
    report = restore(source)
    assert report.frames < 50
    assert report.damaged
    assert any("the input is cut short: the last" in line for line in report.warnings)


def test_a_packet_of_impossible_size_is_no_lack_of_memory(tmp_path: Path) -> None:
    source = media.write_clip(tmp_path / "in.ivf", codec="libvpx-vp9", options={"deadline": "realtime"})
    data = bytearray(source.read_bytes())
    with av.open(str(source)) as container:
        place = [packet.pos for packet in container.demux(video=0) if packet.size][-1]
    assert place
    data[place : place + 4] = b"\xff" * 4
    source.write_bytes(data)
    report = restore(source)
    assert report.frames == 11
    assert "the input is cut short: a packet states an impossible size" in report.warnings


def _boundary(source: Path, kind: str) -> int:
    """Where in the second half of the file a packet of Matroska, a tag of FLV, or a fragment, begins."""
    data = source.read_bytes()
    if kind == "flash":
        with av.open(str(source)) as container:
            return next(packet.pos or 0 for packet in container.demux(video=0) if packet.pos > len(data) // 2)
    if kind == "fragments":
        return data.index(b"moof", len(data) // 2) - 4
    return next(place for place in _heads(source) if place > len(data) // 2)


def _heads(source: Path) -> list[int]:
    """Where the packets of the video begin in Matroska: a byte, the size, and four more bytes before the data."""
    with av.open(str(source)) as container:
        packets = [bytes(packet) for packet in container.demux(video=0) if packet.size]
    data = source.read_bytes()
    return [data.index(packet) - 4 - (1 if len(packet) + 4 < 127 else 2) - 1 for packet in packets]
