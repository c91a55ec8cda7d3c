"""H.264 whose frames are two field pictures each (PAFF), as television and AVCHD cameras send it; x264 writes none.

Every macroblock is I_PCM: its samples as they are (ITU-T H.264, 7.3.5).
"""

from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

WIDTH, HEIGHT = 32, 32
#: Macroblocks beside each other; a field is one high.
_ACROSS = WIDTH // 16
_I_PCM, _ALL_INTRA = 25, 7
_SPS, _PPS, _IDR, _SLICE, _DELIMITER = b"\x67", b"\x68", b"\x65", b"\x61", b"\x09\x10"
RATE = Fraction(25)


class Writer:
    """Bits, first bit first."""

    def __init__(self) -> None:
        self.bits = ""

    def u(self, count: int, value: int) -> "Writer":
        self.bits += f"{value:0{count}b}" if count else ""
        return self

    def ue(self, *values: int) -> "Writer":
        for value in values:
            text = f"{value + 1:b}"
            self.bits += "0" * (len(text) - 1) + text
        return self

    def align(self) -> "Writer":
        self.bits += "0" * (-len(self.bits) % 8)
        return self

    def unit(self, head: bytes) -> bytes:
        """A NAL unit behind a start code, ended and escaped."""
        self.u(1, 1).align()
        data = int(self.bits, 2).to_bytes(len(self.bits) // 8, "big")
        escaped, zeros = bytearray(), 0
        for byte in data:
            if zeros == 2 and byte <= 3:
                escaped.append(3)
                zeros = 0
            escaped.append(byte)
            zeros = zeros + 1 if byte == 0 else 0
        return b"\0\0\0\1" + head + bytes(escaped)


def _parameters(*, rated: bool) -> bytes:
    sps = Writer().u(8, 77).u(8, 0).u(8, 30).ue(0, 0, 2, 1).u(1, 0)  # 16 frame numbers, shown as decoded
    sps.ue(_ACROSS - 1, HEIGHT // 32 - 1).u(1, 0).u(1, 0).u(1, 1).u(1, 0)  # field pictures may come
    sps.u(1, int(rated))
    if rated:  # 50 fields a second, and nothing else of video usability
        sps.u(4, 0).u(1, 1).u(32, 1).u(32, int(2 * RATE)).u(1, 1).u(4, 0)
    pps = Writer().ue(0, 0).u(2, 0).ue(0, 0, 0).u(3, 0).ue(0, 0, 0).u(3, 0)
    return sps.unit(_SPS) + pps.unit(_PPS)


def _field(number: int, codes: Sequence[np.ndarray], *, idr: bool, bottom: bool) -> bytes:
    bits = Writer().ue(0, _ALL_INTRA, 0).u(4, number % 16).u(1, 1).u(1, int(bottom))
    if idr:
        bits.ue(0).u(2, 0)
    else:
        bits.u(1, 0)
    bits.ue(0)  # slice_qp_delta
    luma, *chroma = codes
    for column in range(_ACROSS):
        bits.ue(_I_PCM).align()
        for plane, side in ((luma, 16), (chroma[0], 8), (chroma[1], 8)):
            for code in plane[:side, column * side : (column + 1) * side].ravel().tolist():
                bits.u(8, code)
    return Writer().unit(_DELIMITER) + bits.unit(_IDR if idr else _SLICE)


def pictures(count: int) -> list[np.ndarray]:
    """Luma of the frames, each with a code of its own and lines that differ."""
    lines = np.arange(HEIGHT)[:, None] % 7
    return [
        np.broadcast_to(40 + 5 * (n % 30) + lines, (HEIGHT, WIDTH)).astype(np.uint8) for n in range(count)
    ]


def frames(count: int, *, intra: int = 5, rated: bool = False) -> list[tuple[bytes, bytes]]:
    """The two fields of each frame; every `intra`th begins anew. `rated`: the stream states its rate."""
    found = []
    for index, luma in enumerate(pictures(count)):
        number = index % intra
        gray = np.full((HEIGHT // 4, WIDTH // 2), 128, np.uint8)
        top, bottom = (
            _field(number, (luma[parity::2], gray, gray), idr=number == 0 and not parity, bottom=bool(parity))
            for parity in (0, 1)
        )
        found.append((_parameters(rated=rated) + top if number == 0 else top, bottom))
    return found


def write(path: Path, count: int, *, apart: bool = False, rated: bool = False) -> Path:
    """A raw stream, or a transport stream with a time for each frame, or `apart`, for each field."""
    if path.suffix == ".h264":
        path.write_bytes(b"".join(first + second for first, second in frames(count, rated=rated)))
        return path
    with av.open(str(path), "w") as output:
        stream = output.add_mux_stream("h264", rate=RATE, width=WIDTH, height=HEIGHT)
        stream.time_base = Fraction(1, 90_000)
        for index, (first, second) in enumerate(frames(count, rated=rated)):
            time, step = index * 3600, 1800
            parts = [(time, first), (time + step, second)] if apart else [(time, first + second)]
            for pts, data in parts:
                packet = av.Packet(data)
                packet.pts = packet.dts = pts
                packet.time_base, packet.stream = stream.time_base, stream
                packet.is_keyframe = index % 5 == 0 and pts == time
                output.mux(packet)
    return path
