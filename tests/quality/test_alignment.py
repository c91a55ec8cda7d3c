from collections.abc import Iterator, Sequence

import numpy as np
import pytest

from carfix.errors import CarfixError
from carfix.quality.alignment import Unmatched, aligned
from carfix.quality.reader import LumaFrame


def video(times: Sequence[float | None]) -> Iterator[LumaFrame]:
    for index, time in enumerate(times):
        yield LumaFrame(luma=np.zeros((1, 1), np.uint8), bit_depth=8, time=time, index=index)


def pairs(
    reference: Sequence[float | None], candidate: Sequence[float | None], **options: bool
) -> tuple[list[tuple[int, int]], Unmatched]:
    unmatched = Unmatched()
    found = aligned(video(reference), video(candidate), names=("ref", "cand"), unmatched=unmatched, **options)
    return [(first.index, second.index) for first, second in found], unmatched


def test_frames_pair_up_by_time_despite_rounded_clocks() -> None:
    exact = [i / 30 for i in range(50)]
    in_ms = [round(time, 3) for time in exact]
    found, unmatched = pairs(exact, in_ms)
    assert found == [(i, i) for i in range(50)]
    assert unmatched == Unmatched()


def test_variable_frame_rate() -> None:
    times = [0, 0.04, 0.5, 0.52, 3.0]
    assert pairs(times, times)[0] == [(i, i) for i in range(5)]


def test_videos_without_times_pair_up_in_order() -> None:
    assert pairs([None] * 3, [0, 0.1, 0.2])[0] == [(0, 0), (1, 1), (2, 2)]


def test_fewer_frames_are_an_error_that_counts_them() -> None:
    for reference, candidate, counts in (((0, 1, 2, 3), (0, 1), (4, 2)), ((0, 1), (0, 1, 2), (2, 3))):
        with pytest.raises(
            CarfixError, match=rf"ref has {counts[0]} frames and cand {counts[1]}.*--shortest"
        ):
            pairs(reference, candidate)
    found, unmatched = pairs((0, 1, 2, 3), (0, 1), shortest=True)
    assert found == [(0, 0), (1, 1)]
    assert unmatched == Unmatched(reference=2)


def test_a_dropped_frame_is_an_error_that_says_when() -> None:
    with pytest.raises(
        CarfixError, match=r"ref shows a frame at 2\.000 s \(number 3\) that cand does not have"
    ):
        pairs((0, 1, 2, 3, 4), (0, 1, 3, 4))
    with pytest.raises(
        CarfixError, match=r"cand shows a frame at 2\.000 s \(number 3\) that ref does not have"
    ):
        pairs((0, 1, 3, 4), (0, 1, 2, 3, 4))
    found, unmatched = pairs((0, 1, 2, 3, 4), (0, 1, 3, 4), shortest=True)
    assert found == [(0, 0), (1, 1), (3, 2), (4, 3)]
    assert unmatched == Unmatched(reference=1)


def test_an_unaligned_start_is_an_error_with_its_cures() -> None:
    late = [1.4 + i / 25 for i in range(5)]
    with pytest.raises(CarfixError, match=r"ref starts at 0\.000 s and cand at 1\.400 s; --align-start"):
        pairs([i / 25 for i in range(5)], late)
    found, unmatched = pairs([i / 25 for i in range(5)], late, align_start=True)
    assert found == [(i, i) for i in range(5)]
    assert unmatched == Unmatched()
    # The same clock, but two frames were cut off.
    found, unmatched = pairs((0, 1, 2, 3), (2, 3), shortest=True)
    assert found == [(2, 0), (3, 1)]
    assert unmatched == Unmatched(reference=2)


def test_a_video_without_frames_is_named() -> None:
    with pytest.raises(CarfixError, match="cand has no frames"):
        pairs((0, 1), ())


def test_of_a_candidate_with_many_more_frames_those_of_the_same_time_are_taken() -> None:
    """25 against 100 a second: the frame before the right one is nearer than half of the reference's distance."""
    reference = [i / 25 for i in range(5)]
    candidate = [i / 100 for i in range(20)]
    found, unmatched = pairs(reference, candidate, shortest=True)
    assert found == [(i, 4 * i) for i in range(5)] and unmatched == Unmatched(candidate=15)
    assert pairs(candidate, reference, shortest=True)[0] == [(4 * i, i) for i in range(5)]
