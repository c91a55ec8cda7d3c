"""Streams of which nobody knows what they are, in pipes."""

import io
from pathlib import Path

import av
import media
from engines import Adding
from media import Sound

from carfix.restore.models import EngineChoice
from carfix.restore.pipe import restore_pipe


def _with_private_stream(stream: bytes) -> bytes:
    """A transport stream of FFmpeg's with a stream of DSM-CC in its programme (ISO/IEC 13818-1, table 2-34)."""
    packets = [bytearray(stream[start : start + 188]) for start in range(0, len(stream), 188)]
    for packet in packets:
        if int.from_bytes(packet[1:3], "big") & 0x1FFF != 0x1000:  # where FFmpeg has its map of the programme
            continue
        section = bytes(packet[5:])
        length = int.from_bytes(section[1:3], "big") & 0xFFF
        added = b"\x0b\xe1\x50\xf0\0"
        head = (
            section[:1]
            + (0xB000 | length + len(added)).to_bytes(2, "big")
            + section[3 : 3 + length - 4]
            + added
        )
        packet[5:] = (head + _crc(head).to_bytes(4, "big")).ljust(183, b"\xff")
    return b"".join(packets)


def _crc(data: bytes) -> int:
    """ISO/IEC 13818-1, annex A."""
    crc = 0xFFFFFFFF
    for byte in data:
        crc ^= byte << 24
        for _ in range(8):
            crc = (crc << 1 ^ (0x04C11DB7 if crc & 0x80000000 else 0)) & 0xFFFFFFFF
    return crc


def test_streams_that_nobody_knows_are_left_out(tmp_path: Path) -> None:
    """Television is full of them."""
    clip = media.write_clip(tmp_path / "in.ts", sounds=[Sound(codec="mp2")])
    lines: list[str] = []
    data = _with_private_stream(clip.read_bytes())
    report = restore_pipe(
        source=io.BytesIO(data),
        output=tmp_path / "out.mkv",
        format="matroska",
        choice=EngineChoice(model=Adding(0)),
        say=lines.append,
    )
    assert report.frames == media.FRAMES
    assert any("unknown stream 2 is left out of matroska" in line for line in lines)
    with av.open(str(tmp_path / "out.mkv")) as container:
        assert [stream.type for stream in container.streams] == ["video", "audio"]
