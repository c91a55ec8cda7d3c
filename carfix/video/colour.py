"""How the samples are meant to look: colour tags, chroma location and HDR metadata, from input to encoder."""

import dataclasses
import re
import struct
from fractions import Fraction

import av
from av.container import InputContainer
from av.sidedata.sidedata import Type as SideDataType
from av.video.frame import VideoFrame

from carfix.video.convert import has_rgb
from carfix.video.faults import captured_log
from carfix.video.pyav import side_data

#: AVCOL_*_UNSPECIFIED and AVCOL_RANGE_UNSPECIFIED of libavutil/pixfmt.h.
UNSPECIFIED = 2
UNSPECIFIED_RANGE = 0

#: AVCOL_SPC_RGB, which says that there is no matrix, and AVCOL_SPC_SMPTE170M: BT.601's.
_NO_MATRIX = 0
_BT601 = 6

#: FFmpeg's names of AVChromaLocation, as `chroma_sample_location` takes them.
_CHROMA_LOCATIONS = ("left", "center", "topleft", "top", "bottomleft", "bottom")

#: AVMasteringDisplayMetadata of libavutil: red, green and blue x and y, white point x and y, least and
#: greatest luminance as rationals of two C ints, then two flags that say which of them are set.
_MASTERING = struct.Struct("@20i2i")
#: AVContentLightMetadata: MaxCLL and MaxFALL in cd/m2.
_LIGHT = struct.Struct("@2I")

#: Kinds of HDR metadata that change from scene to scene.
_DYNAMIC = {
    SideDataType.DOVI_METADATA: "Dolby Vision",
    SideDataType.DYNAMIC_HDR_PLUS: "HDR10+",
    SideDataType.DYNAMIC_HDR_VIVID: "HDR Vivid",
}

#: Units of the H.264 and HEVC SEI message: chromaticities in 1/50000, luminances in 1/10000 cd/m2.
_CHROMATICITY_UNIT = 50_000
_LUMINANCE_UNIT = 10_000


@dataclasses.dataclass(frozen=True, kw_only=True)
class Colour:
    """Colour description of a stream; the numbers are those of H.273 as FFmpeg uses them."""

    range: int = UNSPECIFIED_RANGE  # 1 limited, 2 full
    primaries: int = UNSPECIFIED
    transfer: int = UNSPECIFIED
    matrix: int = UNSPECIFIED
    chroma_location: str | None = None


@dataclasses.dataclass(frozen=True, kw_only=True)
class MasteringDisplay:
    """The display that HDR material was graded on (SMPTE ST 2086)."""

    red: tuple[Fraction, Fraction]
    green: tuple[Fraction, Fraction]
    blue: tuple[Fraction, Fraction]
    white: tuple[Fraction, Fraction]
    least_luminance: Fraction  # cd/m2
    greatest_luminance: Fraction

    def to_sei_text(self) -> str:
        """In the spelling that x264 and x265 share: G(x,y)B(x,y)R(x,y)WP(x,y)L(max,min) in SEI units."""

        def point(name: str, xy: tuple[Fraction, Fraction]) -> str:
            x, y = (round(value * _CHROMATICITY_UNIT) for value in xy)
            return f"{name}({x},{y})"

        greatest, least = (
            round(value * _LUMINANCE_UNIT) for value in (self.greatest_luminance, self.least_luminance)
        )
        points = point("G", self.green) + point("B", self.blue) + point("R", self.red)
        return f"{points}{point('WP', self.white)}L({greatest},{least})"

    def to_svt_text(self) -> str:
        """In SVT-AV1's spelling: the same points and luminances as decimal numbers."""

        def point(name: str, xy: tuple[Fraction, Fraction]) -> str:
            return f"{name}({float(xy[0]):.5f},{float(xy[1]):.5f})"

        luminance = f"L({float(self.greatest_luminance):.4f},{float(self.least_luminance):.4f})"
        points = point("G", self.green) + point("B", self.blue) + point("R", self.red)
        return f"{points}{point('WP', self.white)}{luminance}"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Hdr:
    """HDR metadata; None where the stream has none."""

    mastering: MasteringDisplay | None = None
    light: tuple[int, int] | None = None  # MaxCLL, MaxFALL in cd/m2
    dynamic: str | None = None  # name of what changes from scene to scene, which is not carried

    def __bool__(self) -> bool:  # whether there is some to write
        return self.mastering is not None or self.light is not None


def hdr_of_frame(frame: VideoFrame) -> Hdr:
    """The HDR metadata that `frame` carries."""
    mastering = side_data(frame, SideDataType.MASTERING_DISPLAY_METADATA)
    light = side_data(frame, SideDataType.CONTENT_LIGHT_LEVEL)
    return Hdr(
        mastering=None if mastering is None else _parse_mastering(mastering),
        light=None if light is None else _LIGHT.unpack_from(light),
        dynamic=next((name for kind, name in _DYNAMIC.items() if side_data(frame, kind) is not None), None),
    )


def _parse_mastering(data: bytes) -> MasteringDisplay | None:
    *numbers, has_primaries, has_luminance = _MASTERING.unpack_from(data)
    if not (has_primaries and has_luminance):
        return None  # half a description has no spelling that encoders accept
    values = [Fraction(n, d) if d else Fraction(0) for n, d in zip(numbers[::2], numbers[1::2], strict=True)]
    return MasteringDisplay(
        red=(values[0], values[1]),
        green=(values[2], values[3]),
        blue=(values[4], values[5]),
        white=(values[6], values[7]),
        least_luminance=values[8],
        greatest_luminance=values[9],
    )


def display_matrix_of_frame(frame: VideoFrame) -> tuple[int, ...] | None:
    """Rotation and flips that the player applies, as FFmpeg's 3x3 matrix by rows; None if there is none."""
    matrix = side_data(frame, SideDataType.DISPLAYMATRIX)
    return None if matrix is None else struct.unpack("@9i", matrix[:36])


def matrix_of(frame: VideoFrame, tagged: int) -> int:
    """The matrix of what is encoded: the `tagged` one, or of RGB that swscale's conversion takes unless told.

    With RGB's own tag the converted frames would be shown as if they were RGB still, and without any, players take
    BT.709's for large pictures.
    """
    return _BT601 if has_rgb(frame) and tagged in (_NO_MATRIX, UNSPECIFIED) else tagged


def chroma_location(container: InputContainer, stream_index: int) -> str | None:
    """Where chroma samples lie, e.g. "left"; None if the stream does not say.

    PyAV has no attribute for it, but FFmpeg's own description of the stream names it.
    """
    with captured_log(av.logging.VERBOSE):
        text: str = container.dumps_format()  # type: ignore[attr-defined]
    for line in text.splitlines():
        if re.match(rf"\s*Stream #0:{stream_index}\b.*: Video:", line):
            # "yuv420p(tv, bt709, progressive, left)", "yuv420p(tv, top coded first (swapped), left)"
            for word in re.split(r"[(),]", line):
                if word.strip() in _CHROMA_LOCATIONS:
                    return word.strip()
    return None
