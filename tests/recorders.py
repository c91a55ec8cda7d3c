"""Recordings as FFmpeg reads them and does not write them: Dahua's recorders' (.dav), cameras' in HXVS (.264), and
Hikvision's program streams, which are called .mp4.
"""

import struct
import time
from collections.abc import Sequence
from pathlib import Path

import av
import media

#: Milliseconds since 1970 at which recordings begin: 2023-11-14 22:13:20.
BEGIN = 1_700_000_000_000
RATE = 25
#: Samples of sound for each frame, at 8 kHz.
SAMPLES = 320

_KEYFRAME, _FRAME, _SOUND = 0xFD, 0xFC, 0xF0


def write_dav(
    path: Path, times: Sequence[int], *, sound: bool = False, sizes: tuple[int, int] = (64, 48)
) -> Path:
    """A .dav of H.264, and of G.711 if there is `sound`, whose frames are shown at `times`, in milliseconds."""
    units = _units(path, len(times), sizes)
    with path.open("wb") as file:
        for number, ((unit, key), moment) in enumerate(zip(units, times, strict=True)):
            shape = bytes([0x80, 0, sizes[0] // 8, sizes[1] // 8, 0x81, 0, 4, RATE]) if key else b""
            file.write(_chunk(_KEYFRAME if key else _FRAME, number, moment, shape, unit))
            if sound:
                codec = bytes([0x83, 1, 0x0E, 2])  # one channel, A-law, 8 kHz
                file.write(_chunk(_SOUND, number, moment, codec, bytes([0xD5, number]) * (SAMPLES // 2)))
    return path


def write_hxvs(path: Path, times: Sequence[int], *, index: bool = True) -> Path:
    """H.264 and G.711 at `times`, in milliseconds; with an `index` the table at the end, of one size in all files."""
    keys = b""
    with path.open("wb") as file:
        file.write(b"HXVS" + struct.pack("<III", 64, 48, 0))
        for number, ((unit, key), time) in enumerate(
            zip(_units(path, len(times), (64, 48)), times, strict=True)
        ):
            keys += struct.pack("<II", file.tell(), time) if key else b""
            file.write(b"HXVF" + struct.pack("<III", len(unit), time, key) + unit)
            file.write(b"HXAF" + struct.pack("<III", 4 + SAMPLES, time, 0) + bytes(4))
            file.write(bytes([0xD5, number]) * (SAMPLES // 2))
        if index:
            file.write(b"HXFI" + struct.pack("<III", 200_000, times[-1], 0) + keys.ljust(200_000, b"\0"))
    return path


def write_hikvision(path: Path, frames: int, *, begin: int, stamped: bool = True) -> Path:
    """A program stream of H.264 and G.711 behind a header of 40 bytes, from `begin` on, in ticks of 90 kHz.

    Unless `stamped` only its sound has times.
    """
    with path.open("wb") as file:
        file.write(b"IMKH".ljust(40, b"\0"))
        for number, (unit, key) in enumerate(_units(path, frames, (64, 48))):
            moment = begin + 3600 * number
            file.write(b"\0\0\1\xba" + _clock(moment) + b"\1\x89\xc3\xf8")
            if key:
                streams = bytes([0x1B, 0xE0, 0, 0, 0x90, 0xC0, 0, 0])
                table = struct.pack(">BBHH", 0xE0, 0xFF, 0, len(streams)) + streams + bytes(4)
                file.write(b"\0\0\1\xbc" + struct.pack(">H", len(table)) + table)
                file.write(b"\0\0\1\xbf" + struct.pack(">H", 16) + b"HKPI".ljust(16, b"\0"))
            file.write(_pes(0xE0, unit, moment if stamped else None))
            file.write(_pes(0xC0, bytes([0xD5, number]) * (SAMPLES // 2), moment))
    return path


def _clock(moment: int) -> bytes:
    """A pack's time: 33 bits with markers between them, and none of 27 MHz."""
    high, middle, low = moment >> 30 & 7, moment >> 15 & 0x7FFF, moment & 0x7FFF
    bits = 1 << 46 | high << 43 | 1 << 42 | middle << 27 | 1 << 26 | low << 11 | 1 << 10 | 1
    return bits.to_bytes(6, "big")


def _pes(kind: int, payload: bytes, moment: int | None) -> bytes:
    stamp = b""
    if moment is not None:
        high, middle, low = moment >> 30 & 7, moment >> 15 & 0x7FFF, moment & 0x7FFF
        stamp = struct.pack(">BHH", 0x21 | high << 1, middle << 1 | 1, low << 1 | 1)
    head = bytes([0x80, 0x80 if stamp else 0, len(stamp)]) + stamp
    return b"\0\0\1" + bytes([kind]) + struct.pack(">H", len(head) + len(payload)) + head + payload


def _units(path: Path, frames: int, sizes: tuple[int, int]) -> list[tuple[bytes, bool]]:
    """Frames of H.264, each with whether it is a keyframe."""
    clip = media.write_clip(
        path.with_suffix(".h264"),
        format="h264",
        width=sizes[0],
        height=sizes[1],
        frames=frames,
        options={"preset": "ultrafast", "bf": "0", "g": "6"},
    )
    with av.open(str(clip)) as container:
        units = [(bytes(packet), packet.is_keyframe) for packet in container.demux(video=0) if packet.size]
    clip.unlink()
    return units


def _chunk(kind: int, number: int, moment: int, extra: bytes, payload: bytes) -> bytes:
    date = time.gmtime(moment // 1000)
    stamp = date.tm_sec | date.tm_min << 6 | date.tm_hour << 12
    stamp |= date.tm_mday << 17 | date.tm_mon << 22 | (date.tm_year - 2000) << 26
    length = 24 + len(extra) + len(payload) + 8
    head = b"DHAV" + struct.pack(
        "<BBBBIIIHB", kind, 0, 0, 0, number, length, stamp, moment & 0xFFFF, len(extra)
    )
    head += bytes([sum(head) & 0xFF])
    return head + extra + payload + b"dhav" + struct.pack("<I", length)
