"""The plan of a file: what it promises to every other part."""

import itertools
from fractions import Fraction

import numpy as np
import pytest

from carfix.errors import CarfixError, UsageError
from carfix.video.segments import PATIENCE, Window, plan_segments
from carfix.video.timeline import NO_TIME, Timeline
from carfix.video.userdata import UserData

TICK = Fraction(1, 100)


def timeline(pts: list[int], keyframes: list[int]) -> Timeline:
    array = np.array(pts, np.int64)
    index = np.array(keyframes, np.int64)
    return Timeline(
        pts=array,
        raw_pts=array,
        raw_dts=np.full(len(pts), NO_TIME),
        sizes=np.ones(len(pts), np.int64),
        shown=np.ones(len(pts), np.bool_),
        keyframes=index,
        clean=index,
        last_duration=4,
        rate=Fraction(25),
        ordinal=False,
        jumps=(),
        moved=0,
        stood=0,
        strays=0,
        corrupt=0,
        truncated=None,
        user_data=UserData(),
        resized=None,
    )


def test_segments_are_closed_ranges_that_begin_at_keyframes() -> None:
    line = timeline([4 * i for i in range(100)], keyframes=list(range(0, 100, 10)))
    segments = plan_segments(line, TICK, seconds=1.0)
    assert segments[0].start == 0 and segments[-1].end == 4 * 99 + 1
    assert all(a.end == b.start for a, b in itertools.pairwise(segments))
    assert all(segment.start % 40 == 0 for segment in segments)
    assert [segment.start for segment in segments] == [0, 120, 240, 360]
    assert sum(segment.frames for segment in segments) == 100


def test_leading_pictures_of_an_open_gop_belong_to_the_segment_before() -> None:
    # Decoding order I P b b | I b b P: the last b b are shown before their I.
    line = timeline([0, 12, 4, 8, 24, 16, 20, 28], keyframes=[0, 4])
    segments = plan_segments(line, TICK, seconds=0.1)
    assert [(segment.start, segment.end, segment.frames) for segment in segments] == [(0, 24, 6), (24, 29, 2)]


def test_without_keyframes_segments_begin_anywhere() -> None:
    line = timeline([4 * i for i in range(1000)], keyframes=[0])
    segments = plan_segments(line, TICK, seconds=1.0)
    assert len(segments) == 40
    assert max(segment.frames for segment in segments) <= 25 * PATIENCE


def test_window() -> None:
    line = timeline([4 * i for i in range(100)], keyframes=list(range(0, 100, 10)))
    segments = plan_segments(line, TICK, seconds=1.0, window=Window(start=50, end=70))
    assert sum(segment.frames for segment in segments) == 5
    with pytest.raises(CarfixError, match="no frame"):
        plan_segments(line, TICK, window=Window(start=500))
    with pytest.raises(CarfixError, match="no frame of the video is shown"):
        Window().cut(np.array([], np.int64))


@pytest.mark.parametrize("seconds", [0, -1, float("nan")])
def test_lengths_that_cannot_be(seconds: float) -> None:
    with pytest.raises(UsageError, match="--segment"):
        plan_segments(timeline([0], [0]), TICK, seconds=seconds)
