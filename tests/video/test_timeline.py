"""Times of a stream: read without decoding, repaired where a clock ran backwards."""

import itertools
import tracemalloc
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import media
import numpy as np
import pytest

import carfix.video.timeline
from carfix.video.clock import ClockRepair
from carfix.video.decode import Damage, decode_frames, restart_index
from carfix.video.guessed import delay_of, slots_of
from carfix.video.muxed import Muxed
from carfix.video.source import probe
from carfix.video.timeline import NO_TIME, scan
from carfix.video.verify import read_back

MS = Fraction(1, 1000)


def repaired(times: list[int], clock: ClockRepair, duration: int = 40) -> list[int]:
    following = [*times[1:], None]
    return [clock.repair(time, duration, after)[1] for time, after in zip(times, following, strict=True)]  # type: ignore[misc]


def test_a_clock_that_runs_forward_is_left_alone() -> None:
    times = [0, 40, 80, 5000, 5040]
    clock = ClockRepair(MS)
    assert repaired(times, clock) == times
    assert clock.found == []


def test_a_jump_back_goes_on_one_packet_later() -> None:
    clock = ClockRepair(MS)
    assert repaired([1000, 1040, 1080, 200, 240], clock) == [1000, 1040, 1080, 1120, 1160]
    (jump,) = clock.found
    assert (jump.before, jump.after, jump.shift) == (
        Fraction(1080, 1000),
        Fraction(200, 1000),
        Fraction(920, 1000),
    )


def test_other_streams_follow_the_video_exactly() -> None:
    video = ClockRepair(MS)
    repaired([1000, 1040, 1080, 200, 240], video)
    sound = ClockRepair(Fraction(1, 48000), tuple(video.found))
    times = [round(t * 48) for t in (1000, 1021, 1043, 1064, 211, 232)]
    moved = repaired(times, sound, duration=1024)
    assert moved[:4] == times[:4]
    assert [b - a for a, b in zip(times[4:], moved[4:], strict=True)] == [920 * 48] * 2


def test_subtitles_in_the_wrong_order_are_no_jump() -> None:
    """All that followed were moved with them."""
    times = [1000, 20_000, 19_000, 40_000, 60_000, 59_500, 90_000]
    clock = ClockRepair(MS, sparse=True)
    assert [clock.repair(time, 2000, None)[1] for time in times] == times
    assert clock.found == []


def test_subtitles_follow_a_jump_that_is_minutes_away() -> None:
    video = ClockRepair(MS)
    repaired([0, *range(300_000, 600_000, 40), *range(0, 200_000, 40)], video)
    (jump,) = video.found
    text = ClockRepair(MS, (jump,), sparse=True)
    moved = [text.repair(time, 2000, None)[1] for time in (310_000, 450_000, 100_000, 150_000)]
    assert moved == [310_000, 450_000, 700_000, 750_000]


@pytest.mark.parametrize("hours", [2, 25])
def test_a_camera_that_starts_anew_has_not_paused_for_a_day(hours: int) -> None:
    """FFmpeg counts an MPEG clock's times below the first one as behind the end of its 26.5 hours."""
    turn, before = 2**33, hours * 3600 * 90_000
    times = [before, before + 3600, turn + 1800, turn + 5400]
    clock = ClockRepair(Fraction(1, 90_000), format="mpegts")
    moved = [before + 3600 * i for i in range(4)]
    assert repaired(times, clock, duration=3600) == moved
    (jump,) = clock.found
    assert (jump.after, jump.shift) == (Fraction(1, 50), (before + 5400) * Fraction(1, 90_000))
    elsewhere = ClockRepair(Fraction(1, 90_000), format="matroska")
    assert repaired(times, elsewhere, duration=3600) == times


def test_a_clock_of_a_day_may_pause_and_run_over() -> None:
    turn, clock = 2**33, ClockRepair(Fraction(1, 90_000), format="mpegts")
    pause = [0, 3600, 12 * 3600 * 90_000, 12 * 3600 * 90_000 + 3600]
    assert repaired(pause, clock, duration=3600) == pause
    over = [turn - 3600 * i for i in (2, 1, 0, -1, -2)]
    assert repaired(over, ClockRepair(Fraction(1, 90_000), format="mpeg"), duration=3600) == over


def test_nobody_pauses_for_a_year() -> None:
    """A camera's clock begins in 1970 or 2000, until the network tells it the time."""
    year = 366 * 24 * 3600 * 1000
    clock = ClockRepair(MS)
    assert repaired([0, 40, year, year + 40, year + 80], clock) == [0, 40, 80, 120, 160]
    assert len(clock.found) == 1


def test_two_jumps_add_up() -> None:
    clock = ClockRepair(MS)
    assert repaired([1000, 1040, 0, 40, 80, 120, 0], clock) == [1000, 1040, 1080, 1120, 1160, 1200, 1240]
    assert len(clock.found) == 2


def test_a_single_damaged_time_is_no_jump() -> None:
    for stray in (10_000_000, 1_500, 3):
        clock = ClockRepair(MS)
        assert repaired([1000, 1040, stray, 1120, 1160], clock) == [1000, 1040, 1080, 1120, 1160]
        assert (clock.found, clock.strays) == ([], 1)
    pause = [1000, 1040, 90_000, 90_040]
    assert repaired(pause, ClockRepair(MS)) == pause


def test_rounding_is_not_a_jump() -> None:
    clock = ClockRepair(MS)
    assert repaired([1000, 1040, 1039, 1080], clock) == [1000, 1040, 1039, 1080]


def test_scan_knows_every_frame_without_decoding(tmp_path: Path) -> None:
    source = media.write_clip(tmp_path / "in.mp4", frames=30)
    info = probe(source)
    timeline = scan(info)
    assert [time * info.time_base for time in timeline.presentation.tolist()] == media.frame_times(source)
    assert len(timeline.keyframes) >= 5
    assert timeline.corrupt == 0 and timeline.truncated is None and not timeline.ordinal


PAUSE = [*range(12), *range(7500, 7512)]


@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".ts"])
@pytest.mark.parametrize("ticks", [[750 * i for i in range(12)], PAUSE], ids=["lapse", "pause"])
def test_pauses_are_no_damage(ticks: list[int], suffix: str, tmp_path: Path) -> None:
    """A frame every 30 s, or minutes between two events: B-frames are shown as much later than they are decoded."""
    source = media.write_clip(
        tmp_path / f"in{suffix}", times=[3600 * tick for tick in ticks], time_base=Fraction(1, 90_000)
    )
    info = probe(source)
    timeline = scan(info)
    times = [int(time) * info.time_base for time in timeline.presentation]
    assert [time - times[0] for time in times] == [Fraction(tick, 25) for tick in ticks]
    assert (timeline.strays, timeline.jumps) == (0, ())


def test_a_damaged_time_is_guessed_from_its_neighbours(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Also behind a pause: of all frames the one without a time takes the one that is left."""
    ticks = [3600 * tick for tick in PAUSE]
    info = probe(media.write_clip(tmp_path / "in.mp4", times=ticks, time_base=Fraction(1, 90_000)))
    whole = scan(info)
    rows = carfix.video.timeline._row
    for number in range(len(PAUSE)):
        for wrong, strays in ((NO_TIME, 0), (2**32, 1)):
            seen = itertools.count()

            def row(packet: Any, wrong: int = wrong) -> tuple[int, ...]:  # noqa: ANN401 - PyAV's
                return (wrong if next(seen) == number else packet.pts, *rows(packet)[1:])  # noqa: B023

            monkeypatch.setattr(carfix.video.timeline, "_row", row)
            timeline = scan(info)
            assert np.array_equal(timeline.pts, whole.pts)
            assert timeline.strays == strays


def test_program_streams_that_leave_times_out(tmp_path: Path) -> None:
    """They state one a pack, and so none of most frames: the first is shown when it says, not when it is decoded."""
    source = media.write_clip(
        tmp_path / "in.mpg",
        codec="mpeg2video",
        frames=25,
        time_base=Fraction(1, 25),
        options={"bf": "2", "g": "12", "b": "60000"},
        muxer={"packetsize": "65000"},
    )
    info = probe(source)
    timeline = scan(info)
    assert timeline.ordinal
    first = min(int(time) for time in timeline.raw_pts if time != NO_TIME)
    assert timeline.presentation.tolist() == [first + 3600 * i for i in range(25)]


def _without_rate(stream: bytes) -> bytes:
    """A raw H.264 stream of x264's, of whole macroblocks, without what its parameter set tells of use and rate."""
    start = stream.index(b"\0\0\1\x67") + 3
    end = stream.index(b"\0\0\1", start) - 1
    sps = stream[start:end]
    bits = "".join(f"{byte:08b}" for byte in sps.replace(b"\0\0\3", b"\0\0"))
    at = 32  # behind profile and level

    def skip_number() -> None:
        nonlocal at
        zeros = bits.index("1", at) - at
        at += 2 * zeros + 1

    for _ in range(
        5
    ):  # number of the set, lengths of frame numbers, kind and length of the order's, references
        skip_number()
    at += 1
    for _ in range(2):
        skip_number()  # width, height
    at += 3
    assert bits[at] == "1"
    bits = bits[:at] + "01"
    sps = int(bits.ljust(-(-len(bits) // 8) * 8, "0"), 2).to_bytes(-(-len(bits) // 8), "big")
    return stream[:start] + sps + stream[end:]


def test_raw_streams_that_state_no_rate(tmp_path: Path) -> None:
    # FFmpeg states 1/25 s for the packets that it looks at first, and a tick for the others.
    count = 120
    clip = media.write_clip(
        tmp_path / "clip.h264", width=64, height=64, frames=count, options={"profile": "main"}
    )
    clip.write_bytes(_without_rate(clip.read_bytes()))
    info = probe(clip)
    timeline = scan(info)
    assert len(timeline.pts) == count
    steps = np.diff(timeline.presentation) * info.time_base
    assert set(steps.tolist()) == {Fraction(1, 25)}
    assert timeline.last_duration * info.time_base == Fraction(1, 25)


@pytest.mark.parametrize("options", [{}, {"x264-params": "open-gop=1"}, {"intra-refresh": "1"}])
@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".ts"])
def test_decoding_from_anywhere_gives_the_same_frames(
    suffix: str, options: dict[str, str], tmp_path: Path
) -> None:
    """What a resumed run decodes is what an uninterrupted one would have: also behind open GOPs and refreshes."""
    source = media.write_clip(tmp_path / f"in{suffix}", frames=40, options={**media.X264, **options})
    info = probe(source)
    timeline = scan(info)
    whole = {f.pts: bytes(f.planes[0]) for f in decode_frames(info, timeline, Damage())}
    assert len(whole) == 40
    starts = timeline.presentation[::7].tolist()
    for start in starts:
        part = {f.pts: bytes(f.planes[0]) for f in decode_frames(info, timeline, Damage(), start=start)}
        assert part == {pts: luma for pts, luma in whole.items() if pts >= start}
    if not options:
        assert restart_index(timeline, starts[-1]) > 20  # by seeking, not by decoding everything before


def test_closed_end(tmp_path: Path) -> None:
    source = media.write_clip(tmp_path / "in.mp4", frames=20)
    info = probe(source)
    timeline = scan(info)
    times = timeline.presentation
    frames = list(decode_frames(info, timeline, Damage(), start=int(times[5]), end=int(times[9])))
    assert [frame.pts for frame in frames] == times[5:9].tolist()
    assert np.all(np.diff(times) > 0)


def test_frames_that_are_not_shown_move_no_other(tmp_path: Path) -> None:
    """VP8 and VP9 send such ahead of one that is shown, in a packet of its own with the same time."""
    path, times = tmp_path / "in.mkv", [0, 40, 80, 80, 120, 160, 160, 200]
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libvpx", rate=25)
        stream.width, stream.height, stream.pix_fmt = 32, 32, "yuv420p"
        packets = [*stream.encode(av.VideoFrame(32, 32, "yuv420p")), *stream.encode(None)]
        for time in times:
            packet = av.Packet(bytes(packets[0]))
            packet.pts = packet.dts = time
            packet.stream, packet.time_base, packet.is_keyframe = stream, MS, time == 0
            container.mux(packet)
    timeline = scan(probe(path))
    assert (timeline.pts.tolist(), timeline.moved) == (times, 0)
    clock = ClockRepair(MS)
    assert [clock.in_order(time, time) for time in times] == times
    assert clock.moved == 0


def test_the_first_time_counts_where_frames_are_no_whole_ticks() -> None:
    """At 59.94 frames a second a slot is 1501 ticks, and four of them end before the frame that they stand for."""
    slots = slots_of(np.array([89_999]), 1501)
    assert delay_of(np.array([96_005]), np.array([True]), slots) == 4


def test_a_packet_takes_few_bytes(tmp_path: Path) -> None:
    """A day of video has two and a half million packets; Python's numbers take five times as much as arrays of them."""
    path, count = tmp_path / "day.mkv", 20_000
    with av.open(str(path), "w") as container:
        stream = container.add_stream("ffv1", rate=25)
        stream.width = stream.height = 16
        stream.pix_fmt = "gray"
        frame = av.VideoFrame(16, 16, "gray")
        frame.pts = 0
        (packet,) = [*stream.encode(frame), *stream.encode(None)]
        content = bytes(packet)
        for number in range(count):
            packet = av.Packet(content)
            packet.pts = packet.dts = number * 40
            packet.stream, packet.time_base, packet.is_keyframe = stream, Fraction(1, 1000), True
            container.mux(packet)
    written = Muxed(videos=[0], restored=0, audio={}, encoded=set(), written={0})
    tracemalloc.start()
    try:
        info = probe(path)
        times = scan(info).presentation
        assert len(times) == count
        scanning = tracemalloc.get_traced_memory()[1]
        tracemalloc.reset_peak()
        read_back(path, written, times, info.time_base)
        verifying = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert scanning < 150 * count and verifying < 60 * count, (scanning / count, verifying / count)
