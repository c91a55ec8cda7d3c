"""What the user asks of an encoder, checked before any file is looked at."""

import contextlib
import dataclasses
import difflib
import functools
import os
from collections.abc import Mapping
from fractions import Fraction

import av
from av.codec import Codec
from av.codec.codec import Capabilities, UnknownCodecError
from av.codec.context import CodecContext
from av.video.codeccontext import VideoCodecContext
from av.video.format import VideoFormat

from carfix.errors import MissingPartError, UsageError
from carfix.video.faults import MEDIA_ERRORS, captured_log, reason, said
from carfix.video.muxer import FRAMES, Y4M
from carfix.video.scheduling import kept_scheduling
from carfix.video.x264 import check_x264

DEFAULT_CODEC = "libx264"
#: Visually lossless with x264: what was restored is not compressed away again.
DEFAULT_CRF = 17.0

#: FFmpeg's name for video that is not compressed.
RAW = "rawvideo"

#: How many similar names are looked at for one to propose; FFmpeg has as many decoders.
_SIMILAR = 8

#: What tells encoders that need a device.
_HARDWARE = Capabilities.hardware | Capabilities.hybrid

#: Encoders whose own settings are one text of KEY=VALUE parts, and the option that holds it.
PARAMS_OPTION = {"libx264": "x264-params", "libx265": "x265-params", "libsvtav1": "svtav1-params"}
_PARAMS_OPTIONS = (*PARAMS_OPTION.values(), "x264opts")
#: Options, and such parts, that say how the rate is controlled, so that no quality is asked for beside them.
_RATE_CONTROL = {"crf", "b", "qp", "global_quality", "lossless", "bitrate", "rc", "tbr"}

#: A picture that every encoder takes, to try settings on that must hold for any file.
_TRIAL_SIZE = (256, 144)
#: Encoders for pictures of some sizes only.
_TRIAL_SIZES = {"dnxhd": (1920, 1080)}
_TRIAL_RATE = Fraction(25)
#: What helps, by what encoders say when they refuse a video.
_CURES = {
    "strict_std_compliance": "-x strict=unofficial allows it",  # Motion JPEG of limited range
    "Error setting preset/tune": "x265 has the tunings psnr, ssim, grain, zerolatency, fastdecode and animation",
    "Interlaced encoding is not supported": "-x flags=-ildct encodes its frames as progressive ones",  # DNxHR
    "Valid DNxHD profiles": "sizes from 256x120 on take -x profile=dnxhr_sq -pix_fmt yuv422p",
}

#: Options of the command line that not every encoder has, and what it may have instead, best first.
_FOR_SOME: Mapping[str, tuple[str, ...]] = {"crf": ("cq", "qp"), "preset": ("cpu-used",), "tune": ()}

#: How x264 and x265 only warn of a part of their parameters, or a value, that they do not know.
_PASSED_OVER = ("parsing option", "nknown option", "Invalid value for")

#: What people call codecs that FFmpeg calls otherwise.
_NAMES = {"h265": "hevc", "avc": "h264", "xvid": "mpeg4"}

# SVT-AV1 writes a page about itself to stderr unless told that only errors matter.
os.environ.setdefault("SVT_LOG", "1")


@dataclasses.dataclass(frozen=True, kw_only=True)
class EncoderSettings:
    """How the restored video is encoded; None leaves a value to the encoder.

    Rates are texts as FFmpeg takes them ("2M", "800k"); they and all else may be numbers, too. Raises `UsageError` for
    what is no number and has to be one.
    """

    codec: str = DEFAULT_CODEC
    crf: float | None = None  # None: 17 where the encoder knows crf and no other rate control is asked for
    preset: str | None = None
    bitrate: str | None = None
    maxrate: str | None = None
    bufsize: str | None = None
    gop: int | None = None  # frames
    tune: str | None = None
    pix_fmt: str | None = None  # None: the input's
    options: Mapping[str, str] = dataclasses.field(default_factory=dict)

    def __post_init__(self) -> None:
        """Call the encoder by its own name: `h264`, a codec's, is FFmpeg's short one for its first encoder of that.

        And hold everything as FFmpeg takes it: `preset=8` and `{"threads": 1}` are what one writes in Python.
        """
        with contextlib.suppress(UnknownCodecError):  # said by who checks
            object.__setattr__(self, "codec", Codec(self.codec, "w").name)
        for name in ("preset", "bitrate", "maxrate", "bufsize", "tune"):
            if (value := getattr(self, name)) is not None:
                object.__setattr__(self, name, str(value))
        object.__setattr__(self, "options", {key: str(value) for key, value in self.options.items()})
        for name, number in (("crf", float), ("gop", int)):
            if (value := getattr(self, name)) is not None:
                try:
                    object.__setattr__(self, name, number(value))
                except (TypeError, ValueError):
                    raise UsageError(f"{name} is a number, not {value!r}") from None

    def to_options(self) -> dict[str, str]:
        """As options of FFmpeg. Raises `UsageError` for an encoder or option that does not exist."""
        known = known_options(self.codec)
        named = {
            "crf": None if self.crf is None else f"{self.crf:g}",
            "preset": self.preset,
            "b": self.bitrate,
            "maxrate": self.maxrate,
            "bufsize": self.bufsize,
            "g": None if self.gop is None else str(self.gop),
            "tune": self.tune,
        }
        options = {key: value for key, value in named.items() if value is not None} | dict(self.options)
        if self.codec == "libx265":
            # x265 writes its settings to stderr, where they would tear the progress bar.
            own = options.get("x265-params")
            options["x265-params"] = "log-level=error" + (f":{own}" if own else "")
        if self.crf is not None and self.crf < 0:
            raise UsageError(f"-crf must not be negative, not {self.crf:g}")
        check_x264(self.codec, options, self.crf)
        for key in options:
            if key not in known:
                hint = _instead(self.codec, key, known)
                raise UsageError(f"the encoder {self.codec} has no option {key!r}{hint}")
        parts = (part for key in _PARAMS_OPTIONS for part in options.get(key, "").split(":"))
        # Of `x264-params=crf=22` and a crf FFmpeg takes the latter.
        if "crf" in known and _RATE_CONTROL.isdisjoint({*options, *(part.split("=")[0] for part in parts)}):
            options["crf"] = f"{DEFAULT_CRF:g}"
        return options


def _instead(codec: str, key: str, known: frozenset[str]) -> str:
    """What may be meant by an option that `codec` has not, as the rest of a sentence."""
    if key in _FOR_SOME:
        like = next((f"it has -x {name}=VALUE" for name in _FOR_SOME[key] if name in known), "leave it out")
        return f"; {like}"
    if close := difflib.get_close_matches(key, known, 1):
        return f"; did you mean {close[0]}?"
    # Of these two FFmpeg's options are but a few.
    within = PARAMS_OPTION[codec] if codec in ("libx265", "libsvtav1") else None
    return f"; its own are given by -x {within}={key}=VALUE" if within else ""


def settings_for(settings: EncoderSettings, format: str) -> EncoderSettings:
    """The settings that go with the container `format`. Raises `UsageError` for an encoder where none can be."""
    if format in FRAMES:
        if settings.codec not in (DEFAULT_CODEC, RAW):
            name = "y4m" if format == Y4M else format
            raise UsageError(f"{name} holds bare frames: it goes with no -c:v")
        return EncoderSettings(codec=RAW, pix_fmt=settings.pix_fmt)
    if format == "avi" and settings.codec == DEFAULT_CODEC:
        # AVI counts frames as they are decoded: players would show them late, by as many as are reordered.
        return dataclasses.replace(settings, options={"bf": "0", **settings.options})
    return settings


def _find_encoder(name: str) -> Codec:
    try:
        codec = Codec(name, "w")
    except UnknownCodecError:
        if name == "copy":
            raise UsageError(
                "what is copied is not restored: leave -c:v copy out, or name an encoder"
            ) from None
        similar = difflib.get_close_matches(name, av.codec.codecs_available, _SIMILAR)
        close = (
            [_NAMES[name]] if name in _NAMES else [other for other in similar if _encodes_video(other)][:2]
        )
        hint = f"; did you mean {' or '.join(close)}?" if close else ""
        raise UsageError(f"unknown encoder {name!r}{hint}") from None
    if codec.type != "video":
        raise UsageError(f"{name} is not a video encoder but one for {codec.type}")
    return codec


def _encodes_video(name: str) -> bool:
    try:
        return Codec(name, "w").type == "video"
    except UnknownCodecError:
        return False  # it only decodes


@functools.cache
def known_options(name: str) -> frozenset[str]:
    """Names of the options that an encoder has, FFmpeg's for all and its own. Raises `UsageError`."""
    context = CodecContext.create(_find_encoder(name), "w")
    options = context.supported_options
    return frozenset(option.name for option in (*options.generic, *options.private))


@functools.cache
def all_options() -> frozenset[str]:
    """Names of the options that any video encoder has."""
    names = filter(_encodes_video, av.codec.codecs_available)
    return frozenset().union(*map(known_options, names))


def supported_pix_fmts(codec: str) -> list[str] | None:
    """Names of the pixel formats that the encoder takes; None where it does not say."""
    formats = _find_encoder(codec).video_formats
    return None if formats is None else [format.name for format in formats]


def check_settings(settings: EncoderSettings) -> None:
    """Find settings that cannot be right whatever the input holds, by opening the encoder on a small picture.

    Raises `UsageError`: unknown encoder, option or value, a pixel format that the encoder does not take;
    `MissingPartError` for an encoder of hardware that is not there.
    """
    options = settings.to_options()
    formats = supported_pix_fmts(settings.codec)
    if settings.pix_fmt is not None:
        try:
            VideoFormat(settings.pix_fmt)
        except ValueError:
            close = difflib.get_close_matches(settings.pix_fmt, formats or [], 1)
            hint = f"; did you mean {close[0]}?" if close else ""
            raise UsageError(f"unknown pixel format {settings.pix_fmt!r}{hint}") from None
        if formats is not None and settings.pix_fmt not in formats:
            raise UsageError(
                f"the encoder {settings.codec} does not take {settings.pix_fmt}, but {', '.join(formats)}"
            )
    pix_fmt = formats[0] if formats else "yuv420p"
    if _find_encoder(settings.codec).capabilities & _HARDWARE:
        failure, _ = _try_picture(settings.codec, pix_fmt, {})
        if failure:
            raise MissingPartError(
                f"the encoder {settings.codec} does not open on this machine ({failure}); install what drives its "
                f"device, or use another -c:v such as {DEFAULT_CODEC}"
            )
    failure, lines = _try_picture(settings.codec, settings.pix_fmt or pix_fmt, options)
    unknown = [line for line in lines if any(words in line for words in _PASSED_OVER)]
    if failure or unknown:
        raise UsageError(f"the encoder {settings.codec} refuses these options: {failure or unknown[0]}")


def _try_picture(codec: str, pix_fmt: str, options: dict[str, str]) -> tuple[str | None, list[str]]:
    context = create_context(codec)
    context.width, context.height = _TRIAL_SIZES.get(codec, _TRIAL_SIZE)
    context.pix_fmt = pix_fmt
    context.framerate = _TRIAL_RATE
    context.time_base = 1 / _TRIAL_RATE
    context.options = options
    return try_open(context)


def create_context(codec: str) -> VideoCodecContext:
    """An encoder that is not open yet. Raises `UsageError`."""
    context = CodecContext.create(_find_encoder(codec), "w")
    assert isinstance(context, VideoCodecContext)
    return context


def try_open(context: VideoCodecContext) -> tuple[str | None, list[str]]:
    """Why the encoder does not open, or None, and what it said about its options."""
    context.thread_count = 1  # nothing logs from another thread: see `captured_log`
    failure: str | None = None
    with captured_log() as log, kept_scheduling():
        try:
            context.open()
        except MEDIA_ERRORS as error:
            failure = str(getattr(error, "strerror", None) or reason(error))
    if failure is not None:
        lines = said(log)
        cures = [cure for words, cure in _CURES.items() if any(words in line for line in lines)]
        if lines and lines[0].endswith(":"):  # DNxHD lists all that it knows, two pages long
            lines = [lines[0].partition(". ")[0]]
        failure = "; ".join(line.rstrip(".") for line in (*lines, *cures)) or failure
    return failure, said(log, av.logging.WARNING)
