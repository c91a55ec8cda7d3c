"""Copied streams: times that their container takes."""

import itertools
from fractions import Fraction
from types import SimpleNamespace
from typing import Any

import pytest

from carfix.video.copying import Ascending


@pytest.mark.parametrize("clock", [Fraction(1, 48_000), Fraction(1, 44_100), Fraction(1, 90_000)])
def test_repaired_times_ascend_on_the_outputs_clock_too(clock: Fraction) -> None:
    """Of MPEG-TS's ticks two fall into one of MP4's, which counts samples and takes no time twice."""
    stream: Any = SimpleNamespace(time_base=Fraction(1, 90_000), codec_context=None)
    ascending = Ascending(stream, SimpleNamespace(time_base=clock))  # type: ignore[arg-type]
    packets: list[Any] = [SimpleNamespace(pts=time, dts=time) for time in (0, 2160, 2161, 2160, 2000, 4320)]
    for packet in packets:
        ascending.set_times(packet)
    written = [round(packet.dts * stream.time_base / clock) for packet in packets]
    assert all(a < b for a, b in itertools.pairwise(written))
    assert [packet.pts - packet.dts for packet in packets] == [0] * len(packets)
    assert (packets[1].dts, packets[-1].dts) == (2160, 4320)
