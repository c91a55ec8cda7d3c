"""Inputs: opening, and what must be known of the video before work starts."""

import contextlib
import dataclasses
import os
import stat
from collections.abc import Callable, Iterator, Mapping
from fractions import Fraction
from pathlib import Path
from typing import IO, Any

import av
from av.container import InputContainer
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from carfix.errors import CarfixError, UsageError
from carfix.video.address import address, address_hint, as_typed
from carfix.video.choice import find_video, has_form, videos_of
from carfix.video.colour import (
    UNSPECIFIED,
    UNSPECIFIED_RANGE,
    Colour,
    Hdr,
    chroma_location,
    display_matrix_of_frame,
    hdr_of_frame,
    matrix_of,
)
from carfix.video.cropping import shown_size
from carfix.video.demux import demux
from carfix.video.faults import MEDIA_ERRORS, reason
from carfix.video.hwaccel import NONE, Hwaccel, candidates, comes_from_device
from carfix.video.pyav import KEEP_ODD_TAGS
from carfix.video.truncation import blank, is_stub, lacks_index
from carfix.video.userdata import UserData, user_data_of_frame

#: A stream that states no rate, such as raw H.264 without VUI timing, plays at FFmpeg's default.
DEFAULT_RATE = Fraction(25)
#: Above this an estimate is the time base in disguise (1000 for Matroska, 90000 for TS), not a frame rate.
MAX_RATE = 1000

_Y4M = "yuv4mpegpipe"

#: AVFMT_FLAG_GENPTS: FFmpeg invents missing presentation times in decoding order, which is wrong as soon as
#: there are B-frames (AVI, raw H.264). PyAV turns it on; missing times are better seen as missing.
_GENERATE_PTS = 0x1

#: In these formats what tells a stream's form is sent with it.
SENT_FORMS = ("mpegts", "mpeg")
#: How far FFmpeg looks for that where its 5 MB and 7 s are not enough, since sound or a second camera begins later:
#: bytes and microseconds. It takes a quarter of a second.
_FAR = {"probesize": "50000000", "analyzeduration": "60000000"}

#: AVFieldOrder's value of frames that are no two fields.
PROGRESSIVE = 1
#: AVFieldOrder values that mean two fields a frame: tt, bb, tb, bt.
INTERLACED_FIELD_ORDERS = range(2, 6)
#: Those of them that show the bottom field first: bb, tb.
BOTTOM_FIRST_ORDERS = (3, 4)


@dataclasses.dataclass(frozen=True, kw_only=True)
class SourceInfo:
    """What the work needs to know of an input's video stream."""

    path: Path
    format: str  # FFmpeg's name of the demuxer, e.g. "mov,mp4,m4a,3gp,3g2,mj2"
    stream: int  # index of the video stream that is restored
    place: int  # how many other videos, pictures not counted, come before it
    codec: str
    time_base: Fraction  # seconds a tick
    width: int  # pixels
    height: int
    pix_fmt: str
    rate: Fraction  # frames a second: a hint for encoders, never used to compute times
    start: Fraction  # seconds: the container's earliest time, from which -ss counts
    duration: Fraction | None  # seconds, as the container states it
    sample_aspect_ratio: Fraction | None
    colour: Colour
    hdr: Hdr
    user_data: UserData
    field_order: int  # AVFieldOrder
    interlaced: bool
    display_matrix: tuple[int, ...] | None
    shown: tuple[int, int] | None = (
        None  # pixels: the part of the picture that its container shows; None: all of it
    )
    hwaccel: Hwaccel | None = None  # what decodes it; None: the CPU

    @property
    def frame_seconds(self) -> Fraction:
        """How long a frame is shown. A y4m's ticks are its frames, however fast the camera was: not every encoder takes
        such a rate as a hint.
        """
        return self.time_base if self.format == _Y4M else 1 / self.rate


@contextlib.contextmanager
def open_input(path: Path, hwaccel: Hwaccel | None = None) -> Iterator[InputContainer]:
    """Open `path` for reading, its video to be decoded by `hwaccel`.

    Raises `CarfixError` with one line that says why it cannot be.
    """
    check_readable(path)
    with open_container(path, hwaccel) as container:
        yield container


@contextlib.contextmanager
def open_container(source: Path | IO[bytes], hwaccel: Hwaccel | None = None) -> Iterator[InputContainer]:
    """Open a file, or a stream of bytes that need not be seekable. Raises `CarfixError`."""
    name = source if isinstance(source, Path) else "standard input"
    try:
        container = _opened(source, hwaccel, {})
        if isinstance(source, Path) and _lacks_forms(container):
            container.close()
            container = _opened(source, hwaccel, _FAR)
    except MEDIA_ERRORS as error:
        if isinstance(source, Path) and not source.exists():
            raise CarfixError(f"no such file: {as_typed(source)}{address_hint(source)}") from None
        why = reason(error)
        if isinstance(source, Path) and lacks_index(source):
            why = "its index (moov) is missing: the recording was cut off, or goes on still"
        elif isinstance(source, Path) and is_stub(source, error):
            why = "it ends within its header: the recording was cut off, or has just begun"
        elif isinstance(source, Path):
            why = blank(source) or why
        raise CarfixError(f"cannot read {name}: {why}") from error
    with container:
        container.flags &= ~_GENERATE_PTS
        yield container


def _opened(source: Path | IO[bytes], hwaccel: Hwaccel | None, options: Mapping[str, str]) -> InputContainer:
    name: Any = address(source) if isinstance(source, Path) else source
    decoder = hwaccel.settings() if hwaccel else None
    container: InputContainer = av.open(name, "r", options=dict(options), hwaccel=decoder, **KEEP_ODD_TAGS)
    return container


def _lacks_forms(container: InputContainer) -> bool:
    formless = not all(has_form(stream) for stream in container.streams)
    return formless and container.format.name in SENT_FORMS


def check_readable(path: Path) -> None:
    """Raises `UsageError` for folders, `CarfixError` for other things than files: a named pipe may never speak."""
    try:
        mode = path.stat().st_mode
        if stat.S_ISDIR(mode):
            os.listdir(path)  # noqa: PTH208 - whether it may be
            raise UsageError(f"{path} is a folder, not a video")
    except FileNotFoundError:
        return  # said by who opens it
    except OSError as error:
        raise CarfixError(f"cannot read {path}: {reason(error)}") from error
    if not stat.S_ISREG(mode):
        raise CarfixError(
            f"{path} is not a file; what comes through a pipe is read from -, as in carfix restore - OUT"
        )


def video_of(container: InputContainer, info: SourceInfo) -> VideoStream:
    """The stream that `info` describes, in its file opened again. Raises `CarfixError` if another file is there now."""
    streams = container.streams
    stream = streams[info.stream] if info.stream < len(streams) else None
    if not isinstance(stream, VideoStream) or stream.codec_context is None:
        raise CarfixError(f"{info.path} was replaced while it was restored")
    return stream


def probe(path: Path, stream: str | None = None) -> SourceInfo:
    """Open `path` and decode up to the first frame of its video, of several the one that `stream` specifies.

    Raises `CarfixError`: missing, unreadable, no such video stream, not a frame that can be decoded.
    """
    with open_input(path) as container:
        video = find_video(container, path, stream)
        return describe(container, video, _first_frame(container, video, path), path)


def probe_restored(path: Path, source: SourceInfo) -> SourceInfo:
    """As `probe`, of a file that `source` was restored into: of its videos, the one that was restored."""
    with open_input(path) as container:
        videos = videos_of(container.streams)
        alone = source.place >= len(videos)  # in a container that holds one video
        video = find_video(container, path) if alone else videos[source.place]
        return describe(container, video, _first_frame(container, video, path), path)


def decoded_by(info: SourceInfo, wanted: str, say: Callable[[str], None]) -> SourceInfo:
    """`info`, to be decoded as `--hwaccel` asks; `say` is told by what, if it asks for anything.

    A video that the device does not take, or hands out in a format that cannot be turned back code for code, is
    decoded on the CPU, as FFmpeg does. Raises `UsageError` for a device that is not known.
    """
    if wanted == NONE:
        return info
    why = "no device was found"
    for device in candidates(wanted):
        try:
            with open_input(info.path, device) as container:
                frame = _first_frame(container, video_of(container, info), info.path)
        except CarfixError as error:
            why = f"{device}: {error}"
            continue
        if comes_from_device(frame, info.pix_fmt):
            say(f"decoded on {device}")
            return dataclasses.replace(info, hwaccel=device)
        why = f"{device} does not take {info.codec} in {info.pix_fmt}"
    say(f"decoded on the CPU: {why}")
    return info


def describe(container: InputContainer, stream: VideoStream, frame: VideoFrame, path: Path) -> SourceInfo:
    """What the container, its video stream and the first frame of it say. Raises `CarfixError`."""
    context = stream.codec_context
    if stream.time_base is None:
        raise CarfixError(f"{path}: its video stream states no time base")
    return SourceInfo(
        path=path,
        format=container.format.name,
        stream=stream.index,
        # Those that damage made up, or that were announced and never sent, have no size, and are copied nowhere.
        place=sum(other.index < stream.index for other in videos_of(container.streams) if other.width),
        codec=context.codec.canonical_name,
        # PyAV 19 has rationals of its own, which know neither `//` nor `round`.
        time_base=Fraction(stream.time_base),
        width=frame.width,
        height=frame.height,
        pix_fmt=frame.format.name,
        rate=_rate(stream),
        start=Fraction(container.start_time or 0, av.time_base),
        duration=Fraction(container.duration, av.time_base) if container.duration else None,
        sample_aspect_ratio=Fraction(stream.sample_aspect_ratio) if stream.sample_aspect_ratio else None,
        colour=Colour(
            range=_first_set(UNSPECIFIED_RANGE, context.color_range, frame.color_range),
            primaries=_first_set(UNSPECIFIED, context.color_primaries, frame.color_primaries),
            transfer=_first_set(UNSPECIFIED, context.color_trc, frame.color_trc),
            matrix=matrix_of(frame, _first_set(UNSPECIFIED, context.colorspace, frame.colorspace)),
            chroma_location=chroma_location(container, stream.index),
        ),
        hdr=hdr_of_frame(frame),
        user_data=user_data_of_frame(frame),
        field_order=context.field_order,
        interlaced=frame.interlaced_frame or context.field_order in INTERLACED_FIELD_ORDERS,
        display_matrix=display_matrix_of_frame(frame),
        shown=shown_size(path, stream),
    )


def _first_set(unspecified: int, *values: int) -> int:
    return next((value for value in values if value != unspecified), unspecified)


def _rate(stream: VideoStream) -> Fraction:
    for rate in (stream.guessed_rate, stream.average_rate):
        if rate and 0 < rate <= MAX_RATE:
            return Fraction(rate)
    return DEFAULT_RATE


def _first_frame(container: InputContainer, stream: VideoStream, path: Path) -> VideoFrame:
    failure: BaseException | None = None
    try:
        for packet in demux(container, stream):
            try:
                for frame in packet.decode():
                    return frame
            except MEDIA_ERRORS as error:  # a damaged packet; the next keyframe may be whole
                failure = error
    except MEDIA_ERRORS as error:
        failure = error
    why = f": {reason(failure)}" if failure else ""
    raise CarfixError(f"{path}: not a single frame of its video could be decoded{why}")
