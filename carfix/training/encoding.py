"""How variants are encoded: the paper's grid of 12, and wider draws that keep a network blind to the encoder."""

import dataclasses
import random
from collections.abc import Iterable, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from av.codec.context import ThreadType
from av.container import OutputContainer
from av.video.codeccontext import VideoCodecContext
from av.video.stream import VideoStream
from numpy.typing import NDArray

from carfix.errors import CarfixError, UsageError
from carfix.video.address import address
from carfix.video.faults import MEDIA_ERRORS, captured_log, reason, said
from carfix.video.scheduling import kept_scheduling
from carfix.video.x264 import HIGHEST_CRF, PRESETS, PROFILES

#: Section 4.1 of the paper.
PAPER_CRFS = (29, 35, 41, 47)
PAPER_MAXRATES = (2_000_000, 1_500_000, 1_000_000)  # bit/s
#: bufsize = this times maxrate.
BUFFER_SECONDS = 2

#: The caps are meant for this many pixels a second; below, they are scaled, or they would never bind.
CAP_PIXEL_RATE = 1920 * 1080 * 30

#: x264's range for 8 bits; it takes larger ones for the largest.
CRFS = range(HIGHEST_CRF + 1)

#: What a draw chooses from. Cameras write baseline without B-frames; archives were re-encoded with anything.
DRAW_CRFS = (23, 51)
DRAW_PRESETS = ("ultrafast", "veryfast", "medium", "medium", "slow")
DRAW_PROFILES = ("baseline", "main", "high", "high")
DRAW_GOPS = (25, 50, 250)
#: Share of draws that are H.264; the rest is spread over MPEG-4 Part 2, MJPEG and HEVC.
DRAW_H264_SHARE = 0.8

#: The same where text is written into the clip, which milder encodings spoil, too.
BURN_IN_CRFS = (15, 47)
#: Share of those in which the picture below was encoded before, its CRF, and that of the encoding over it: an export.
BURN_IN_OVER_SHARE = 1 / 3
BURN_IN_OVER_CRFS, BURN_IN_EXPORT_CRFS = (28, 43), (15, 25)

#: Ticks a second that MPEG-4 Part 2 can state. Rates of phones' and cameras' files are such as 2700000/90113.
_MPEG4_TICKS = 65535

#: Of clips that are no longer, x265 gives times of decoding that it has never set; in such no frame is reordered.
_X265_DELAY = 2

Luma = NDArray[np.uint8]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Encoding:
    """One set of encoder settings. Rates in bit/s before scaling to the clip's pixel rate."""

    codec: str = "libx264"
    crf: int | None = None
    qscale: int | None = None  # for codecs without CRF
    maxrate: int | None = None
    preset: str | None = "medium"
    profile: str | None = None
    tune: str | None = None
    gop: int | None = None
    over: int | None = None  # CRF at which x264 encoded the picture before text was written into it

    @property
    def name(self) -> str:
        """File-name-safe and unique for the settings: `crf29-2000k` for the paper's, longer for others."""
        parts = [] if self.codec == "libx264" else [self.codec]
        parts.append(f"crf{self.crf}" if self.crf is not None else f"q{self.qscale}")
        if self.maxrate is not None:
            parts.append(f"{self.maxrate // 1000}k")
        if self.preset not in (None, "medium"):
            parts.append(str(self.preset))
        parts += [part for part in (self.profile, self.tune) if part is not None]
        if self.gop is not None:
            parts.append(f"g{self.gop}")
        if self.over is not None:
            parts.append(f"over{self.over}")
        return "-".join(parts)

    def options(self, cap_scale: Fraction) -> dict[str, str]:
        """The encoder's options with the cap scaled by `cap_scale`."""
        options: dict[str, str] = {}
        if self.crf is not None:
            options["crf"] = str(self.crf)
        if self.qscale is not None:
            options |= {"qmin": str(self.qscale), "qmax": str(self.qscale)}
        if self.maxrate is not None:
            maxrate = max(1000, round(self.maxrate * cap_scale))
            if self.codec == "libx265":
                options["x265-params"] = (
                    f"vbv-maxrate={maxrate // 1000}:vbv-bufsize={BUFFER_SECONDS * maxrate // 1000}"
                )
            else:
                options |= {"maxrate": str(maxrate), "bufsize": str(BUFFER_SECONDS * maxrate)}
        if self.codec == "libx265":
            options["x265-params"] = ":".join(filter(None, [options.get("x265-params"), "log-level=error"]))
        for key, value in (("preset", self.preset), ("profile", self.profile), ("tune", self.tune)):
            if value is not None:
                options[key] = value
        if self.gop is not None:
            options["g"] = str(self.gop)
        return options

    def record(self, cap_scale: Fraction) -> dict[str, Any]:
        """What the manifest keeps of it."""
        fields = {key: value for key, value in dataclasses.asdict(self).items() if value is not None}
        return {**fields, "options": self.options(cap_scale)}


def cap_scale(width: int, height: int, fps: Fraction) -> Fraction:
    """Factor of the caps for a clip: its share of 1080p30's pixel rate, at most 1."""
    return min(Fraction(1), width * height * fps / CAP_PIXEL_RATE)


def paper_grid(
    crfs: Sequence[int] = PAPER_CRFS,
    maxrates: Sequence[int | None] = PAPER_MAXRATES,
    presets: Sequence[str] = ("medium",),
    profiles: Sequence[str | None] = (None,),
) -> list[Encoding]:
    """Every combination of the settings, in the paper's order."""
    return [
        Encoding(crf=crf, maxrate=maxrate, preset=preset, profile=profile)
        for preset in presets
        for profile in profiles
        for maxrate in maxrates
        for crf in crfs
    ]


def check_encodings(encodings: Iterable[Encoding]) -> None:
    """Raise `UsageError` for settings that their encoder refuses whatever the clip; nothing is encoded."""
    # Caps are scaled to the clip, so that none is refused before there is one.
    for encoding in {dataclasses.replace(encoding, maxrate=None, gop=None): None for encoding in encodings}:
        if encoding.crf is not None and encoding.crf not in CRFS:
            raise UsageError(f"a CRF is {CRFS[0]} to {CRFS[-1]}, not {encoding.crf}")
        if encoding.codec == "libx264" and encoding.preset not in (None, *PRESETS):
            raise UsageError(f"x264 has no preset {encoding.preset!r}; it has {', '.join(PRESETS)}")
        if encoding.codec == "libx264" and encoding.profile not in (None, *PROFILES):
            raise UsageError(f"x264 has no profile {encoding.profile!r}; it has {', '.join(PROFILES)}")
        with captured_log() as lines, kept_scheduling():
            try:
                context = av.CodecContext.create(encoding.codec, "w")
                assert isinstance(context, VideoCodecContext)
                context.width, context.height = 64, 64
                context.pix_fmt = "yuvj420p" if encoding.codec == "mjpeg" else "yuv420p"
                context.time_base, context.thread_count = Fraction(1, 25), 1
                context.options = encoding.options(Fraction(1))
                context.open()
            except MEDIA_ERRORS as error:
                why = (said(lines) or [reason(error)])[0]
                raise UsageError(f"{encoding.codec} refuses the settings {encoding.name}: {why}") from error


def draw(count: int, seed: str, *, burn_in: bool = False) -> list[Encoding]:
    """`count` different encodings drawn at random, the same for the same `seed`; other ones for clips with text."""
    rng = random.Random(seed)
    drawn: dict[str, Encoding] = {}
    while len(drawn) < count:
        if burn_in and rng.random() < BURN_IN_OVER_SHARE:
            export = _draw_h264(rng, BURN_IN_EXPORT_CRFS)
            encoding = dataclasses.replace(export, over=rng.randint(*BURN_IN_OVER_CRFS))
        elif rng.random() < DRAW_H264_SHARE:
            encoding = _draw_h264(rng, BURN_IN_CRFS if burn_in else DRAW_CRFS)
        else:
            encoding = _draw_other(rng)
        drawn.setdefault(encoding.name, encoding)
    return list(drawn.values())


def _draw_h264(rng: random.Random, crfs: tuple[int, int]) -> Encoding:
    return Encoding(
        crf=rng.randint(*crfs),
        maxrate=rng.choice(PAPER_MAXRATES) if rng.random() < 0.5 else None,
        preset=rng.choice(DRAW_PRESETS),
        profile=rng.choice(DRAW_PROFILES),
        tune="zerolatency" if rng.random() < 0.25 else None,
        gop=rng.choice(DRAW_GOPS),
    )


def _draw_other(rng: random.Random) -> Encoding:
    codec = rng.choice(("mpeg4", "mjpeg", "libx265"))
    if codec == "libx265":
        return Encoding(
            codec=codec, crf=rng.randint(26, 46), preset=rng.choice(("ultrafast", "fast")), gop=50
        )
    if codec == "mpeg4":
        return Encoding(codec=codec, qscale=rng.randint(3, 24), preset=None, gop=rng.choice((12, 50)))
    return Encoding(codec=codec, qscale=rng.randint(4, 24), preset=None)


def encode(
    path: Path, frames: Luma, fps: Fraction, encoding: Encoding, *, scale_caps: bool = True
) -> dict[str, Any]:
    """Encode luma `[N, H, W]` with neutral chroma into `path` (MP4); returns what the manifest keeps.

    H and W are even. Raises `CarfixError` if the encoder refuses its settings.
    """
    _, height, width = frames.shape
    scale = cap_scale(width, height, fps) if scale_caps else Fraction(1)
    rate = fps
    if encoding.codec == "mpeg4":
        rate = 1 / max((1 / fps).limit_denominator(_MPEG4_TICKS), Fraction(1, _MPEG4_TICKS))
    pixel_format = "yuvj420p" if encoding.codec == "mjpeg" else "yuv420p"
    chroma = np.full((height // 2, width), 128, np.uint8)  # both planes, one above the other
    try:
        with av.open(address(path), "w", format="mp4") as container:
            stream = container.add_stream(encoding.codec, rate=rate, options=encoding.options(scale))
            assert isinstance(stream, VideoStream)
            stream.width, stream.height, stream.pix_fmt = width, height, pixel_format
            # One thread: datasets are built by several processes anyway. Even so, x264's capped variants were seen to
            # differ by a few bytes from one process to the next: the manifest's numbers are of the files beside it.
            stream.codec_context.thread_count = 1
            _write(container, stream, (np.concatenate([luma, chroma]) for luma in frames), rate)
    except (av.FFmpegError, OSError, ValueError) as error:
        raise CarfixError(f"cannot encode {path.name} with {encoding.codec}: {reason(error)}") from error
    return encoding.record(scale)


def encode_lossless(path: Path, frames: Luma, fps: Fraction) -> None:
    """Write luma `[N, H, W]` losslessly (FFV1, gray, Matroska)."""
    try:
        with av.open(address(path), "w", format="matroska") as container:
            stream: VideoStream = container.add_stream(
                "ffv1", rate=fps, options={"level": "3", "coder": "1", "context": "1"}
            )
            stream.width, stream.height, stream.pix_fmt = frames.shape[2], frames.shape[1], "gray"
            _write(container, stream, frames, fps)
    except (av.FFmpegError, OSError) as error:
        raise CarfixError(f"cannot write {path}: {reason(error)}") from error


def encode_nearly_lossless(path: Path, frames: Luma, fps: Fraction, crf: int) -> None:
    """Write luma `[N, H, W]` (H and W even) small: x264, gray, Matroska, as slowly as is worth it."""
    options = {"crf": str(crf), "preset": "slower", "g": "250"}
    try:
        with av.open(address(path), "w", format="matroska") as container:
            stream: VideoStream = container.add_stream("libx264", rate=fps, options=options)
            stream.width, stream.height, stream.pix_fmt = frames.shape[2], frames.shape[1], "gray"
            stream.codec_context.thread_type = ThreadType.AUTO  # whole frames: PyAV's slices cost bits
            _write(container, stream, frames, fps)
    except (av.FFmpegError, OSError) as error:
        raise CarfixError(f"cannot write {path}: {reason(error)}") from error


def encode_photo(path: Path, luma: Luma, qscale: int) -> None:
    """Write full-range luma `[H, W]` (both even) as a gray JPEG; `qscale` is MJPEG's, 2 (best) to 31."""
    height, width = luma.shape
    quality = {"qmin": str(qscale), "qmax": str(qscale)}
    chroma = np.full((height // 2, width), 128, np.uint8)  # both planes, one above the other
    rate = Fraction(1)  # an encoder wants one even for a single picture
    try:
        with av.open(address(path), "w", format="image2", options={"update": "1"}) as container:
            stream: VideoStream = container.add_stream("mjpeg", rate=rate, options=quality)
            stream.width, stream.height, stream.pix_fmt = width, height, "yuvj420p"
            _write(container, stream, [np.concatenate([luma, chroma])], rate)
    except (av.FFmpegError, OSError) as error:
        raise CarfixError(f"cannot write {path}: {reason(error)}") from error


def _write(container: OutputContainer, stream: VideoStream, pictures: Iterable[Luma], fps: Fraction) -> None:
    """Encode all `pictures`, laid out as the stream's pixel format wants them, at a constant rate."""
    assert stream.pix_fmt is not None  # both callers have just set it
    with kept_scheduling():
        container.start_encoding()
    index = 0
    for index, picture in enumerate(pictures):
        frame = av.VideoFrame.from_ndarray(picture, format=stream.pix_fmt)
        frame.pts, frame.time_base = index, 1 / fps
        container.mux(stream.encode(frame))
    packets = stream.encode(None)
    if index < _X265_DELAY:
        for packet in packets:
            packet.dts = packet.pts
    container.mux(packets)
