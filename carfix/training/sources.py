"""Pristine sources of a dataset: video files, folders of frames, and still photographs, all as luma."""

import hashlib
import itertools
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from av.packet import Packet
from av.video.frame import VideoFrame
from av.video.stream import VideoStream
from numpy.typing import NDArray

from carfix.errors import CarfixError
from carfix.training.encoding import Luma
from carfix.video.address import address
from carfix.video.checksums import SliceChecksums
from carfix.video.choice import find_video
from carfix.video.convert import SCALER_THREADS, with_luma
from carfix.video.demux import decoded
from carfix.video.faults import reason
from carfix.video.luma import read_luma
from carfix.video.source import probe

PHOTO_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".webp", ".tif", ".tiff", ".bmp"})

#: Frames a second of pictures, which tell none: of folders and of clips from photographs.
STILL_FPS = Fraction(25)

Size = tuple[int, int]  # width, height; one of them may be -2: even, keeps the aspect ratio


def is_photo(path: Path) -> bool:
    """Whether `path` is a still photograph by its suffix."""
    return path.suffix.lower() in PHOTO_SUFFIXES


def fitted(size: Size, width: int, height: int) -> Size:
    """`size` with -2 filled in for a source of `width` x `height`; both sides even."""
    target_width, target_height = size
    if target_width < 0:
        target_width = round(width * target_height / height)
    if target_height < 0:
        target_height = round(height * target_width / width)
    return max(2, target_width // 2 * 2), max(2, target_height // 2 * 2)


def luma_plane(frame: VideoFrame) -> Luma:
    """The luma codes of a decoded frame, `[H, W]`, 8 bits: deeper ones are rounded, and no range but RGB's changes."""
    frame, layout = with_luma(frame, "yuv420p")
    luma = read_luma(frame, layout)
    if layout.bit_depth == 8:
        return luma  # type: ignore[return-value] # 8 bits
    # Not by swscale, which dithers, in a pattern of blocks, and takes all deep gray for full range.
    above = layout.bit_depth - 8
    codes: Luma = np.minimum((luma.astype(np.uint32) + (1 << above >> 1)) >> above, 255).astype(np.uint8)
    return codes


def resized(luma: Luma, size: Size) -> Luma:
    """Luma `[H, W]` at the width and height of `size`, its codes averaged."""
    # gray to gray: swscale would convert the range between yuv420p and gray.
    frame = av.VideoFrame.from_ndarray(luma, format="gray")
    return luma_plane(
        frame.reformat(width=size[0], height=size[1], interpolation="AREA", threads=SCALER_THREADS)
    )


def prepared(luma: Luma, size: Size | None) -> Luma:
    """Luma `[H, W]` fitted to `size`, or as it is; an odd last row or column is cut off."""
    height, width = luma.shape
    if size is not None and (target := fitted(size, width, height)) != (width, height):
        return resized(luma, target)
    return luma[: height // 2 * 2, : width // 2 * 2]


def read_video(
    path: Path,
    *,
    size: Size | None,
    start: int,
    frames: int,
    taken: Callable[[VideoFrame], None] = lambda frame: None,
    sent: Callable[["Packet[VideoStream]"], None] = lambda packet: None,
) -> tuple[Luma, Fraction]:
    """Luma `[N, H, W]` and frame rate of up to `frames` frames of a video from frame `start` on.

    `taken` is given each of these frames, `sent` each packet before it is decoded. Raises `CarfixError` if nothing can
    be decoded.
    """
    planes: list[Luma] = []
    try:
        with av.open(address(path)) as container:
            stream = find_video(container, path)
            stream.thread_type = "AUTO"
            fps = Fraction(stream.average_rate or stream.guessed_rate or 25)
            for index, frame in enumerate(decoded(container, stream, sent)):
                if index >= start:
                    taken(frame)
                    planes.append(prepared(luma_plane(frame), size))
                if len(planes) >= frames:
                    break
    except (av.FFmpegError, OSError) as error:
        raise CarfixError(f"{path} cannot be decoded: {reason(error)}") from error
    return _stacked(planes, path), Fraction(fps)


def read_source(source: Path, *, size: Size | None, start: int, frames: int) -> tuple[Luma, Fraction, int]:
    """Of a video or a folder of pictures, as `read_video`; and how many of the frames are known to be damaged."""
    if source.is_dir():
        return *read_folder(source, size=size, start=start, frames=frames), 0
    damaged: list[bool] = []
    checksums, numbers = SliceChecksums(), itertools.count()

    def sent(packet: "Packet[VideoStream]") -> None:
        if start <= next(numbers) < start + frames:  # what has checksums has its frames in order
            checksums.look(packet)

    luma, fps = read_video(
        source,
        size=size,
        start=start,
        frames=frames,
        taken=lambda frame: damaged.append(frame.is_corrupt),
        sent=sent,
    )
    return luma, fps, sum(damaged) + checksums.wrong


def is_interlaced(source: Path) -> bool:
    """Whether the frames of a video show two moments, line by line, by what its first one says."""
    try:
        return not (source.is_dir() or is_photo(source)) and probe(source).interlaced
    except CarfixError:
        return False


def frames_in(file: Path) -> int | None:
    """Packets of a file that has a frame in each, without decoding it; None if it cannot be read."""
    try:
        with av.open(address(file)) as container:
            return sum(1 for packet in container.demux(find_video(container, file)) if packet.size)
    except (av.FFmpegError, OSError, CarfixError):
        return None


def read_folder(path: Path, *, size: Size | None, start: int, frames: int) -> tuple[Luma, Fraction]:
    """Luma `[N, H, W]` of a folder of pictures in the order of their names, taken as consecutive frames."""
    pictures = pictures_of(path)[start : start + frames]
    return _stacked([prepared(read_photo(picture), size) for picture in pictures], path), STILL_FPS


def pictures_of(folder: Path) -> list[Path]:
    """The picture files in `folder`, in the order of their names. Raises `CarfixError` if it cannot be read."""
    return [child for child in children_of(folder) if is_photo(child) and child.is_file()]


def children_of(folder: Path) -> list[Path]:
    """What lies in `folder`, in the order of the names. Raises `CarfixError` if it cannot be read."""
    try:
        return sorted(folder.iterdir())
    except OSError as error:
        raise CarfixError(f"the folder {folder} cannot be read: {reason(error)}") from error


def source_sha256(source: Path) -> str:
    """SHA-256 of a file, or of the pictures of a folder one after another. Raises `CarfixError`."""
    digest = hashlib.sha256()
    for file in pictures_of(source) if source.is_dir() else [source]:
        if file.exists() and not file.is_file():  # a named pipe may never speak, a device never end
            raise CarfixError(f"{file} is not a file")
        try:
            with file.open("rb") as stream:
                while block := stream.read(1 << 20):
                    digest.update(block)
        except OSError as error:
            raise CarfixError(f"{file} cannot be read: {reason(error)}") from error
    return digest.hexdigest()


def _stacked(planes: list[Luma], path: Path) -> Luma:
    if not planes:
        raise CarfixError(f"{path} holds no frame in the range that was asked for")
    if len({plane.shape for plane in planes}) != 1:
        raise CarfixError(f"{path} holds frames of different sizes")
    return np.stack(planes)


def read_photo(path: Path) -> Luma:
    """Luma of a picture in the limited range that cameras write, `[H, W]`."""
    return rounded_codes(16 + (219 / 255) * full_range_luma(path))


def full_range_luma(path: Path) -> NDArray[np.float32]:
    """BT.601 luma of a picture, `[H, W]`, 0 to 255. Raises `CarfixError` if it cannot be decoded."""
    try:
        with av.open(address(path)) as container:
            frame = next(container.decode(video=0))
            rgb = frame.reformat(format="rgb24", threads=SCALER_THREADS).to_ndarray().astype(np.float32)
    except (StopIteration, IndexError):
        raise CarfixError(f"{path} cannot be decoded: there is no picture in it") from None
    except (av.FFmpegError, OSError) as error:
        raise CarfixError(f"{path} cannot be decoded: {reason(error)}") from error
    luma: NDArray[np.float32] = rgb @ np.array([0.299, 0.587, 0.114], np.float32)
    return luma


def rounded_codes(luma: NDArray[np.float32]) -> Luma:
    """The nearest codes of 8 bits."""
    codes: Luma = np.clip(np.rint(luma), 0, 255).astype(np.uint8)
    return codes
