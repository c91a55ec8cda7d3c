"""Encoders for one input: settings resolved for it, and contexts that keep its look."""

import dataclasses
from collections.abc import Mapping
from fractions import Fraction
from typing import Any

import av
from av.codec.codec import find_best_pix_fmt_of_list
from av.codec.context import Flags, ThreadType
from av.video.codeccontext import VideoCodecContext

from carfix.errors import CarfixError
from carfix.video.colour import UNSPECIFIED, Colour, Hdr
from carfix.video.encoder_settings import (
    PARAMS_OPTION,
    RAW,
    EncoderSettings,
    create_context,
    known_options,
    supported_pix_fmts,
    try_open,
)
from carfix.video.luma import luma_format
from carfix.video.muxer import Y4M
from carfix.video.source import BOTTOM_FIRST_ORDERS, SourceInfo
from carfix.video.userdata import user_data_options

#: Encoders that code two fields in one frame and say so in their stream.
_INTERLACED_CODECS = ("libx264", "mpeg2video", "mpeg4", "prores_ks", "ffv1", "dnxhd")
#: Of them those that flag a frame whatever they were opened for.
_FLAGS_EACH_FRAME = ("ffv1",)
#: FFmpeg's own encoders of the MPEG family. Their rate control takes a frame's time for its number: on a finer clock,
#: or in a segment that does not begin at 0, it sees far more bits due than there are, and spends half as many again.
_COUNT_FRAMES = {
    *("mpeg1video", "mpeg2video", "mpeg4", "msmpeg4", "msmpeg4v2", "wmv1", "wmv2", "flv", "snow"),
    *("h261", "h263", "h263p", "rv10", "rv20", "mjpeg", "amv", "speedhq"),
}
#: Encoders that write their clock into the stream, where programs look for the frame rate: those that take it without
#: its container had thousands of frames a second on a finer clock.
_STATE_CLOCK = ("libx264", "libx264rgb")
#: Their options that say how much is lost.
_RATES = {"b", "qmin", "qmax", "global_quality"}
#: FFmpeg's options, and the context's attributes, for what `Colour` holds.
_COLOURS = {
    "color_range": "range",
    "color_primaries": "primaries",
    "color_trc": "transfer",
    "colorspace": "matrix",
}
#: Whom to name when an encoder cannot take a pixel format, most usual first.
_ALTERNATIVES = ("libx264", "libx265", "libsvtav1", "libvpx-vp9", "ffv1")


def choose_pix_fmt(info: SourceInfo, settings: EncoderSettings) -> str:
    """The format to encode: the user's, else the input's own, else the same samples under another name.

    Raises `CarfixError` naming the cure where the encoder cannot take the input's format.
    """
    if settings.pix_fmt is not None:
        return settings.pix_fmt
    formats = supported_pix_fmts(settings.codec)
    luma_format(info.pix_fmt, info.path)
    if formats is None or info.pix_fmt in formats:
        return info.pix_fmt
    plain = info.pix_fmt.replace("yuvj", "yuv")  # full range says the colour tag; the samples are the same
    if plain in formats:
        return plain
    others = [
        name
        for name in _ALTERNATIVES
        if name in av.codec.codecs_available and plain in (supported_pix_fmts(name) or ())
    ]
    nearest, _ = find_best_pix_fmt_of_list(formats, info.pix_fmt)
    cures = [f"-c:v {others[0]}"] if others else []
    cures += [f"-pix_fmt {nearest.name}"] if nearest is not None else []
    raise CarfixError(
        f"{info.path}: the encoder {settings.codec} cannot keep the pixel format {info.pix_fmt}; "
        f"use {' or '.join(cures)}"
    )


@dataclasses.dataclass(frozen=True, kw_only=True)
class Encoding:
    """Settings resolved for one input: what every segment of it is encoded with."""

    codec: str
    options: Mapping[str, str]
    pix_fmt: str
    time_base: Fraction | None  # of the encoder; None: it only counts frames
    interlaced: bool
    colour: Colour  # what the output says: the input's, but for what the user's options say
    warnings: tuple[str, ...]


def flags_fields(encoding: Encoding, info: SourceInfo) -> bool:
    """Whether interlaced frames come out flagged, be it because the user asks x264 for it.

    Of a video that begins interlaced it was said before the work if they do not.
    """
    if info.interlaced:
        return True
    asked = encoding.options.get("x264-params", "").split(":")
    return encoding.interlaced or encoding.codec in _FLAGS_EACH_FRAME or bool({"tff=1", "bff=1"} & set(asked))


def resolve_encoding(info: SourceInfo, settings: EncoderSettings, format: str | None = None) -> Encoding:
    """Settle everything that an encoder for `info` needs, and try it; `format` is the output's container.

    Raises `UsageError` or `CarfixError` with the encoder's own words if it refuses.
    """
    options = settings.to_options()
    warnings: list[str] = []
    interlaced = info.interlaced and settings.codec in _INTERLACED_CODECS
    if interlaced and settings.codec == "libx264":
        # Frames say which field comes first, but x264 writes what it was opened with into its first headers.
        first = "bff=1" if info.field_order in BOTTOM_FIRST_ORDERS else "tff=1"
        options["x264-params"] = ":".join(part for part in (first, options.get("x264-params")) if part)
    if info.interlaced and not interlaced and format != Y4M:  # whose header does
        cure = "-f y4m" if settings.codec == RAW else "-c:v libx264"
        warnings.append(f"{settings.codec} cannot flag interlaced frames; {cure} can")
    if info.hdr:
        params = _hdr_params(settings.codec, info.hdr)
        if params is None:
            warnings.append(f"{settings.codec} cannot carry HDR metadata; -c:v libx265 can")
        else:
            key = PARAMS_OPTION[settings.codec]
            # The user's, behind it, are those that encoders take.
            options[key] = ":".join(part for part in (params, options.get(key)) if part)
    if info.hdr.dynamic and "dolbyvision" not in options:
        warnings.append(
            f"the video's {info.hdr.dynamic} is left out: of HDR metadata HDR10's alone is carried"
        )
    if settings.codec in _COUNT_FRAMES and _RATES.isdisjoint(options):
        warnings.append(
            f"{settings.codec} goes by a bit rate, and FFmpeg's is 200 kb/s: ask for more with -b:v"
        )
    carried, lost = user_data_options(settings.codec, known_options(settings.codec), info.user_data)
    options = {**carried, **options}
    warnings += lost
    if info.colour.chroma_location is not None:
        options.setdefault("chroma_sample_location", info.colour.chroma_location)
    encoding = Encoding(
        codec=settings.codec,
        options=options,
        pix_fmt=choose_pix_fmt(info, settings),
        time_base=info.time_base,
        interlaced=interlaced,
        colour=info.colour,
        warnings=tuple(warnings),
    )
    # Codecs with a short list of frame rates refuse a fine clock; they can still count frames. MPEG-4, which should,
    # refuses mean rates of variable ones.
    counting = dataclasses.replace(encoding, time_base=None)
    choices = (counting, encoding) if settings.codec in _COUNT_FRAMES else (encoding, counting)
    failures: list[str] = []
    for choice in choices:
        failure, colour = _try_to_open(info, choice)
        if failure is None:
            return dataclasses.replace(choice, colour=colour)
        failures.append(failure)
    hint = ""
    if info.width % 2 or info.height % 2:
        hint = "; odd sizes work with -c:v ffv1, -c:v libvpx-vp9 or -pix_fmt yuv444p"
    # The first: what an encoder says once more, FFmpeg leaves out.
    raise CarfixError(f"{info.path}: the encoder {settings.codec} refuses this video: {failures[0]}{hint}")


def counting(encoding: Encoding, *, steady: bool) -> Encoding:
    """The same with a clock of frames where the stream states it, if frames come at the input's rate (`steady`)."""
    counts = steady and encoding.codec in _STATE_CLOCK
    return dataclasses.replace(encoding, time_base=None) if counts else encoding


def _try_to_open(info: SourceInfo, encoding: Encoding) -> tuple[str | None, Colour]:
    """Why it does not open, or None, and how it describes its colours."""
    context = create_context(encoding.codec)
    context.options = dict(encoding.options)
    configure(context, info, encoding)
    failure, _ = try_open(context)
    asked = (name for name in _COLOURS if name in encoding.options)
    said: dict[str, Any] = {_COLOURS[name]: int(getattr(context, name)) for name in asked}
    return failure, dataclasses.replace(info.colour, **said)


def configure(context: VideoCodecContext, info: SourceInfo, encoding: Encoding) -> None:
    """Set everything but the options: size, clock, colour, shape of pixels, fields, threads."""
    context.width, context.height = info.width, info.height
    context.pix_fmt = encoding.pix_fmt
    context.framerate = info.rate
    context.time_base = encoding.time_base or 1 / info.rate
    # What FFmpeg's encoders begin with: PyAV's streams have no rate, for which MPEG's take their coarsest quantizer.
    context.bit_rate = create_context(encoding.codec).bit_rate or 0
    # The parameter sets go into the container's header once; all segments share it.
    flags = context.flags | Flags.global_header
    if encoding.interlaced:
        flags |= Flags.interlaced_dct | Flags.interlaced_me
        context.field_order = info.field_order
    context.flags = flags
    # Frames side by side, as FFmpeg does it. PyAV's default is slices of one frame, and slices know nothing of each
    # other: x264 on 16 cores makes 11 of them and needs a tenth more bits for the same 720p. Left to choose, x264 takes
    # frames, and slices for `-tune zerolatency`, with which no frame may wait for others.
    context.thread_type = ThreadType.NONE if encoding.codec == "libx264" else ThreadType.AUTO
    if encoding.codec == RAW:
        context.thread_count = 1  # with more, each frame would wait there for the next one
    if info.sample_aspect_ratio:
        context.sample_aspect_ratio = info.sample_aspect_ratio
    context.color_range = info.colour.range
    for name, value in (
        ("color_primaries", info.colour.primaries),
        ("color_trc", info.colour.transfer),
        ("colorspace", info.colour.matrix),
    ):
        if value != UNSPECIFIED:
            setattr(context, name, value)


def _hdr_params(codec: str, hdr: Hdr) -> str | None:
    parts: list[str] = []
    light = None if hdr.light is None else f"{hdr.light[0]},{hdr.light[1]}"
    if codec == "libx264":
        if hdr.mastering:
            parts.append(f"mastering-display={hdr.mastering.to_sei_text()}")
        if light:
            parts.append(f"cll={light}")
    elif codec == "libx265":
        if hdr.mastering:
            parts.append(f"master-display={hdr.mastering.to_sei_text()}")
        if light:
            parts.append(f"max-cll={light}")
    elif codec == "libsvtav1":
        if hdr.mastering:
            parts.append(f"mastering-display={hdr.mastering.to_svt_text()}")
        if light:
            parts.append(f"content-light={light}")
    else:
        return None
    return ":".join(parts)
