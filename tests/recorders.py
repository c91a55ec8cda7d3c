"""Recordings as FFmpeg reads them and does not write: those of Dahua's recorders (.dav)."""

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
    clip = media.write_clip(
        path.with_suffix(".h264"),
        format="h264",
        width=sizes[0],
        height=sizes[1],
        frames=len(times),
        options={"preset": "ultrafast", "bf": "0", "g": "6"},
    )
    with av.open(str(clip)) as container:
        units = [(bytes(packet), packet.is_keyframe) for packet in container.demux(video=0) if packet.size]
    clip.unlink()
    with path.open("wb") as file:
        for number, ((unit, key), moment) in enumerate(zip(units, times, strict=True)):
            shape = bytes([0x80, 0, sizes[0] // 8, sizes[1] // 8, 0x81, 0, 4, RATE]) if key else b""
            file.write(_chunk(_KEYFRAME if key else _FRAME, number, moment, shape, unit))
            if sound:
                codec = bytes([0x83, 1, 0x0E, 2])  # one channel, A-law, 8 kHz
                file.write(_chunk(_SOUND, number, moment, codec, bytes([0xD5, number]) * (SAMPLES // 2)))
    return path


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
