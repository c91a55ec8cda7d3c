"""Which files of an archive are worth restoring: what they are, what a network would gain, how long it takes."""

import contextlib
import dataclasses
import itertools
import math
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import av
import numpy as np
from av.container import InputContainer
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from carfix.errors import CarfixError
from carfix.quality.chosen import Chosen, choose_in
from carfix.quality.damage import Damage, decoded_around
from carfix.quality.duration import MPEG1_VARIABLE, duration_of, must_be_counted, rate_of, recorded_size
from carfix.quality.gain import GainFit
from carfix.quality.methods import Restored
from carfix.quality.reader import luma_of
from carfix.restore.strength import DOUBTED, Levels, installed_curve
from carfix.video.choice import find_video
from carfix.video.covers import is_cover
from carfix.video.faults import MEDIA_ERRORS, reason
from carfix.video.field_rate import counts_fields
from carfix.video.quantizer import Scale, Told, export_quantizers, told_quantizer
from carfix.video.set_back import counted
from carfix.video.source import open_input

#: Places of a file whose quantizers are looked at, and frames there: an archive must be inspected in minutes.
PLACES = 4
FRAMES_A_PLACE = 12

#: Quantizers of H.264 over which the bits are halved that video needs which was compressed before: it has lost what
#: would need more (8 to 14 on the held-out clips; others need twice as many bits for every 6).
QUANTIZERS_A_HALF = 10.0
#: More frames than this share of duration times rate are no frames.
MOST_FRAMES = 1.5

#: Packets that tell which part of a file is its video: some seconds of two cameras and their sound.
PACKETS = 500

#: Side of the picture that the speed is measured on: several windows, so that their overlap counts.
SPEED_SIDE = 512
#: A measurement that is shorter is repeated.
SHORT_SECONDS = 0.5


@dataclasses.dataclass(frozen=True, kw_only=True)
class Inspection:
    """One file; None is what its container or decoder does not tell."""

    path: Path
    chosen: Chosen  # the video of the file
    codec: str
    width: int
    height: int
    fps: float | None
    frames: int | None
    duration: float | None  # seconds
    bits_per_pixel: float | None
    mean_quantizer: float | None  # on the codec's own scale
    level: float | None  # that a restore would go by, on H.264's scale
    encoded_again: bool  # whether pictures look clearly coarser than the stream tells
    predicted_gain: float | None  # dB
    gain_error: float | None  # dB, root mean square on clips that the prediction never saw
    seconds: float | None  # of inference on this machine

    def to_json(self) -> dict[str, Any]:
        """As `carfix inspect --json` prints it."""
        fields = dataclasses.asdict(self)
        del fields["chosen"]
        return {**fields, "path": str(self.path), "stream": self.chosen.stream}


def inspect_file(
    path: Path,
    *,
    stream: str | None = None,
    fit: GainFit | None = None,
    seconds_per_pixel: float | None = None,
) -> Inspection:
    """Look at the container and at a sample of the frames of `path`; `stream` chooses among several videos.

    Raises `CarfixError` if it cannot be read or has no such video, `UsageError` for what specifies none.
    """
    try:
        with open_input(path) as container:
            video = find_video(container, path, stream)
            context = video.codec_context
            # As they are stated: decoding changes them where a recording changes.
            codec, width, height = context.codec.canonical_name, video.width, video.height
            bit_rate, fps = video.bit_rate, rate_of(video)
            size = recorded_size(path)
            duration = duration_of(path, container, video)
            damage = Damage()
            found: list[Told | None] = []
            levels: list[tuple[float | None, float | None]] = []
            times: list[float] = []
            for some in _sampled(container, video, duration, damage):
                told, both, fields = _looked_at(some)
                found += told
                levels.append(both)
                times += fields
            if fps and counts_fields(times, fps):
                fps /= 2
            frames = _frames(video, duration, fps, size)
            shown = duration  # seconds without a pause
            if must_be_counted(path, container, video):
                duration, frames = counted(path, stream)
                shown = None
            rate = _bit_rate(bit_rate, shown or (frames / fps if frames and fps else None), size)
            chosen = choose_in(container, path, stream)
            if len(container.streams) > 1 and rate and not bit_rate:  # that of all streams
                rate *= _share(chosen)
    except MEDIA_ERRORS as error:
        raise CarfixError(f"{path} cannot be decoded: {reason(error)}") from error
    if not found:
        why = f": {damage.failure}" if damage.failure else ""
        raise CarfixError(f"{path}: not a single frame of its video could be decoded{why}")
    known = [told for told in found if told is not None]
    quantizer = float(np.mean([told.own for told in known])) if known else None
    # The fit is of H.264: at the same step other codecs take other numbers of bits (measured: off by 0.3 to 1.3 dB).
    is_h264 = any(told.scale is Scale.H264 for told in known)
    told_level, level = (_mean(values) for values in zip(*levels, strict=True))
    again = told_level is not None and level is not None and level - told_level > DOUBTED
    pixels = width * height
    bits = rate / (fps * pixels) if rate and fps else None
    gain = None
    if fit is not None and is_h264 and quantizer and bits and bits > 0:
        curve = installed_curve(fit.sha256)
        share = 1.0 if curve is None or level is None else curve.at(level)
        gain = _predicted(fit, quantizer, bits, level if again else None, share)
    return Inspection(
        path=path,
        chosen=chosen,
        codec=codec,
        width=width,
        height=height,
        fps=fps,
        frames=frames,
        duration=duration,
        bits_per_pixel=bits,
        mean_quantizer=quantizer,
        level=level,
        encoded_again=again,
        predicted_gain=gain,
        gain_error=None if fit is None or gain is None else fit.error,
        seconds=seconds_per_pixel * pixels * frames if seconds_per_pixel and frames else None,
    )


def _frames(stream: VideoStream, duration: float | None, fps: float | None, size: int) -> int | None:
    """Number of frames that the container states, unless it counts a clock's ticks; else by duration and rate."""
    expected = duration * fps if duration and fps else None
    if 0 < stream.frames <= size and (expected is None or stream.frames <= MOST_FRAMES * expected):
        return stream.frames
    return None if expected is None else round(expected)


def _bit_rate(stated: int | None, seconds: float | None, size: int) -> float | None:
    """Bits a second of the video; of the whole file, sound too, where the stream states none or more than that."""
    if not seconds:
        return None if stated == MPEG1_VARIABLE else stated
    whole = 8 * size / seconds
    return min(stated or whole, whole)


def _share(chosen: Chosen) -> float:
    """Which part of a file a video is, beside sound and other videos, by the file's first packets."""
    sizes: dict[int, int] = {}
    with open_input(chosen.path) as container, contextlib.suppress(*MEDIA_ERRORS):
        lasting = [stream for stream in container.streams if not is_cover(stream)]
        for packet in itertools.islice(container.demux(*lasting), PACKETS):
            sizes[packet.stream_index] = sizes.get(packet.stream_index, 0) + packet.size
    return sizes.get(chosen.stream, 0) / sum(sizes.values()) if any(sizes.values()) else 1.0


def _predicted(fit: GainFit, quantizer: float, bits: float, level: float | None, share: float) -> float:
    """The gain to expect; of a video that was encoded before, at `level`, what that encoding would have promised."""
    if level is None:
        return fit.predict(quantizer, bits, share)
    return fit.predict(level, bits * 2 ** ((quantizer - level) / QUANTIZERS_A_HALF), share)


def _looked_at(
    frames: Iterator[VideoFrame],
) -> tuple[list[Told | None], tuple[float | None, float | None], list[float]]:
    """What each frame of one place tells; the level told at the last of them, and the one that it is restored by; the
    times of those that are interlaced.
    """
    levels = Levels()
    found: list[Told | None] = []
    times: list[float] = []
    both: tuple[float | None, float | None] = None, None
    for frame in frames:
        found.append(told_quantizer(frame))
        both = levels(frame, *luma_of(frame))
        times += [frame.time] if frame.interlaced_frame and frame.time is not None else []
    return found, both, times


def _mean(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return float(np.mean(known)) if known else None


def _sampled(
    container: InputContainer, stream: VideoStream, duration: float | None, damage: Damage
) -> Iterator[Iterator[VideoFrame]]:
    """Frames from each of `PLACES` places of the file, or its first ones where it cannot be sought in."""
    note = export_quantizers(stream.codec_context)
    if not duration:
        yield itertools.islice(decoded_around(container, stream, note, damage), PLACES * FRAMES_A_PLACE)
        return
    start = container.start_time or 0
    for place in range(PLACES):
        if place:
            try:
                container.seek(start + int(place / PLACES * duration * av.time_base), backward=True)
            except MEDIA_ERRORS:
                return  # a picture, say: the first frames will do
        yield itertools.islice(decoded_around(container, stream, note, damage), FRAMES_A_PLACE)


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
