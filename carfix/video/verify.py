"""Verification: a finished file is believed only after it was read back."""

from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from av.codec.context import ThreadType
from av.container import InputContainer
from av.packet import Packet
from numpy.typing import NDArray

from carfix.errors import CarfixError
from carfix.video.faults import MEDIA_ERRORS, reason
from carfix.video.muxer import Y4M
from carfix.video.output import Copied, Muxed


def verify_output(path: Path, muxed: Muxed, times: NDArray[np.int64], time_base: Fraction) -> None:
    """Raises `CarfixError` saying what `read_back` finds wrong with the finished file."""
    wrong = read_back(path, muxed, times, time_base)
    if wrong is not None:
        raise CarfixError(f"{path}: {wrong}")


def read_back(path: Path, muxed: Muxed, times: NDArray[np.int64], time_base: Fraction) -> str | None:
    """What is not as it should be: every frame there, in time, the last one decodable, all sound copied.

    `times` are the presentation times of the restored frames on the output's clock, ascending, in ticks of
    `time_base`.
    """
    found: list[int | None] = []
    tail: list[Packet[Any]] = []
    sound: dict[int, Copied] = {}
    try:
        with av.open(str(path)) as container:
            # By their places among their kind: readers of FLV and MPEG-PS count streams as they come.
            if len(container.streams.video) <= muxed.video_place:
                return "its video is not found when it is read back"
            video = container.streams.video[muxed.video_place]
            if video.codec_context is None or video.time_base is None:  # which PyAV's stubs deny
                return "its video is not recognised when it is read back"
            video.codec_context.thread_type = ThreadType.AUTO  # up to a GOP is decoded, and nothing else runs
            for packet in container.demux():
                if packet.size == 0:
                    continue
                if packet.stream_index == video.index:
                    found.append(packet.pts)
                    if packet.is_keyframe:
                        tail.clear()
                    tail.append(packet)
                else:
                    copied = sound.setdefault(packet.stream_index, Copied())
                    copied.packets += 1
                    copied.size += packet.size
            if len(found) != len(times):
                return f"it holds {len(found)} frames, not the {len(times)} that were written"
            if container.format.name != Y4M:  # whose frames have numbers, no times
                wrong = _compare_times(found, video.time_base, times, time_base)
                if wrong is not None:
                    return wrong
            decoded = sum(len(video.codec_context.decode(packet)) for packet in tail)
            if decoded + len(video.codec_context.decode(None)) < len(tail):
                return "its last frames do not decode"
            return _compare_sound(container, muxed, sound)
    except MEDIA_ERRORS as error:
        return f"it cannot be read back: {reason(error)}"


def _compare_times(
    found: Sequence[int | None], found_base: Fraction, times: NDArray[np.int64], time_base: Fraction
) -> str | None:
    if any(pts is None for pts in found):
        return None  # the container keeps no presentation times (AVI, raw streams)
    for got, wanted in zip(sorted(pts for pts in found if pts is not None), times.tolist(), strict=True):
        if abs(got - wanted * time_base / found_base) > 1:
            at = float(wanted * time_base)
            return f"its frame at {at:.3f} s comes back at {float(got * found_base):.3f} s"
    return None


def _compare_sound(container: InputContainer, muxed: Muxed, found: dict[int, Copied]) -> str | None:
    """Every track that was written must be there, with as many packets or, where the reader cuts PCM anew, bytes."""
    left = [found.get(stream.index, Copied()) for stream in container.streams.audio]
    for index, written in muxed.audio.items():
        if written.packets == 0:
            continue
        whole = [
            copied for copied in left if copied.packets == written.packets or copied.size == written.size
        ]
        if not whole:
            held = ", ".join(str(copied.packets) for copied in left) or "none"
            return f"its audio stream {index} should hold {written.packets} packets; found: {held}"
        left.remove(whole[0])
    return None
