"""Decoding on a GPU's video unit: NVDEC, VideoToolbox, D3D11VA, whatever this FFmpeg was built with.

H.264, HEVC and VP9 define every decoded sample, so an undamaged stream gives the same frames as on the CPU. What is
lost is what a software decoder says beside the frames: which of them it had to conceal, and quantizers, but for those
that can be read off headers.
"""

import dataclasses

from av.codec.codec import Codec
from av.codec.hwaccel import HWAccel, hwdevices_available
from av.video.frame import VideoFrame

from carfix.errors import MissingPartError, UsageError
from carfix.video.convert import convert
from carfix.video.faults import MEDIA_ERRORS, reason

#: What `--hwaccel` takes beside a device's name.
NONE, AUTO = "none", "auto"

#: A codec that every video unit decodes: what can be opened for it can be opened at all.
_COMMON_CODEC = "h264"

#: Formats in which devices hand out frames, by planar format: the same codes, chroma interleaved, above 8 bits in
#: the high bits of the word. swscale takes each back without a change of any code (tests/video/test_hwaccel.py).
INTERLEAVED = {
    "yuv420p": ("nv12",),
    "yuvj420p": ("nv12",),
    "yuv422p": ("nv16",),
    "yuvj422p": ("nv16",),
    "yuv444p": ("nv24",),
    "yuvj444p": ("nv24",),
    "yuv420p10le": ("p010le",),
    "yuv422p10le": ("p210le",),
    "yuv444p10le": ("p410le",),
    "yuv420p12le": ("p012le", "p016le"),
}


@dataclasses.dataclass(frozen=True)
class Hwaccel:
    """A kind of device as FFmpeg names it, and which of them: an index, or a path."""

    kind: str
    device: str | None = None

    @classmethod
    def parse(cls, text: str) -> "Hwaccel":
        """`cuda`, `cuda:1`, `vaapi:/dev/dri/renderD128`. Raises `UsageError` for what this FFmpeg does not know."""
        kind, colon, device = text.partition(":")
        known = decoding_devices()
        if kind not in known:
            raise UsageError(f"--hwaccel is {', '.join((NONE, AUTO, *known))}, not {text!r}")
        if colon and not device:
            raise UsageError(f"--hwaccel {kind}: takes a device behind the colon, e.g. {kind}:0")
        return cls(kind, device or None)

    def __str__(self) -> str:
        return self.kind if self.device is None else f"{self.kind}:{self.device}"

    def settings(self) -> HWAccel:
        """For `av.open`. A stream that the device does not take is decoded on the CPU."""
        # With a context of its own where it is CUDA's: FFmpeg refuses torch's, which waits for the device by spinning.
        return HWAccel(self.kind, device=self.device, allow_software_fallback=True)

    def open(self) -> None:
        """See whether there is such a device. Raises one of `MEDIA_ERRORS` where there is none."""
        self.settings().create(Codec(_COMMON_CODEC, "r"))


def decoding_devices() -> list[str]:
    """The kinds of device that this FFmpeg can decode on, whether this machine has one or not."""
    configs = Codec(_COMMON_CODEC, "r").hardware_configs
    usable = {config.device_type.name for config in configs if config.is_supported}
    return [name for name in hwdevices_available() if name in usable]


def check_hwaccel(wanted: str) -> None:
    """Raises `UsageError` for a device that is not known, `MissingPartError` for one that does not open here."""
    if wanted in (NONE, AUTO):
        return
    device = Hwaccel.parse(wanted)
    try:
        device.open()
    except MEDIA_ERRORS as error:
        raise MissingPartError(
            f"--hwaccel {device}: this machine has no such device to decode on ({reason(error)}); "
            "leave the option out to decode on the CPU"
        ) from error


def candidates(wanted: str) -> list[Hwaccel]:
    """The devices to try, in order, that can be opened here. Raises `UsageError` as `Hwaccel.parse` does."""
    if wanted == NONE:
        return []
    if wanted != AUTO:
        return [Hwaccel.parse(wanted)]
    found = []
    for kind in decoding_devices():
        device = Hwaccel(kind)
        try:
            device.open()
        except MEDIA_ERRORS:
            continue
        found.append(device)
    return found


def comes_from_device(frame: VideoFrame, pix_fmt: str) -> bool:
    """Whether the frame is one that a device handed out for a video of `pix_fmt`, code for code."""
    return frame.format.name in INTERLEAVED.get(pix_fmt, ())


def planar(frame: VideoFrame, pix_fmt: str, colour_range: int) -> VideoFrame:
    """The frame of a device in the video's own format; any other frame as it is."""
    return convert(frame, pix_fmt, colour_range) if comes_from_device(frame, pix_fmt) else frame
