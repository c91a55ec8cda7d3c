"""Which files of an archive are worth restoring: what they are, what a network would gain, how long it takes."""

import contextlib
import dataclasses
import math
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import av
import av.error
import numpy as np
from av.container import InputContainer
from av.packet import Packet
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from carfix.errors import CarfixError
from carfix.quality.gain import GainFit
from carfix.quality.methods import Restored
from carfix.video.demux import demux
from carfix.video.faults import MEDIA_ERRORS, reason
from carfix.video.quantizer import Scale, export_quantizers, told_quantizer
from carfix.video.source import MAX_RATE, find_video, open_input

#: Places of a file whose quantizers are looked at, and frames there: an archive must be inspected in minutes.
PLACES = 4
FRAMES_A_PLACE = 12

#: Side of the picture that the speed is measured on: several windows, so that their overlap counts.
SPEED_SIDE = 512
#: A measurement that is shorter is repeated.
SHORT_SECONDS = 0.5


@dataclasses.dataclass(frozen=True, kw_only=True)
class Inspection:
    """One file; None is what its container or decoder does not tell."""

    path: Path
    codec: str
    width: int
    height: int
    fps: float | None
    frames: int | None
    duration: float | None  # seconds
    bits_per_pixel: float | None
    mean_quantizer: float | None  # on the codec's own scale
    predicted_gain: float | None  # dB
    gain_error: float | None  # dB, root mean square on clips that the prediction never saw
    seconds: float | None  # of inference on this machine

    def to_json(self) -> dict[str, Any]:
        """As `carfix inspect --json` prints it."""
        return {**dataclasses.asdict(self), "path": str(self.path)}


def inspect_file(
    path: Path, *, fit: GainFit | None = None, seconds_per_pixel: float | None = None
) -> Inspection:
    """Look at the container and at a sample of the frames of `path`. Raises `CarfixError` if it cannot be read."""
    try:
        with open_input(path) as container:
            stream = find_video(container, path)
            context = stream.codec_context
            fps = float(stream.average_rate) if stream.average_rate else None
            size = path.stat().st_size
            duration = _duration(container, fps, size)
            frames = stream.frames if 0 < stream.frames <= size else None
            if frames is None and duration and fps:
                frames = round(duration * fps)
            # A container's rate includes the sound; only where the stream states none of its own.
            rate = stream.bit_rate or (8 * size / duration if duration else None)
            codec, width, height = context.codec.canonical_name, stream.width, stream.height
            found = [told_quantizer(frame) for frame in _sampled(container, stream, duration)]
    except MEDIA_ERRORS as error:
        raise CarfixError(f"{path} cannot be decoded: {reason(error)}") from error
    if not found:
        raise CarfixError(f"{path} has no frame that can be decoded")
    known = [told for told in found if told is not None]
    quantizer = float(np.mean([told.own for told in known])) if known else None
    # The fit is of H.264: at the same step other codecs take other numbers of bits (measured: off by 0.3 to 1.3 dB).
    is_h264 = any(told.scale is Scale.H264 for told in known)
    pixels = width * height
    bits = rate / (fps * pixels) if rate and fps else None
    predictable = fit is not None and is_h264 and bits is not None and bits > 0
    return Inspection(
        path=path,
        codec=codec,
        width=width,
        height=height,
        fps=fps,
        frames=frames,
        duration=duration,
        bits_per_pixel=bits,
        mean_quantizer=quantizer,
        predicted_gain=fit.predict(quantizer, bits) if predictable and fit and quantizer and bits else None,
        gain_error=fit.error if predictable and fit else None,
        seconds=seconds_per_pixel * pixels * frames if seconds_per_pixel and frames else None,
    )


def _duration(container: InputContainer, fps: float | None, size: int) -> float | None:
    """Seconds that the container states, unless damage did: a frame takes at least one of the file's `size` bytes."""
    duration = (container.duration or 0) / av.time_base
    return duration if 0 < duration * min(fps or 1, MAX_RATE) <= size else None


def _sampled(container: InputContainer, stream: VideoStream, duration: float | None) -> Iterator[VideoFrame]:
    """Frames from `PLACES` places of the file, or its first ones where it cannot be sought in."""
    note = export_quantizers(stream.codec_context)
    if not duration:
        yield from _first(container, stream, note, PLACES * FRAMES_A_PLACE)
        return
    start = container.start_time or 0
    for place in range(PLACES):
        if place:
            container.seek(start + int(place / PLACES * duration * av.time_base), backward=True)
        yield from _first(container, stream, note, FRAMES_A_PLACE)


def _first(
    container: InputContainer, stream: VideoStream, note: Callable[["Packet[VideoStream]"], None], count: int
) -> Iterator[VideoFrame]:
    """Up to `count` frames from here on; packets that the decoder refuses are passed over, as players do."""
    number = 0
    for packet in demux(container, stream):
        note(packet)
        frames: list[VideoFrame] = []
        with contextlib.suppress(av.error.InvalidDataError):
            frames = stream.codec_context.decode(packet if packet.size else None)
        for frame in frames:
            yield frame
            number += 1
            if number >= count:
                return


def measure_speed(restored: Restored) -> float:
    """Seconds a pixel that the network takes on this machine, windows and their overlap included."""
    rng = np.random.default_rng(0)
    plane = rng.integers(0, 256, (1, SPEED_SIDE, SPEED_SIDE), dtype=np.uint8)
    restored.restore(plane[:, : SPEED_SIDE // 4, : SPEED_SIDE // 4], 8)  # opens the engine, warms it up
    best = math.inf
    for _ in range(3):
        start = time.perf_counter()
        restored.restore(plane, 8)
        best = min(best, time.perf_counter() - start)
        if best > SHORT_SECONDS:
            break
    return best / plane.size
