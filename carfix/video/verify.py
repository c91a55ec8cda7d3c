"""Verification: a finished file is believed only after it was read back."""

import array
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import NamedTuple

import av
import numpy as np
from av.codec.context import ThreadType
from av.container import InputContainer
from numpy.typing import NDArray

from carfix.errors import CarfixError
from carfix.video.address import address
from carfix.video.choice import codec_of
from carfix.video.faults import MEDIA_ERRORS, reason
from carfix.video.muxed import Muxed, Sound
from carfix.video.muxer import PROGRAM_STREAMS, WITHOUT_NEGATIVE_TIMES, WITHOUT_TIMES
from carfix.video.pyav import KEEP_ODD_TAGS
from carfix.video.tail import Tail

#: Bytes with which each packet of a codec begins: of DVD's PCM, which the muxer makes of any, and cuts anew.
_HEADS = {"pcm_dvd": 3}
#: Seconds that a muxer may move everything so that no time is below 0: more than sound or decoding ever lead.
_LATEST = Fraction(1)


class NotAsWritten(Exception):
    """What is wrong with a file that was read back, as the rest of a sentence."""


class Moved(NamedTuple):
    """Seconds by which a file's times are not those that were wanted."""

    late: Fraction = Fraction(0)  # everything, in containers that have no times below 0
    early: Fraction = Fraction(0)  # frames behind a pause, at most, in program streams
    sound: Fraction = Fraction(0)  # how much too early sound ends, at most, where pauses in it cannot be told


def verify_output(
    path: Path, output: Path, muxed: Muxed, times: NDArray[np.int64], time_base: Fraction
) -> Moved:
    """As `read_back`; raises `CarfixError` saying what is wrong with `output`, as `path` is to be called."""
    try:
        return read_back(path, muxed, times, time_base)
    except NotAsWritten as error:
        raise CarfixError(f"{output} was read back, and is not as it was written: {error}") from None


def read_back(path: Path, muxed: Muxed, times: NDArray[np.int64], time_base: Fraction) -> Moved:
    """Read a finished file: every frame must be there, in time, the last one decodable, and all sound copied.

    `times` are the presentation times of the restored frames on the output's clock, ascending, in ticks of
    `time_base`. Returns what their containers cannot but move them by. Raises `NotAsWritten`.
    """
    # Not a list: a day of video has two and a half million packets.
    found = array.array("q")  # their times, where they have one
    packets = 0
    tail = Tail()
    sound: dict[int, Sound] = {}
    try:
        with av.open(address(path), **KEEP_ODD_TAGS) as container:
            # By their places among their kind: readers of FLV and MPEG-PS count streams as they come.
            place = muxed.video_place(len(container.streams.video))
            if place is None:
                raise NotAsWritten("its video is not found when it is read back")
            video = container.streams.video[place]
            if video.codec_context is None or video.time_base is None:  # which PyAV's stubs deny
                raise NotAsWritten("its video is not recognised when it is read back")
            # Two GOPs may be decoded, and nothing else runs.
            video.codec_context.thread_type = ThreadType.AUTO
            for packet in container.demux():
                if packet.size == 0:
                    continue
                if packet.stream_index == video.index:
                    packets += 1
                    if packet.pts is not None:
                        found.append(packet.pts)
                    tail.add(packet)
                else:
                    sound.setdefault(packet.stream_index, Sound()).add(packet)
            if packets != len(times):
                raise NotAsWritten(f"it holds {packets} frames, not the {len(times)} that were written")
            moved = Moved()
            if container.format.name not in WITHOUT_TIMES:
                moved = _compare_times(container.format.name, found, video.time_base, times, time_base)
            if not tail.decodes(video.codec_context):
                raise NotAsWritten("its last frames do not decode")
            return moved._replace(sound=_compare_sound(container, muxed, sound))
    except MEDIA_ERRORS as error:
        raise NotAsWritten(f"it cannot be read back: {reason(error)}") from error


def lateness(format: str, first: Fraction, wanted: Fraction, tick: Fraction) -> Fraction:
    """Seconds by which the muxer of `format` has moved everything, told by the time of the first frame."""
    late = first - wanted
    return late if format in WITHOUT_NEGATIVE_TIMES and tick < late <= _LATEST else Fraction(0)


def _compare_times(
    format: str,
    found: Sequence[int],
    found_base: Fraction,
    times: NDArray[np.int64],
    time_base: Fraction,
) -> Moved:
    if not found:
        return Moved()  # a bare stream
    known = np.sort(np.array(found, np.int64))
    late = lateness(format, int(known[0]) * found_base, int(times[0]) * time_base, found_base)
    if len(known) < len(times):
        return Moved(late)  # program streams, with several frames in a pack
    allowed, early = found_base, Fraction(0)
    earliest = times
    if format in PROGRAM_STREAMS:
        # They state few times. Readers make up the others by the frame rate, and may be wrong by as many frames as
        # there are B-frames in a row (FFmpeg's own files are read so, too), and by what the rate is not exact. Of a
        # pause they know when the next time is stated.
        step = _step(times)
        allowed = max(found_base, (_b_frames(found) + 1) * step * time_base)
        earliest = np.minimum(times, times[0] + step * np.arange(len(times)))
    for got, wanted, least in zip(known.data, times.data, earliest.data, strict=True):
        off = got * found_base - wanted * time_base - late
        if off > allowed or off + (wanted - least) * time_base < -allowed:
            at = float(wanted * time_base)
            raise NotAsWritten(f"its frame at {at:.3f} s comes back at {float(got * found_base):.3f} s")
        if off < -allowed:
            early = max(early, -off)
    return Moved(late, early)


def _b_frames(decoded: Sequence[int]) -> int:
    """How many frames in a row, by their times in decoding order, are shown before one that was decoded earlier."""
    most = run = 0
    latest = decoded[0]
    for pts in decoded:
        run = run + 1 if pts < latest else 0
        most, latest = max(most, run), max(latest, pts)
    return most


def _step(times: NDArray[np.int64]) -> int:
    """Ticks from frame to frame, in general."""
    return int(np.median(np.diff(times))) if len(times) > 1 else 1


def _compare_sound(container: InputContainer, muxed: Muxed, found: dict[int, Sound]) -> Fraction:
    """Every track that was copied must be there, with as many packets or, where the reader cuts PCM anew, bytes.

    Returns how many seconds shorter than it was one of them is, at most.
    """
    shorter = Fraction(0)
    heads = {stream.index: _HEADS.get(codec_of(stream), 0) for stream in container.streams.audio}
    left = [(found.get(index, Sound()), head) for index, head in heads.items()]
    for index, written in muxed.audio.items():
        if written.packets == 0:
            continue
        whole = [(sound, head) for sound, head in left if _is_whole(sound, written, head)]
        if not whole and index in muxed.encoded:
            continue
        if not whole:
            held = ", ".join(str(sound.packets) for sound, _ in left) or "none"
            raise NotAsWritten(
                f"its audio stream {index} should hold {written.packets} packets; found: {held}"
            )
        left.remove(whole[0])
        sound, _ = whole[0]
        if sound.begin is not None:
            shorter = max(shorter, written.seconds - sound.seconds)
    return shorter


def _is_whole(sound: Sound, written: Sound, head: int) -> bool:
    """Whether `sound`, whose packets begin with `head` bytes, is what was written, with such bytes or without."""
    samples = sound.size - head * sound.packets
    return sound.packets == written.packets or written.size in (
        sound.size,
        samples,
        samples + head * written.packets,
    )
