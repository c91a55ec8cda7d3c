"""Clocks that stand still."""

from carfix.video.standing import StandingClock


def shown(times: list[int], duration: int | None = None, step: int = 40) -> list[int]:
    clock = StandingClock(step)
    pairs = zip(times, [*times[1:], None], strict=True)
    return [time + clock.look((time, time), duration, (after, after)) for time, after in pairs]


def test_packets_of_one_time_follow_each_other() -> None:
    assert shown([0] * 5) == [0, 40, 80, 120, 160]
    assert shown([7] * 4, duration=20) == [7, 27, 47, 67]


def test_what_follows_is_as_much_later() -> None:
    assert shown([0, 40, 40, 40, 80, 120]) == [0, 40, 80, 120, 160, 200]


def test_a_clock_that_catches_up_is_on_time_again() -> None:
    bursts = [0, 0, 0, 0, 160, 160, 160, 160, 320, 360]
    assert shown(bursts) == [*range(0, 320, 40), 320, 360]


def test_a_pause_later_on_stays_one() -> None:
    assert shown([0, 0, 0, 40, 80, 9000, 9040]) == [0, 40, 80, 120, 160, 9080, 9120]


def test_two_of_one_time_are_left_alone() -> None:
    assert shown([0, 40, 40, 80, 80, 160]) == [0, 40, 40, 80, 80, 160]


def test_frames_that_are_decoded_at_one_time_are_shown_at_theirs() -> None:
    """Careless muxers, before the first frames with B-frames."""
    clock = StandingClock(40)
    assert [clock.look((pts, 0), 40, (pts + 40, 0)) for pts in (0, 40, 80, 120)] == [0] * 4
