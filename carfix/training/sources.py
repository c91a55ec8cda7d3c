"""Pristine sources of a dataset: video files, folders of frames, and still photographs, all as luma."""

import hashlib
import json
from collections.abc import Iterator, Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import torch
from av.video.frame import VideoFrame
from numpy.typing import NDArray
from torch.nn import functional

from carfix.errors import CarfixError, UsageError
from carfix.training.encoding import Luma
from carfix.training.places import NOTES, Identity, identity
from carfix.video.address import address
from carfix.video.choice import find_video
from carfix.video.convert import SCALER_THREADS, with_luma
from carfix.video.demux import decoded
from carfix.video.faults import reason
from carfix.video.luma import read_luma
from carfix.video.manifest import FILE_NAME
from carfix.video.source import probe
from carfix.video.suffixes import VIDEO_SUFFIXES

PHOTO_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".webp", ".tif", ".tiff", ".bmp"})

#: What a clip from a photograph looks like. The camera drifts by up to this many pixels a frame ...
STILL_DRIFT = 0.7
#: ... and its sensor adds Gaussian noise of a standard deviation (8-bit codes) between these: never noise-free.
STILL_NOISE = (0.3, 1.5)
STILL_FPS = Fraction(25)
#: Pixels kept free around the moving crop.
STILL_BORDER = 16

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


def _resized(luma: Luma, size: Size) -> Luma:
    # gray to gray: swscale would convert the range between yuv420p and gray.
    frame = av.VideoFrame.from_ndarray(luma, format="gray")
    return luma_plane(
        frame.reformat(width=size[0], height=size[1], interpolation="AREA", threads=SCALER_THREADS)
    )


def _prepared(luma: Luma, size: Size | None) -> Luma:
    height, width = luma.shape
    if size is not None and (target := fitted(size, width, height)) != (width, height):
        return _resized(luma, target)
    return luma[: height // 2 * 2, : width // 2 * 2]


def read_video(path: Path, *, size: Size | None, start: int, frames: int) -> tuple[Luma, Fraction]:
    """Luma `[N, H, W]` and frame rate of up to `frames` frames of a video from frame `start` on.

    Raises `CarfixError` if nothing can be decoded.
    """
    planes: list[Luma] = []
    try:
        with av.open(address(path)) as container:
            stream = find_video(container, path)
            stream.thread_type = "AUTO"
            fps = Fraction(stream.average_rate or stream.guessed_rate or 25)
            for index, frame in enumerate(decoded(container, stream)):
                if index >= start:
                    planes.append(_prepared(luma_plane(frame), size))
                if len(planes) >= frames:
                    break
    except (av.FFmpegError, OSError) as error:
        raise CarfixError(f"{path} cannot be decoded: {reason(error)}") from error
    return _stacked(planes, path), Fraction(fps)


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
    return _stacked([_prepared(read_photo(picture), size) for picture in pictures], path), STILL_FPS


def pictures_of(folder: Path) -> list[Path]:
    """The picture files in `folder`, in the order of their names. Raises `CarfixError` if it cannot be read."""
    return [child for child in _children(folder) if is_photo(child) and child.is_file()]


def _children(folder: Path) -> list[Path]:
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
    return _codes(16 + (219 / 255) * _full_range(path))


def scaled_photo(path: Path, size: Size | None) -> Luma:
    """Luma of a picture in the full range that JPEG files have, `[H, W]`, both even, scaled for `animate`."""
    luma = _codes(_full_range(path))
    return _prepared(luma, None if size is None else still_size(size, luma))


def _full_range(path: Path) -> NDArray[np.float32]:
    """BT.601 luma of a picture, 0 to 255."""
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


def _codes(luma: NDArray[np.float32]) -> Luma:
    codes: Luma = np.clip(np.rint(luma), 0, 255).astype(np.uint8)
    return codes


def animate(photo: Luma, *, size: Size | None, frames: int, seed: str) -> Luma:
    """A short clip `[N, H, W]` from a photograph: a slowly drifting camera with a noisy sensor.

    The same `seed` gives the same clip.
    """
    rng = np.random.default_rng(int.from_bytes(hashlib.sha256(seed.encode()).digest()[:8], "big"))
    border = 2 * STILL_BORDER
    if size is not None:
        photo = _resized(photo, still_size(size, photo))
    height, width = photo.shape
    out_height, out_width = (height - border) // 2 * 2, (width - border) // 2 * 2
    if min(out_height, out_width) < 64:
        raise CarfixError(f"a photograph of {width}x{height} is too small to be animated")
    still = rng.random() < 0.3  # fixed cameras move not at all
    velocity = np.zeros(2) if still else rng.normal(0, STILL_DRIFT / 2, 2)
    noise = rng.uniform(*STILL_NOISE)
    source = torch.from_numpy(photo.astype(np.float32))[None, None]
    position = np.zeros(2)
    clip = np.empty((frames, out_height, out_width), np.uint8)
    for index in range(frames):
        moved = _shifted(source, position, out_height, out_width).numpy()
        noisy = moved + rng.normal(0, noise, moved.shape)
        clip[index] = np.clip(np.rint(noisy), 0, 255).astype(np.uint8)
        velocity = np.clip(
            0.9 * velocity + (0 if still else rng.normal(0, 0.1, 2)), -STILL_DRIFT, STILL_DRIFT
        )
        position = np.clip(position + velocity, -STILL_BORDER + 2, STILL_BORDER - 2)
    return clip


def still_size(size: Size, photo: Luma) -> Size:
    """Width and height that a photograph is scaled to: `size` and the border in which the camera moves."""
    width, height = fitted(size, photo.shape[1], photo.shape[0])
    return width + 2 * STILL_BORDER, height + 2 * STILL_BORDER


def _shifted(source: torch.Tensor, offset: np.ndarray, height: int, width: int) -> torch.Tensor:
    """The crop of `[1, 1, H, W]` at `STILL_BORDER` + `offset` (y, x; fractions of pixels), bicubic."""
    ys = (torch.arange(height) + STILL_BORDER + float(offset[0])) * 2 / (source.shape[2] - 1) - 1
    xs = (torch.arange(width) + STILL_BORDER + float(offset[1])) * 2 / (source.shape[3] - 1) - 1
    grid = torch.stack([xs.expand(height, width), ys[:, None].expand(height, width)], dim=-1)[None].float()
    return functional.grid_sample(source, grid, mode="bicubic", padding_mode="border", align_corners=True)[
        0, 0
    ]


def find_clips(sources: list[Path], *, stills: bool, without: Path | None = None) -> Iterator[Path]:
    """Every clip among `sources`: files as they are, folders walked in the order of names.

    A folder that holds pictures is one clip, its frames in the order of their names; with `stills`, and where they
    were packed, each picture is a clip of its own. The folder `without` and datasets are not walked. Raises
    `CarfixError` for a path that does not exist, `UsageError` for one that is a dataset.
    """
    for source in sources:
        if not source.exists():
            raise CarfixError(f"no such file or folder: {source}")
        if not source.is_dir():
            yield source
        elif is_dataset(source):
            raise UsageError(
                f"the source {source} is a dataset that carfix built; give the clips it was built from"
            )
        else:
            yield from _walked(source, stills, None if without is None else identity(without))


def _walked(folder: Path, stills: bool, without: Identity | None) -> Iterator[Path]:
    children = _children(folder)
    files = [child for child in children if child.is_file()]
    pictures = [file for file in files if is_photo(file)]
    if stills or _are_packed(folder, pictures):
        yield from pictures
    elif pictures:
        yield folder
    yield from (file for file in files if file.suffix.lower() in VIDEO_SUFFIXES)
    for child in children:
        # What carfix built is no source, or a dataset beside its clips would take its variants for more of them.
        if child.is_dir() and not is_dataset(child) and (without is None or identity(child) != without):
            yield from _walked(child, stills, without)


def _are_packed(folder: Path, pictures: Sequence[Path]) -> bool:
    """Whether carfix packed the pictures: what is packed as a picture was a photograph."""
    if not pictures or not (folder / NOTES).is_file():
        return False
    try:
        notes = json.loads((folder / NOTES).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False  # told by who reads the notes
    return isinstance(notes, dict) and any(picture.name in notes for picture in pictures)


def is_dataset(folder: Path) -> bool:
    """Whether `folder` holds a manifest of carfix's, and not one of another program's of the same name."""
    try:
        fields = json.loads((folder / FILE_NAME).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return isinstance(fields, dict) and {"carfix", "format", "clips"} <= fields.keys()
