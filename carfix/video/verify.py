"""Verification: a finished file is believed only after it was read back."""

from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from av.codec.context import ThreadType
from av.packet import Packet
from av.video.stream import VideoStream
from numpy.typing import NDArray

from carfix.errors import CarfixError
from carfix.video.faults import MEDIA_ERRORS, reason
from carfix.video.output import Muxed


def verify_output(path: Path, muxed: Muxed, times: NDArray[np.int64], time_base: Fraction) -> None:
    """Read the finished file back: every frame there, in time, the last one decodable, all packets copied.

    `times` are the presentation times of the restored frames on the output's clock, ascending, in ticks of
    `time_base`. Raises `CarfixError` saying what is not as it should be.
    """
    counts = dict.fromkeys(muxed.packets, 0)
    found: list[int | None] = []
    tail: list[Packet[Any]] = []
    try:
        with av.open(str(path)) as container:
            video = container.streams[muxed.video_index]
            assert isinstance(video, VideoStream) and video.time_base is not None
            video.codec_context.thread_type = ThreadType.AUTO  # up to a GOP is decoded, and nothing else runs
            for packet in container.demux():
                if packet.size == 0:
                    continue
                if packet.stream_index == muxed.video_index:
                    found.append(packet.pts)
                    if packet.is_keyframe:
                        tail.clear()
                    tail.append(packet)
                elif packet.stream_index in counts:
                    counts[packet.stream_index] += 1
            if len(found) != len(times):
                raise CarfixError(f"{path} holds {len(found)} frames, not the {len(times)} that were written")
            _compare_times(path, found, video.time_base, times, time_base)
            decoded = sum(len(video.codec_context.decode(packet)) for packet in tail)
            if decoded + len(video.codec_context.decode(None)) < len(tail):
                raise CarfixError(f"the last frames of {path} do not decode")
            for index, count in muxed.packets.items():
                if container.streams[index].type == "audio" and counts[index] != count:
                    raise CarfixError(
                        f"{path}: stream {index} holds {counts[index]} packets instead of {count}"
                    )
    except MEDIA_ERRORS as error:
        raise CarfixError(f"{path} cannot be read back: {reason(error)}") from error


def _compare_times(
    path: Path,
    found: Sequence[int | None],
    found_base: Fraction,
    times: NDArray[np.int64],
    time_base: Fraction,
) -> None:
    if any(pts is None for pts in found):
        return  # the container keeps no presentation times (AVI, raw streams)
    for got, wanted in zip(sorted(pts for pts in found if pts is not None), times.tolist(), strict=True):
        if abs(got - wanted * time_base / found_base) > 1:
            at = float(wanted * time_base)
            raise CarfixError(
                f"{path}: the frame at {at:.3f} s was written at {float(got * found_base):.3f} s"
            )
