"""Recorders' own formats, which FFmpeg reads and does not write."""

import io
from fractions import Fraction
from pathlib import Path

import av
import media
import numpy as np
import pytest
import recorders
from engines import Adding
from jobs import LOSSLESS, restore, through

from carfix.restore.existing import what_is_there
from carfix.restore.models import EngineChoice
from carfix.restore.pipe import restore_pipe
from carfix.restore.tasks import Task
from carfix.video.demux import decoded
from carfix.video.source import open_input

#: From the full second on: FFmpeg takes a part of it for a whole one.
TIMES = [recorders.BEGIN + 40 * i for i in range(30)]
DATE = "its clock tells the date, 2023-11-14 22:13:20: the output begins at 0"


def spans(path: Path) -> list[tuple[Fraction, Fraction]]:
    """When each stream begins, and when its last packet does."""
    found: dict[int, list[Fraction]] = {}
    with av.open(str(path)) as container:
        for packet in container.demux():
            if packet.pts is not None and packet.time_base is not None:
                found.setdefault(packet.stream_index, []).append(packet.pts * packet.time_base)
    return [(min(times), max(times)) for _, times in sorted(found.items())]


@pytest.mark.parametrize("name", ["out.mkv", "out.mov", "out.ts", "out.flv"])
def test_a_clock_that_tells_the_date(name: str, tmp_path: Path) -> None:
    """Players showed a video of 54 years, and transport streams and FLV were refused."""
    source = recorders.write_dav(tmp_path / "in.dav", TIMES, sound=True)
    output = tmp_path / name
    sound = "copy" if output.suffix in (".mkv", ".mov") else "none"
    report = restore(source, output, audio_codec=sound)
    assert report.warnings[0] == DATE
    wanted = [Fraction(i, 25) for i in range(30)]
    late = media.frame_times(output)[0] if output.suffix == ".flv" else 0  # the frames that are reordered
    assert [time - late for time in media.frame_times(output)] == wanted
    if sound == "copy":
        begins, ends = spans(output)[1]
        assert begins == 0 and 1 < ends <= wanted[-1]
    outcome = what_is_there(Task(source, output), {})
    assert outcome is not None and outcome.status == "skipped"


def test_a_clock_that_tells_the_date_in_a_pipe(tmp_path: Path) -> None:
    source = recorders.write_dav(tmp_path / "in.dav", TIMES)
    said: list[str] = []
    through(source.read_bytes(), tmp_path / "out.mkv", "matroska", say=said.append)
    assert media.frame_times(tmp_path / "out.mkv") == [Fraction(i, 25) for i in range(30)]
    assert DATE in said


@pytest.mark.parametrize("clock", [0, -3_600_000, 10**12 // 2], ids=["runs", "set back", "set ahead"])
def test_frames_last_as_long_as_the_rate_says(clock: int, tmp_path: Path) -> None:
    """FFmpeg says a millisecond: so much behind a clock that was set, and at the end."""
    times = [moment + (clock if i >= 25 else 0) for i, moment in enumerate(TIMES)]
    source = recorders.write_dav(tmp_path / "in.dav", times)
    output = tmp_path / "out.mp4"
    restore(source, output)
    assert media.frame_times(output) == [Fraction(i, 25) for i in range(30)]
    with av.open(str(output)) as container:
        video = container.streams.video[0]
        assert video.time_base is not None and video.duration is not None
        assert video.duration * video.time_base == Fraction(30, 25)


def test_a_cameras_file_that_ends_with_its_index_is_whole(tmp_path: Path) -> None:
    """FFmpeg reads on into the index, and calls the file damaged."""
    source = recorders.write_hxvs(tmp_path / "in.264", range(0, 1200, 40))
    output = tmp_path / "out.mkv"
    report = restore(source, output)
    assert not report.warnings and not report.damaged
    assert media.frame_times(output) == [Fraction(i, 25) for i in range(30)]
    with open_input(source) as container:
        assert len(list(decoded(container, container.streams.video[0]))) == 30


@pytest.mark.parametrize("index", [True, False])
def test_a_cameras_file_with_damage_in_the_middle(index: bool, tmp_path: Path) -> None:
    source = recorders.write_hxvs(tmp_path / "in.264", range(0, 1200, 40), index=index)
    data = source.read_bytes()
    at = data.index(b"HXVF", 4000)
    source.write_bytes(data[:at] + bytes(100) + data[at + 100 :])
    report = restore(source, tmp_path / "out.mkv")
    assert report.damaged and 3 < report.frames < 30
    wanted = f"the input's structure is damaged at byte {at}: what is not found behind that is lost"
    assert report.warnings == (wanted,)


@pytest.mark.parametrize("piped", [False, True])
def test_pictures_keep_their_order_where_a_clock_steps_back_a_little(piped: bool, tmp_path: Path) -> None:
    """The network sets it again and again, and a camera's hesitates: by their times two pictures changed places."""
    times = [40 * i - (80 if i >= 12 else 0) + (4000 if i == 20 and not piped else 0) for i in range(30)]
    source = recorders.write_hxvs(tmp_path / "in.264", times, index=False)
    output = tmp_path / "out.mkv"
    if piped:
        report = through(source.read_bytes(), output, "matroska", encoder=LOSSLESS)
    else:
        report = restore(source, output, encoder=LOSSLESS)
    assert any("frames were moved so that times ascend" in line for line in report.warnings)
    for got, wanted in zip(media.planes(output), media.planes(source), strict=True):
        assert np.array_equal(got, wanted)
    shown = [round(time * 1000) for time in media.frame_times(output)]
    assert shown == [*range(0, 480, 40), 441, 442, *range(480, 1120, 40)]


@pytest.mark.parametrize("stamped", [True, False])
@pytest.mark.parametrize("piped", [False, True])
def test_pictures_without_times_begin_with_their_sound(piped: bool, stamped: bool, tmp_path: Path) -> None:
    """They began at 0, and sound an hour later."""
    source = recorders.write_hikvision(tmp_path / "in.mp4", 30, begin=90_000 * 3600, stamped=stamped)
    output = tmp_path / "out.mkv"
    if piped:
        target = io.BytesIO()  # in which FFmpeg goes back; where it cannot, pictures begin at 0
        restore_pipe(
            source=io.BytesIO(source.read_bytes()),
            output=target,
            format="matroska",
            choice=EngineChoice(model=Adding(0)),
        )
        output.write_bytes(target.getvalue())
    else:
        report = restore(source, output)
        assert not report.warnings
    assert media.frame_times(output) == [3600 + Fraction(i, 25) for i in range(30)]
    assert spans(output)[1] == (3600, 3600 + Fraction(29, 25))
