"""Generates the clips that tests need: small, different in every frame, with any property a camera may give."""

import dataclasses
import hashlib
import struct
from collections.abc import Callable, Mapping, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from av.audio.stream import AudioStream
from av.codec.context import Flags
from av.sidedata.sidedata import Type as SideDataType
from av.video.format import VideoFormat
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from carfix.video.luma import luma_format, read_luma, write_luma

WIDTH, HEIGHT = 64, 48
RATE = Fraction(25)
FRAMES = 12

#: B-frames in a pyramid and short GOPs, so that even tiny clips have reordering and several keyframes.
X264 = {
    "preset": "ultrafast",
    "bf": "3",
    "b-pyramid": "normal",
    "b_strategy": "0",
    "g": "6",
    "sc_threshold": "0",
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Sound:
    """One audio track."""

    codec: str = "aac"
    rate: int = 48_000
    layout: str = "mono"
    language: str | None = None
    disposition: int = 0
    start: float = 0.0  # seconds
    seconds: float = 0.6


def picture(index: int, width: int = WIDTH, height: int = HEIGHT, pix_fmt: str = "yuv420p") -> VideoFrame:
    """Frame `index` of an endless clip: a ramp that moves, with noise on it; no two frames are alike."""
    frame = VideoFrame(width, height, pix_fmt)
    format = VideoFormat(pix_fmt)
    bits = format.components[0].bits
    dtype = np.uint8 if bits == 8 else np.uint16
    rng = np.random.default_rng(index)
    for number, plane in enumerate(frame.planes):
        rows = np.frombuffer(plane, dtype).reshape(plane.height, -1)
        ramp = np.add.outer(np.arange(plane.height), np.arange(plane.width)) * 2 + index * 5 + number * 40
        noise = rng.integers(-4, 5, ramp.shape)
        codes = (np.clip(ramp % 180 + 30 + noise, 16, 235)).astype(np.int64) << (bits - 8)
        rows[:, : plane.width] = codes + (rng.integers(0, 1 << (bits - 8), ramp.shape) if bits > 8 else 0)
    return frame


def moving_square(number: int) -> VideoFrame:
    """A still picture, over which a square has moved so far."""
    frame = picture(0)
    format = luma_format(frame.format.name)
    luma = read_luma(frame, format)
    luma[40:56, 8 + 4 * number : 24 + 4 * number] = 230
    write_luma(frame, luma, format)
    return frame


def write_clip(
    path: Path,
    *,
    codec: str = "libx264",
    format: str | None = None,
    width: int = WIDTH,
    height: int = HEIGHT,
    pix_fmt: str = "yuv420p",
    frames: int = FRAMES,
    rate: Fraction = RATE,
    time_base: Fraction = Fraction(1, 12800),
    times: Sequence[int] | None = None,
    options: Mapping[str, str] | None = None,
    interlaced: bool = False,
    matrix: Sequence[int] | None = None,
    sounds: Sequence[Sound] = (),
    tags: Mapping[str, str] | None = None,
    video_tags: Mapping[str, str] | None = None,
    chapters: Sequence[tuple[float, float, str]] = (),
    attachments: Sequence[tuple[str, str, bytes]] = (),
    muxer: Mapping[str, str] | None = None,
    setup: Callable[[VideoStream], None] | None = None,
    pictures: Callable[[int], VideoFrame] | None = None,
) -> Path:
    """Write a clip; `times` are presentation times in ticks of `time_base`, at the constant `rate` if not given."""
    if times is None:
        times = [round(i / rate / time_base) for i in range(frames)]
    output = av.open(str(path), "w", format=format, container_options=dict(muxer or {}))
    if options is None:
        options = X264 if codec == "libx264" else {}
    video = output.add_stream(codec, rate=rate, options=dict(options))
    assert isinstance(video, VideoStream)
    video.width, video.height, video.pix_fmt = width, height, pix_fmt
    video.codec_context.time_base = time_base
    video.time_base = time_base
    video.codec_context.thread_count = 1
    if interlaced:
        video.codec_context.flags |= Flags.interlaced_dct | Flags.interlaced_me
    if matrix is not None:
        video.set_display_matrix(matrix)
    if setup is not None:
        setup(video)
    video.metadata.update(video_tags or {})
    tracks = [_add_sound(output, sound) for sound in sounds]
    for name, mimetype, data in attachments:
        output.add_attachment(name, mimetype, data)
    output.metadata.update(tags or {})
    if chapters:
        output.set_chapters(
            [
                {
                    "id": i + 1,
                    "start": round(start * 1000),
                    "end": round(end * 1000),
                    "time_base": Fraction(1, 1000),
                    "metadata": {"title": title},
                }
                for i, (start, end, title) in enumerate(chapters)
            ]
        )
    with output:
        for index, time in enumerate(times):
            frame = pictures(index) if pictures else picture(index, width, height, pix_fmt)
            frame.pts, frame.time_base = time, time_base
            output.mux(video.encode(frame))
        output.mux(video.encode(None))
        for sound, track in zip(sounds, tracks, strict=True):
            _write_sound(output, track, sound)
    return path


def write_two_sizes(path: Path) -> Path:
    """A recorder that is set to another size in the middle: 12 frames 64 wide, then 12 of 96 from 0.92 s on."""
    with path.open("wb") as file:
        for number, width in enumerate((64, 96)):
            part = write_clip(
                path.with_name(f"{number}.part.ts"),
                width=width,
                times=[90000 * number + 3600 * n for n in range(12)],
                time_base=Fraction(1, 90000),
                muxer={"mpegts_copyts": "1"},
            )
            file.write(part.read_bytes())
            part.unlink()
    return path


def _add_sound(output: av.container.OutputContainer, sound: Sound) -> AudioStream:
    track = output.add_stream(sound.codec, rate=sound.rate)
    assert isinstance(track, AudioStream)
    track.codec_context.layout = sound.layout
    if sound.language:
        track.metadata["language"] = sound.language
    track.disposition = sound.disposition
    return track


def _write_sound(output: av.container.OutputContainer, track: AudioStream, sound: Sound) -> None:
    output.start_encoding()
    size = track.codec_context.frame_size or 1024
    total = round(sound.seconds * sound.rate)
    for start in range(0, total, size):
        count = min(size, total - start)
        tone = np.sin(np.arange(start, start + count) * (0.05 + 0.01 * len(sound.codec))) * 8000
        frame = av.AudioFrame.from_ndarray(tone.astype(np.int16)[None], format="s16", layout="mono")
        frame.sample_rate = sound.rate
        frame.pts, frame.time_base = start + round(sound.start * sound.rate), Fraction(1, sound.rate)
        context = track.codec_context
        for converted in av.AudioResampler(format=context.format, layout=context.layout).resample(frame):
            output.mux(track.encode(converted))
    output.mux(track.encode(None))


def crop(clip: Path, target: Path, width: int, height: int) -> Path:
    """`clip`, an MP4 of H.264 with its index last, of which the container shows the middle alone."""
    data, position, around = bytearray(clip.read_bytes()), 0, []
    for kind in (b"moov", b"trak", b"mdia", b"minf", b"stbl", b"stsd", b"avc1"):
        position = data.index(kind, position) - 4
        around.append(position)
    assert around[0] > data.index(b"mdat")  # nothing else moves
    (length,) = struct.unpack_from(">I", data, position)
    box = struct.pack(">I4s8I", 40, b"clap", width, 1, height, 1, 0, 1, 0, 1)
    data[position + length : position + length] = box
    for place in around:
        struct.pack_into(">I", data, place, struct.unpack_from(">I", data, place)[0] + len(box))
    target.write_bytes(data)
    return target


def remux(source: Path, target: Path, *, extra: Path | None = None, **muxer: str) -> Path:
    """Copy all streams of `source` (and of `extra`) packet by packet into `target`."""
    inputs = [av.open(str(path)) for path in (source, extra) if path is not None]
    with av.open(str(target), "w", container_options=muxer) as output:
        pairs = [
            (container, stream, output.add_stream_from_template(stream, opaque=True))
            for container in inputs
            for stream in container.streams
        ]
        for _, stream, copy in pairs:
            copy.disposition = stream.disposition
            copy.metadata.update(stream.metadata)
        for container in inputs:
            copies = {stream.index: copy for owner, stream, copy in pairs if owner is container}
            for packet in container.demux():
                if packet.size:
                    packet.stream = copies[packet.stream_index]
                    output.mux(packet)
    for container in inputs:
        container.close()
    return target


def frame_times(path: Path, place: int = 0) -> list[Fraction]:
    """Presentation times of the decoded frames of one of the videos, in seconds."""
    with av.open(str(path)) as container:
        video = container.streams.video[place]
        frames = container.decode(video)
        return [frame.pts * video.time_base for frame in frames]  # type: ignore[operator]


def planes(path: Path, plane: int = 0, *, place: int = 0) -> list[np.ndarray]:
    """One plane of every decoded frame of one of the videos: uint8, or uint16 above 8 bits."""
    found = []
    with av.open(str(path)) as container:
        for frame in container.decode(video=place):
            dtype = np.uint8 if frame.format.components[0].bits == 8 else np.uint16
            view = frame.planes[plane]
            rows = np.frombuffer(view, dtype).reshape(view.height, -1)
            found.append(rows[:, : view.width].copy())
    return found


def packets_digest(path: Path, index: int) -> tuple[int, str]:
    """Number and SHA-256 of the packets of stream `index`."""
    digest = hashlib.sha256()
    count = 0
    with av.open(str(path)) as container:
        for packet in container.demux(container.streams[index]):
            if packet.size:
                count += 1
                digest.update(bytes(packet))
    return count, digest.hexdigest()


def side_data(path: Path) -> dict[str, bytes]:
    """Side data of the first decoded frame, by name."""
    with av.open(str(path)) as container:
        frame = next(container.decode(video=0))
        kinds = (kind for kind in SideDataType if frame.side_data.get(kind) is not None)
        return {kind.name: bytes(frame.side_data[kind]) for kind in kinds}  # type: ignore[arg-type]


def video_properties(path: Path) -> dict[str, Any]:
    """What describes the look of the video stream."""
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        context = stream.codec_context
        frame = next(container.decode(stream))
        return {
            "size": (frame.width, frame.height),
            "pix_fmt": frame.format.name,
            "sample_aspect_ratio": stream.sample_aspect_ratio or Fraction(1),  # unknown counts as square
            "range": max(context.color_range, 1),  # unknown counts as limited
            "primaries": context.color_primaries,
            "transfer": context.color_trc,
            "matrix": context.colorspace,
            "rotation": frame.rotation,
            "field_order": max(context.field_order, 1),  # unknown counts as progressive
            "interlaced": frame.interlaced_frame,
        }


def with_silence(source: Path, path: Path, *, after: int, ticks: int) -> Path:
    """A copy of `source` whose sound pauses for so many ticks once its times are above `after`."""
    with av.open(str(source)) as container, av.open(str(path), "w") as output:
        copies = [output.add_stream_from_template(stream, opaque=True) for stream in container.streams]
        for packet in container.demux():
            if packet.size:
                if packet.stream.type == "audio" and packet.pts > after:
                    packet.pts = packet.dts = packet.pts + ticks
                packet.stream = copies[packet.stream_index]
                output.mux(packet)
    return path
