"""What is measured on: a clip of the user's, or one that is made up, and its first frames in memory."""

import dataclasses
import itertools
from collections.abc import Iterator, Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from av.packet import Packet
from av.video.frame import VideoFrame
from av.video.stream import VideoStream
from numpy.typing import NDArray

from carfix.errors import CarfixError
from carfix.restore.engine import Planes
from carfix.video.address import address
from carfix.video.decode import Damage, decode_frames
from carfix.video.hwaccel import NONE, check_hwaccel
from carfix.video.luma import Luma, LumaFormat, luma_format, read_luma
from carfix.video.opening import reachable
from carfix.video.source import SourceInfo, decoded_by, probe
from carfix.video.timeline import Timeline

#: Frames kept in memory, at most, and bytes that they may fill: an encoder's lookahead (x264: 40 frames) must fit in.
SAMPLE_FRAMES = 72
SAMPLE_BYTES = 512 << 20

#: The made-up clip: 25 fps, two closed GOPs that are repeated, so that a fast machine finds enough frames.
RATE = 25
GOP = 24
ENCODED_FRAMES = 2 * GOP
REPEATS = 20
#: Artifacts as a recorder leaves them, encoded quickly. Without macroblock trees, which recorders do not have either:
#: on a CPU with AVX-512, x264's reads memory beyond the last macroblock of narrow pictures, whatever that holds.
X264 = {
    "preset": "veryfast",
    "crf": "35",
    "g": str(GOP),
    "keyint_min": str(GOP),
    "sc_threshold": "0",
    "mbtree": "0",
}

#: Octaves of the texture: side in pixels of their cells, and their amplitude in 8-bit codes.
OCTAVES = ((64, 40.0), (16, 18.0), (4, 9.0), (1, 5.0))
#: Pixels a frame that the camera pans, and that an object moves against it.
PAN = (2, 1)
OBJECT_PAN = (-5, 3)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Sample:
    """A clip as `restore` reads it, with its first frames decoded."""

    info: SourceInfo
    timeline: Timeline
    generated: bool
    frames: list[VideoFrame]
    times: list[int]  # their presentation times, ticks of `info.time_base`
    planes: list[Luma]  # their luma, [H, W]
    luma: LumaFormat

    @property
    def total(self) -> int:
        """Frames of the whole clip."""
        return len(self.timeline.presentation)

    @property
    def megapixels(self) -> float:
        """Of one frame."""
        return self.info.width * self.info.height / 1e6


def open_sample(path: Path, *, generated: bool = False, hwaccel: str = NONE) -> Sample:
    """Examine `path` and decode its first frames. Raises `CarfixError` as `restore_video` does."""
    check_hwaccel(hwaccel)
    info = decoded_by(probe(path), hwaccel, lambda _: None)
    try:
        luma = luma_format(info.pix_fmt)
    except CarfixError:  # its cure is an option of restore's
        raise CarfixError(
            f"{path}: bench restores video as it is, and the pixel format {info.pix_fmt} has to be converted first: "
            "ffmpeg -i CLIP -pix_fmt yuv444p -c:v ffv1 CONVERTED.mkv"
        ) from None
    timeline = reachable(info)
    frames: list[VideoFrame] = []
    size = 0
    for frame in decode_frames(info, timeline, Damage()):
        frames.append(frame)
        size += sum(plane.buffer_size for plane in frame.planes)
        if len(frames) == SAMPLE_FRAMES or size >= SAMPLE_BYTES:
            break
    return Sample(
        info=info,
        timeline=timeline,
        generated=generated,
        frames=frames,
        times=[frame.pts or 0 for frame in frames],
        planes=[read_luma(frame, luma) for frame in frames],
        luma=luma,
    )


def batches(planes: Sequence[Luma], count: int, size: int) -> Iterator[Planes]:
    """`count` planes, from the beginning again where there are fewer, stacked to `[N, H, W]` of at most `size`."""
    left = itertools.islice(itertools.cycle(planes), count)
    while batch := list(itertools.islice(left, size)):
        yield np.stack(batch)  # type: ignore[misc] # numpy's stubs lose the type


def generate_clip(path: Path, width: int, height: int) -> Path:
    """Write a clip of moving texture with H.264's artifacts to `path`; the same one every time.

    `width` and `height` are even.
    """
    background = _texture(width + PAN[0] * ENCODED_FRAMES, height + PAN[1] * ENCODED_FRAMES, seed=0)
    thing = _texture(max(2, width // 4), max(2, height // 3), seed=1)
    with av.open(address(path), "w") as container:
        stream = container.add_stream("libx264", rate=RATE, options=X264)
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        stream.codec_context.time_base = Fraction(1, RATE)
        # One slice a frame, as nearly all video has (decoders share out slices among their threads), and the same
        # bytes every time: x264 heeds a rate cap by what its other threads have come to.
        stream.codec_context.thread_count = 1
        packets: list[tuple[bytes, int, int, bool]] = []
        coded: list[Packet[VideoStream]] = []
        for index in range(ENCODED_FRAMES):
            frame = VideoFrame(width, height, "yuv420p")
            _paint(frame, background, thing, index)
            frame.pts, frame.time_base = index, Fraction(1, RATE)
            coded += stream.encode(frame)
        coded += stream.encode(None)
        for packet in coded:
            assert packet.pts is not None and packet.dts is not None and packet.time_base is not None
            ticks = packet.time_base * RATE
            packets.append(
                (bytes(packet), round(packet.pts * ticks), round(packet.dts * ticks), packet.is_keyframe)
            )
        for repeat in range(REPEATS):
            for data, pts, dts, key in packets:
                again = Packet(data)
                again.stream = stream
                again.time_base = Fraction(1, RATE)
                again.pts = pts + repeat * ENCODED_FRAMES
                again.dts = dts + repeat * ENCODED_FRAMES
                again.duration = 1
                again.is_keyframe = key
                container.mux(again)
    return path


def _texture(width: int, height: int, *, seed: int) -> NDArray[np.uint8]:
    """Cells of all sizes, `[H, W]` luma codes."""
    rng = np.random.default_rng(seed)
    total = np.full((height, width), 125.0, np.float32)
    for cell, amplitude in OCTAVES:
        rough = rng.standard_normal((-(-height // cell), -(-width // cell)), np.float32) * amplitude
        total += np.repeat(np.repeat(rough, cell, 0), cell, 1)[:height, :width]
    return np.clip(np.rint(total), 16, 235).astype(np.uint8)


def _paint(frame: VideoFrame, background: NDArray[np.uint8], thing: NDArray[np.uint8], index: int) -> None:
    width, height = frame.width, frame.height
    x, y = PAN[0] * index, PAN[1] * index
    picture = background[y : y + height, x : x + width].copy()
    rows, columns = thing.shape
    left = (width // 2 + OBJECT_PAN[0] * index) % (width - columns + 1)
    top = (height // 3 + OBJECT_PAN[1] * index) % (height - rows + 1)
    picture[top : top + rows, left : left + columns] = thing
    for number, plane in enumerate(frame.planes):
        samples = np.frombuffer(memoryview(plane), np.uint8).reshape(plane.height, -1)
        samples[:, : plane.width] = picture if number == 0 else 128 + 8 * number
