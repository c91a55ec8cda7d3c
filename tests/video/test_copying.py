"""Copied streams: times that their container takes."""

import itertools
from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import av
import media
import pytest
from av.format import ContainerFormat

from carfix.video.copying import Ascending, _Clock


def copy_in(format: str, clock: Fraction, kind: str = "audio") -> Any:  # noqa: ANN401 - in place of a stream
    container = SimpleNamespace(format=ContainerFormat(format, "w"))
    return SimpleNamespace(time_base=clock, type=kind, container=container)


@pytest.mark.parametrize("clock", [Fraction(1, 48_000), Fraction(1, 44_100), Fraction(1, 90_000)])
def test_repaired_times_ascend_on_the_outputs_clock_too(clock: Fraction) -> None:
    """Of MPEG-TS's ticks two fall into one of MP4's, which counts samples and takes no time twice."""
    stream: Any = SimpleNamespace(time_base=Fraction(1, 90_000), codec_context=None)
    ascending = Ascending(stream, copy_in("mp4", clock))
    packets: list[Any] = [
        SimpleNamespace(pts=time, dts=time, duration=1) for time in (0, 2160, 2161, 2160, 2000, 4320)
    ]
    for packet in packets:
        ascending.set_times(packet)
    written = [round(packet.dts * stream.time_base / clock) for packet in packets]
    assert all(a < b for a, b in itertools.pairwise(written))
    assert [packet.pts - packet.dts for packet in packets] == [0] * len(packets)
    assert (packets[1].dts, packets[-1].dts) == (2160, 4320)


@pytest.mark.parametrize(
    ("format", "kind", "kept"),
    [("matroska", "audio", True), ("mpegts", "audio", False), ("mpegts", "subtitle", True)],
)
def test_equal_times_stay_equal_where_they_may(format: str, kind: str, kept: bool) -> None:
    """Else packets of less than a millisecond, of which TrueHD has 1200 a second, would fall behind the picture."""
    millisecond = Fraction(1, 1000)
    stream: Any = SimpleNamespace(time_base=millisecond, codec_context=None)
    ascending = Ascending(stream, copy_in(format, millisecond, kind))
    times = [packet * 5 // 6 for packet in range(600)]
    packets: list[Any] = [SimpleNamespace(pts=time, dts=time, duration=1) for time in times]
    for packet in packets:
        ascending.set_times(packet)
    assert ([packet.dts for packet in packets] == times) is kept


@pytest.mark.parametrize(("format", "clock"), [("mpegts", 90_000), ("mov", 48_000)])
def test_packets_that_share_a_millisecond_do_not_fall_behind_the_picture(format: str, clock: int) -> None:
    """TrueHD out of Matroska was a fifth too slow in MPEG-TS, whose clock is fine enough for it."""
    millisecond = Fraction(1, 1000)
    stream: Any = SimpleNamespace(time_base=millisecond, codec_context=None)
    ascending = Ascending(stream, copy_in(format, Fraction(1, clock)))
    times = [packet * 5 // 6 for packet in range(1200)]
    packets: list[Any] = [SimpleNamespace(pts=time, dts=time, duration=1, time_base=None) for time in times]
    for packet in packets:
        ascending.set_times(packet)
    assert all(a.dts < b.dts for a, b in itertools.pairwise(packets))
    assert all(
        abs(p.dts * p.time_base - t * millisecond) < millisecond for p, t in zip(packets, times, strict=True)
    )


@pytest.mark.parametrize(("codec", "first"), [("truehd", 80), ("ac3", 70)])
def test_sound_with_keyframes_begins_with_one_where_a_part_is_cut_out(codec: str, first: int) -> None:
    """Readers leave out what comes before: the output seemed to lack packets, when all frames were computed."""
    millisecond = Fraction(1, 1000)
    context = SimpleNamespace(codec=SimpleNamespace(canonical_name=codec))
    stream: Any = SimpleNamespace(time_base=millisecond, codec_context=context, type="audio", disposition=0)
    info = SimpleNamespace(format="matroska,webm")
    plan: Any = SimpleNamespace(jumps=(), shift=Fraction(7, 100), start=Fraction(7, 100), end=None, info=info)
    clock = _Clock(stream, copy_in("matroska", millisecond), plan)
    packets: list[Any] = [
        SimpleNamespace(pts=time, dts=time, duration=1, is_keyframe=codec != "truehd" or time % 16 == 0)
        for time in range(100)
    ]
    left = [time for time, packet in enumerate(packets) if clock.set_times(packet, None)]
    assert left == list(range(first, 100))


def test_sound_without_times_goes_on_by_the_length_of_its_packets(tmp_path: Path) -> None:
    """FFmpeg states a time for the first of those alone that it looks at in a pipe, if damage comes at once."""
    clip = media.write_clip(tmp_path / "in.ts", sounds=[media.Sound(rate=48_000)])
    with av.open(str(clip)) as container:
        ascending = Ascending(container.streams.audio[0], copy_in("matroska", Fraction(1, 1000)))
        packets: list[Any] = [SimpleNamespace(pts=time, dts=time, duration=0) for time in (9000, None, None)]
        for packet in packets:
            ascending.set_times(packet)
    assert [packet.pts for packet in packets] == [9000, 9000 + 1920, 9000 + 2 * 1920]
