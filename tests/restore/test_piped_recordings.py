"""Recordings that come through a pipe: clocks that are set, damage, changes on the way."""

import errno
import itertools
import os
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import media
import numpy as np
import pytest
from engines import Adding, Failing
from jobs import Unseekable, restore, through
from media import Sound

from carfix.errors import CarfixError
from carfix.restore.models import EngineChoice
from carfix.restore.pipe import restore_pipe
from carfix.video.demux import demux
from carfix.video.encoder_settings import EncoderSettings


def test_recordings_one_behind_the_other(tmp_path: Path) -> None:
    """`cat a.ts a.ts a.ts`: the clock is set back twice, and pictures of the parts must not mix."""
    part = media.write_clip(
        tmp_path / "a.ts", frames=25, sounds=[Sound(codec="mp2", seconds=1.0)], options=media.X264
    )
    whole = tmp_path / "whole.ts"
    whole.write_bytes(3 * part.read_bytes())
    said: list[str] = []
    lossless = EncoderSettings(codec="ffv1")
    report = through(whole.read_bytes(), tmp_path / "out.mkv", "matroska", encoder=lossless, say=said.append)
    assert report.frames == 75
    assert [line for line in said if "the clock jumped back" in line] == list(report.warnings[-3:-1])
    for shown, wanted in zip(media.planes(tmp_path / "out.mkv"), 3 * media.planes(part), strict=True):
        assert np.array_equal(shown, wanted)
    with av.open(str(tmp_path / "out.mkv")) as container:
        packets = [packet for packet in container.demux() if packet.pts is not None]
    shifts = []
    for place in (0, 1):
        times = np.array([packet.pts for packet in packets if packet.stream_index == place])
        assert (np.abs(np.diff(times) - 24 - 16 * (place == 0)) <= 10).all()
        shifts.append(times.reshape(3, -1)[1:] - times.reshape(3, -1)[0])
    # Both were moved alike, to within a millisecond: sound stays with the picture.
    assert np.ptp(shifts[0] - shifts[0][:, :1]) <= 2
    assert (np.abs(shifts[0][:, 0] - shifts[1][:, 0]) <= 1).all()


def test_a_camera_that_was_started_anew_goes_on(tmp_path: Path) -> None:
    """Its clock is back at 0. FFmpeg takes that for one that ran over: behind a pause of 26 hours, as from a file."""
    whole = tmp_path / "whole.ts"
    parts = [
        media.write_clip(
            tmp_path / f"{hours}.ts",
            frames=25,
            times=[hours * 3600 * 90_000 + 3600 * i for i in range(25)],
            time_base=Fraction(1, 90_000),
            sounds=[Sound(codec="mp2", start=hours * 3600, seconds=1.0)],
            muxer={"mpegts_copyts": "1"},
        )
        for hours in (2, 0)
    ]
    whole.write_bytes(b"".join(part.read_bytes() for part in parts))
    through(whole.read_bytes(), tmp_path / "piped.mkv", "matroska")
    restore(whole, tmp_path / "file.mkv", encoder=None)
    for name in ("piped.mkv", "file.mkv"):
        times = media.frame_times(tmp_path / name)
        assert len(times) == 50
        assert max(np.diff(times)) < 0.2


def test_what_was_found_is_told_of_a_run_that_does_not_come_to_its_end(tmp_path: Path) -> None:
    part = media.write_clip(tmp_path / "a.ts", frames=25)
    said: list[str] = []
    with pytest.raises(KeyboardInterrupt):
        restore_pipe(
            source=Unseekable(2 * part.read_bytes()),
            output=Unseekable(),
            format="nut",
            choice=EngineChoice(model=Failing(45, KeyboardInterrupt())),
            say=said.append,
        )
    assert any("the clock jumped back" in line for line in said)


def test_what_a_network_lost_is_told(tmp_path: Path) -> None:
    """The decoder conceals it, and gives every frame."""
    data = media.write_clip(tmp_path / "in.ts", frames=25, options=media.X264).read_bytes()
    cut = len(data) // 2 // 188 * 188
    said: list[str] = []
    report = through(
        data[:cut] + data[cut + 188 :],
        tmp_path / "out.nut",
        "nut",
        encoder=EncoderSettings(preset="ultrafast"),
        say=said.append,
    )
    assert report.damaged
    assert "1 packets are flagged as damaged" in said


def test_an_input_that_breaks_off_is_told(
    clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert not through(clip.read_bytes(), tmp_path / "out.nut", "nut").damaged

    def broken(*streams: Any) -> Iterator[Any]:  # noqa: ANN401
        yield from itertools.islice(demux(*streams), 20)
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr("carfix.restore.pipe_reader.demux", broken)
    report = through(clip.read_bytes(), tmp_path / "out.nut", "nut")
    assert 0 < report.frames < 20 and report.damaged
    assert report.warnings == ("the input is cut short: Input/output error",)


@pytest.mark.parametrize("format", ["matroska", "mpegts"])
def test_a_transport_streams_clock_that_runs_over(format: str, tmp_path: Path) -> None:
    """What is before that counts as below 0, where Matroska has no times: all came at once, beside its sound."""
    begin = 2**33 - 20 * 3600
    source = media.write_clip(
        tmp_path / "in.ts",
        frames=30,
        times=[begin + 3600 * i for i in range(30)],
        time_base=Fraction(1, 90_000),
        sounds=[Sound(codec="mp2", start=begin / 90_000, seconds=1.2)],
        muxer={"mpegts_copyts": "1"},
    )
    said: list[str] = []
    encoder = EncoderSettings(preset="ultrafast")
    through(source.read_bytes(), tmp_path / "out", format, encoder=encoder, say=said.append)
    restore(source, tmp_path / "file", format=format, encoder=encoder)
    moved = any("0.800 s below 0" in line for line in said)
    assert moved is (format == "matroska")
    assert media.frame_times(tmp_path / "out") == media.frame_times(tmp_path / "file")
    sounds = []
    for name in ("out", "file"):
        with av.open(str(tmp_path / name)) as container:
            sounds.append([(packet.pts, bytes(packet)) for packet in container.demux(audio=0)])
    assert sounds[0] == sounds[1]


def test_what_comes_before_a_change_of_size_is_written(tmp_path: Path) -> None:
    """Also what x264 holds back: of the first seconds there was nothing."""
    parts = [media.write_clip(tmp_path / f"{width}.ts", frames=25, width=width) for width in (64, 96)]
    target = Unseekable()
    with pytest.raises(CarfixError, match=r"the video changes to 96x48 yuv420p on the way"):
        restore_pipe(
            source=Unseekable(b"".join(part.read_bytes() for part in parts)),
            output=target,
            format="nut",
            choice=EngineChoice(model=Adding(1)),
        )
    (tmp_path / "out.nut").write_bytes(target.getvalue())
    assert len(media.frame_times(tmp_path / "out.nut")) == 25
