"""H.264 whose frames come as two packets, a field in each (PAFF)."""

from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import field_pictures
import media
import numpy as np
import pytest
from av.packet import Packet
from engines import Adding
from jobs import LOSSLESS, names, restore

from carfix.quality.inspect import inspect_file
from carfix.restore.models import EngineChoice
from carfix.restore.pipe import restore_pipe
from carfix.video.decode import Damage, decode_frames
from carfix.video.headers.h264 import SecondFields
from carfix.video.source import probe
from carfix.video.timeline import scan

COUNT = 24
#: The ways in which fields come: raw, both behind one time, each behind its own.
WAYS = {"raw": ("clip.h264", False), "together": ("clip.ts", False), "apart": ("clip.ts", True)}


@pytest.fixture(params=[False, True], ids=["", "rated"])
def rated(request: pytest.FixtureRequest) -> bool:
    """Whether the stream states its rate: FFmpeg counts otherwise then."""
    return bool(request.param)


@pytest.fixture(params=WAYS)
def clip(request: pytest.FixtureRequest, tmp_path: Path, rated: bool) -> Path:
    name, apart = WAYS[request.param]
    return field_pictures.write(tmp_path / name, COUNT, apart=apart, rated=rated)


def test_a_frame_a_pair_of_fields(clip: Path) -> None:
    info = probe(clip)
    timeline = scan(info)
    assert len(timeline.pts) == 2 * COUNT  # packets
    times = timeline.presentation
    assert len(times) == COUNT
    assert set((np.diff(times) * info.time_base).tolist()) == {Fraction(1, 25)}
    assert timeline.last_duration * info.time_base == Fraction(1, 25)
    assert timeline.rate == 25


def test_a_stream_that_ends_with_a_lone_field(tmp_path: Path, rated: bool) -> None:
    clip = tmp_path / "clip.h264"
    fields = [field for frame in field_pictures.frames(COUNT, rated=rated) for field in frame]
    clip.write_bytes(b"".join(fields[:-1]))
    info = probe(clip)
    timeline = scan(info)
    assert len(timeline.presentation) == COUNT
    assert timeline.last_duration * info.time_base == Fraction(1, 25)


def test_frames_are_restored_at_their_times(clip: Path, tmp_path: Path) -> None:
    report = restore(clip, tmp_path / "out.mkv", encoder=LOSSLESS, model=Adding(2))
    assert report.frames == COUNT
    assert not report.damaged
    assert names(tmp_path) == {clip.name, "out.mkv"}
    with av.open(str(tmp_path / "out.mkv")) as container:
        found = [(frame.pts * frame.time_base, frame) for frame in container.decode(video=0)]
    first = found[0][0]
    for index, ((time, frame), luma) in enumerate(zip(found, field_pictures.pictures(COUNT), strict=True)):
        assert time - first == Fraction(index, 25)
        np.testing.assert_array_equal(frame.to_ndarray()[: luma.shape[0]], luma + 2)
        assert frame.interlaced_frame


def test_decoding_from_a_frame_on(clip: Path) -> None:
    info = probe(clip)
    timeline = scan(info)
    times = timeline.presentation.tolist()
    found = list(decode_frames(info, timeline, damage := Damage(), start=times[13], end=times[19]))
    assert [frame.pts for frame in found] == times[13:19]
    for frame, luma in zip(found, field_pictures.pictures(COUNT)[13:19], strict=True):
        np.testing.assert_array_equal(frame.to_ndarray()[: luma.shape[0]], luma)
    assert damage == Damage()


def test_through_a_pipe(clip: Path, tmp_path: Path) -> None:
    with clip.open("rb") as source:
        restore_pipe(
            source=source,
            output=tmp_path / "out.mkv",
            format="matroska",
            encoder=LOSSLESS,
            choice=EngineChoice(model=Adding(0)),
        )
    times = media.frame_times(tmp_path / "out.mkv")
    assert [time - times[0] for time in times] == [Fraction(index, 25) for index in range(COUNT)]


def test_bare_frames_through_a_pipe_have_the_rate_of_frames(clip: Path, tmp_path: Path) -> None:
    with clip.open("rb") as source:
        restore_pipe(source=source, output=tmp_path / "out.y4m", choice=EngineChoice(model=Adding(0)))
    assert b" F25:1 It " in (tmp_path / "out.y4m").read_bytes()[:60]


def test_inspect_counts_frames(clip: Path) -> None:
    found = inspect_file(clip)
    assert found.fps == 25
    if clip.suffix == ".ts":  # a raw stream states no duration
        assert found.frames == pytest.approx(COUNT, abs=1)


def test_a_field_that_was_lost() -> None:
    """Frames of a single field are frames, as FFmpeg's decoder has them."""
    fields = [field for frame in field_pictures.frames(6) for field in frame]
    reader = SecondFields(b"")

    def second(data: bytes) -> bool:
        packet: Packet[Any] = Packet(data)
        packet.is_keyframe = True
        return reader.look(packet)

    def seconds(data: list[bytes]) -> list[bool]:
        return [second(each) for each in data]

    assert seconds(fields) == [False, True] * 6
    lost = [*fields[:3], *fields[4:]]
    assert seconds(lost) == [False, True, False, *[False, True] * 4]
    assert seconds([first + second for first, second in field_pictures.frames(6)]) == [False] * 6


def test_progressive_video_is_hardly_looked_at(tmp_path: Path) -> None:
    clip = media.write_clip(tmp_path / "clip.mp4", frames=12)
    timeline = scan(probe(clip))
    assert len(timeline.presentation) == len(timeline.pts) == 12
