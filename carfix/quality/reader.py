"""Luma of decoded frames with their presentation times, one at a time: memory stays flat over any length."""

import contextlib
import dataclasses
import itertools
import sys
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from pathlib import Path
from typing import IO, TypeVar

import av
import numpy as np
from av.container import InputContainer
from av.video.frame import PictureType, VideoFrame
from av.video.stream import VideoStream

from carfix.errors import CarfixError
from carfix.quality.damage import Damage, decoded_around
from carfix.restore.engine import Planes
from carfix.restore.engine import Wanted as Moving
from carfix.restore.trust import Bounds
from carfix.video.choice import find_video
from carfix.video.concealment import conceal
from carfix.video.convert import FULL_RANGE, has_rgb, with_luma
from carfix.video.demux import decoded
from carfix.video.faults import MEDIA_ERRORS, reason
from carfix.video.luma import read_luma
from carfix.video.quantizer import export_quantizers, mean_quantizer
from carfix.video.source import open_input

T = TypeVar("T")

#: Numbers of the frames that are asked for, ascending; None is all.
Wanted = Sequence[int] | None
#: Stands for "to the last frame" in a range of wanted numbers.
END = sys.maxsize - 1


def wanted_range(skip: int = 0, count: int | None = None) -> Wanted:
    """The `count` frames behind the first `skip`."""
    return range(skip, END + 1 if count is None else skip + count)


#: FFmpeg's AVFMT_NOTIMESTAMPS: a format that states no times, of which FFmpeg counts some.
_NO_TIMESTAMPS = 0x80

_KINDS = {int(PictureType.I): "I", int(PictureType.P): "P", int(PictureType.B): "B"}


@dataclasses.dataclass(frozen=True)
class LumaFrame:
    """One frame: codes `[H, W]` of `bit_depth` bits, shown `time` seconds after the file's zero."""

    luma: Planes
    bit_depth: int
    #: Of one that states none, the end of the frame before it; None where the file states none.
    time: float | None
    index: int = 0  # its number in the file, in presentation order
    kind: str = ""  # I, P or B, where the decoder says it
    quantizer: float | None = None  # mean over the frame, where the decoder exports it and it was asked for
    picture: VideoFrame | None = None  # what the luma was taken from, colour included
    strength: float = 1.0  # the share of a network's correction that it takes, where a network restores it
    bounds: Bounds | None = None  # up to which that is trusted; None: all of it
    moving: Moving | None = None  # where it does not repeat the frame before it; None: everywhere


def luma_of(frame: VideoFrame) -> tuple[Planes, int]:
    """Codes `[H, W]` and bit depth of a frame's luma; of RGB and packed formats, converted to YCbCr 4:4:4."""
    deep = max(component.bits for component in frame.format.components) > 8
    frame, layout = with_luma(frame, "yuv444p16le" if deep else "yuv444p")
    return read_luma(frame, layout), layout.bit_depth


def read_frames(
    source: Path | IO[bytes],
    *,
    name: str | None = None,
    stream: int | None = None,
    quantizers: bool = False,
    damage: Damage | None = None,
) -> Generator[LumaFrame]:
    """Every frame of a video in presentation order; `name` stands for a pipe in messages.

    Of several videos it is the one of the number `stream` in the file, or the one that a restore takes unasked. With
    `damage`, which counts it, a file's damaged packets are passed over. Raises `CarfixError` for a file that is
    missing, has no video or is broken: with `damage` only if not a frame of it can be decoded.
    """
    frames = decode(source, name=name, stream=stream, quantizers=quantizers, damage=damage)
    due: float | None = None  # when the next frame is shown, by the one before it
    for index, frame in enumerate(frames):
        luma, bit_depth = luma_of(frame)
        # Program streams (DVDs, recorders) state no time for frames that begin in the packet of another.
        time, lasts = due if frame.time is None else frame.time, _seconds(frame)
        due = time + lasts if time is not None and lasts else None
        yield LumaFrame(
            luma=luma,
            bit_depth=bit_depth,
            time=time,
            index=index,
            kind=_KINDS.get(frame.pict_type, ""),
            quantizer=mean_quantizer(frame) if quantizers else None,
            picture=frame,
        )


def _seconds(frame: VideoFrame) -> float:
    """How long the frame is shown; 0 where nothing says it."""
    return float((frame.duration or 0) * (frame.time_base or 0))


def decode(
    source: Path | IO[bytes],
    *,
    name: str | None = None,
    stream: int | None = None,
    quantizers: bool = False,
    damage: Damage | None = None,
) -> Iterator[VideoFrame]:
    """The decoded frames of `source`, with the decoder's quantizers as side data if asked for; see `read_frames`."""
    name = name or str(source)
    empty = True
    try:
        with _opened(source) as container:
            video = find_video(container, Path(name), None if stream is None else str(stream))
            timeless = bool(container.format.flags & _NO_TIMESTAMPS)
            for frame in _decoded(container, video, quantizers, damage):
                empty = False
                if timeless:
                    frame.pts = None  # of raw MPEG-1, say, FFmpeg leaves out the time of the second frame
                yield frame
    except MEDIA_ERRORS as error:
        raise CarfixError(f"{name} cannot be decoded: {reason(error)}") from error
    if empty and damage is not None and damage.failure:
        raise CarfixError(f"{name}: not a single frame of its video could be decoded: {damage.failure}")


def _decoded(
    container: InputContainer, video: VideoStream, quantizers: bool, damage: Damage | None
) -> Iterator[VideoFrame]:
    if damage is None:
        video.thread_type = "AUTO"
        note = export_quantizers(video.codec_context) if quantizers else lambda packet: None
        return decoded(container, video, note)
    # As a restore decodes, whether or not quantizers are asked for: else a decoder would give up other frames at
    # damage. With threads within a frame, PyAV's default: with frames decoded ahead, an error takes finished neighbours
    # along, at the end of a file without a word.
    conceal(video.codec_context)
    return decoded_around(container, video, export_quantizers(video.codec_context), damage)


@contextlib.contextmanager
def _opened(source: Path | IO[bytes]) -> Iterator[InputContainer]:
    if isinstance(source, Path):
        with open_input(source) as container:
            yield container
    else:
        with av.open(source, mode="r", format="nut") as container:
            yield container


def select(frames: Iterator[LumaFrame], wanted: Wanted) -> Iterator[LumaFrame]:
    """The frames whose number is in `wanted`; nothing behind the last of them is decoded."""
    if wanted is None:
        yield from frames
    elif wanted:
        for frame in frames:
            if frame.index in wanted:
                yield frame
            if frame.index >= wanted[-1]:
                return


def stacked(frames: Sequence[LumaFrame]) -> Planes:
    """The luma of frames of one size and depth as `[N, H, W]`."""
    planes: Planes = np.stack([frame.luma for frame in frames])  # type: ignore[assignment]  # all of one type
    return planes


def has_full_range(frame: LumaFrame) -> bool:
    """Whether black is code 0 by the frame's own word. RGB is not: its luma was computed in the limited range."""
    picture = frame.picture
    if picture is None or has_rgb(picture):
        return False
    return picture.format.name.startswith("yuvj") or picture.color_range == FULL_RANGE


def in_batches(items: Iterable[T], size: int) -> Iterator[list[T]]:
    """Lists of `size` items, the last one shorter."""
    iterator = iter(items)
    while batch := list(itertools.islice(iterator, size)):
        yield batch


def in_alike_batches(items: Iterable[T], size: int, alike: Callable[[T], object]) -> Iterator[list[T]]:
    """Lists of at most `size` neighbours for which `alike` says the same: a file may change its size on the way."""
    for _, run in itertools.groupby(items, key=alike):
        yield from in_batches(run, size)


def layout(frame: LumaFrame) -> tuple[tuple[int, ...], int]:
    """What frames must share to be stacked: their size and bit depth."""
    return frame.luma.shape, frame.bit_depth
