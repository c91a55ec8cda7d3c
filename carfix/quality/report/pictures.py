"""Which frames a report shows, and their pictures as WebP within a budget of bytes."""

import base64
import contextlib
import dataclasses
from collections.abc import Callable, Sequence

import av
import numpy as np
from av.video.frame import VideoFrame
from av.video.reformatter import Colorspace

from carfix.errors import CarfixError
from carfix.quality.damage import Damage
from carfix.quality.methods import released
from carfix.quality.metrics import Numbers
from carfix.quality.reader import LumaFrame, read_frames, select
from carfix.quality.results import Comparison, Result
from carfix.video.luma import luma_format, write_luma

#: Frames of the lowest PSNR that are shown.
WORST = 3
#: The worst frames lie at least this share of the video apart: neighbours show the same.
SPREAD = 1 / 20

#: Of all pictures of a page; base64 makes 4 bytes of 3. What the curves take grows with the frames.
PICTURE_BUDGET = 10_000_000
#: WebP qualities that are tried until the pictures fit.
QUALITIES = (95, 90, 84, 76, 66, 50)
#: Lossless WebP takes about 10 bits a pixel of compressed video: more pixels need not be tried.
LOSSLESS_PIXELS = PICTURE_BUDGET * 8 // 10

#: Pictures of at least this height are BT.709 where a file does not say it.
HD_HEIGHT = 720
UNSPECIFIED = 2


@dataclasses.dataclass(frozen=True)
class Moment:
    """A frame that the page shows: why, and its number in the reference."""

    label: str
    reference_index: int


@dataclasses.dataclass(frozen=True)
class Pictures:
    """Data URIs by moment: the reference's picture, then each candidate's."""

    uris: list[list[str]]
    lossless: bool


def positions(result: Result) -> dict[int, int]:
    """Where each frame of the reference stands in the result's arrays."""
    return {index: position for position, index in enumerate(result.reference_indices)}


def moments(comparison: Comparison) -> list[Moment]:
    """The worst frames and the median frame of the last candidate, and its best gain over the first.

    Raises `CarfixError` if there is no frame that all candidates have.
    """
    first, last = comparison.results[0], comparison.results[-1]
    common = sorted(set.intersection(*(set(result.reference_indices) for result in comparison.results)))
    if not common:
        raise CarfixError(
            "a page shows pictures side by side, and there is no frame that all candidates have; make a page of each"
        )
    psnr = _values(last, common)
    order = np.argsort(psnr, kind="stable")
    distance = max(1, int(len(common) * SPREAD))
    worst: list[int] = []
    for position in order:
        if len(worst) < WORST and all(abs(int(position) - other) >= distance for other in worst):
            worst.append(int(position))
    found = [(f"worst {number + 1}", position) for number, position in enumerate(worst)]
    found.append(("median", int(order[len(order) // 2])))
    if last is not first:
        found.append(("best gain", int(np.argmax(psnr - _values(first, common)))))
    seen: dict[int, str] = {}
    for label, position in found:
        seen[position] = f"{seen[position]}, {label}" if position in seen else label
    return [Moment(label, common[position]) for position, label in seen.items()]


def _values(result: Result, reference_indices: Sequence[int]) -> Numbers:
    where = positions(result)
    chosen: Numbers = result.quality.psnr[[where[index] for index in reference_indices]]
    return chosen


def pictures(comparison: Comparison, shown: Sequence[Moment], budget: int = PICTURE_BUDGET) -> Pictures:
    """Decode, filter or restore the frames of `shown` again and encode them, at most `budget` bytes in all."""
    wanted = sorted(moment.reference_index for moment in shown)
    reference = comparison.reference
    decoded = select(read_frames(reference.path, stream=reference.chosen.stream, damage=Damage()), wanted)
    references = {frame.index: frame for frame in decoded}
    # The reference's matrix for all: filters lose it, and a picture must not differ by it.
    space = colorspace_of(next(iter(references.values())))
    columns = [{index: rgb(frame, space) for index, frame in references.items()}]
    for result in comparison.results:
        where = positions(result)
        numbers = {result.indices[where[index]]: index for index in wanted}
        candidate = result.candidate
        with released(candidate.method):
            frames = candidate.method.frames(
                candidate.path, sorted(numbers), Damage(), stream=candidate.chosen.stream
            )
            columns.append({numbers[frame.index]: rgb(frame, space) for frame in frames})
    return encoded([[column[moment.reference_index] for column in columns] for moment in shown], budget)


def encoded(rows: list[list[VideoFrame]], budget: int = PICTURE_BUDGET) -> Pictures:
    """RGB pictures as data URIs: lossless if they fit the budget, else at the highest quality that does."""
    pixels = sum(picture.width * picture.height for row in rows for picture in row)
    attempts: list[Callable[[VideoFrame], bytes]] = []
    if pixels <= LOSSLESS_PIXELS:
        attempts.append(lossless_webp)
    attempts += [_at(quality) for quality in QUALITIES]
    for encode in attempts:
        files = _files(rows, encode, budget if encode is not attempts[-1] else None)
        if files is not None:
            uris = [[_data_uri(data) for data in row] for row in files]
            return Pictures(uris=uris, lossless=encode is lossless_webp)
    raise AssertionError("the last quality has no budget")


def _data_uri(webp: bytes) -> str:
    return "data:image/webp;base64," + base64.b64encode(webp).decode()


def _at(quality: int) -> Callable[[VideoFrame], bytes]:
    return lambda picture: lossy_webp(picture, quality)


def _files(
    rows: list[list[VideoFrame]], encode: Callable[[VideoFrame], bytes], budget: int | None
) -> list[list[bytes]] | None:
    """All pictures encoded, None as soon as they exceed the budget."""
    files: list[list[bytes]] = []
    spent = 0
    for row in rows:
        files.append([])
        for picture in row:
            data = encode(picture)
            spent += len(data)
            if budget is not None and spent > budget:
                return None
            files[-1].append(data)
    return files


def rgb(frame: LumaFrame, space: Colorspace) -> VideoFrame:
    """The frame as it looks, with the luma that was measured."""
    picture = frame.picture
    if picture is None:
        raise CarfixError("a method gave frames without pictures")
    # Of RGB the luma was computed; no method changes it.
    with contextlib.suppress(CarfixError):
        write_luma(picture, frame.luma, luma_format(picture.format.name))
    return picture.reformat(format="rgb24", src_colorspace=space)


def colorspace_of(frame: LumaFrame) -> Colorspace:
    """The matrix that the frame states, or what players take where it states none."""
    stated = frame.picture.colorspace if frame.picture is not None else UNSPECIFIED
    if stated in set(Colorspace) and stated != UNSPECIFIED:
        return Colorspace(stated)
    return Colorspace.ITU709 if frame.luma.shape[0] >= HD_HEIGHT else Colorspace.ITU601


def lossless_webp(picture: VideoFrame) -> bytes:
    """An RGB picture as WebP, every code kept."""
    return _webp(picture.reformat(format="bgra"), {"lossless": "1", "compression_level": "3"})


def lossy_webp(picture: VideoFrame, quality: int) -> bytes:
    """An RGB picture as WebP of a quality of 0 to 100."""
    frame = picture.reformat(format="yuv420p", dst_colorspace=Colorspace.ITU601)
    return _webp(frame, {"quality": str(quality), "compression_level": "3"})


def _webp(frame: VideoFrame, options: dict[str, str]) -> bytes:
    codec = av.CodecContext.create("libwebp", "w")
    codec.width, codec.height = frame.width, frame.height
    codec.pix_fmt = frame.format.name
    codec.options = options
    return b"".join(bytes(packet) for packet in [*codec.encode(frame), *codec.encode(None)])
