"""Damaged and truncated input: what can be decoded is kept, at its times, and the report says so."""

import io
import random
from pathlib import Path

import av
import media
import pytest
from engines import Adding, Failing
from media import Sound

from carfix.errors import CarfixError
from carfix.restore.models import EngineChoice
from carfix.restore.one_file import restore_video
from carfix.restore.pipe import restore_pipe
from carfix.restore.report import Report
from carfix.video.encoder_settings import EncoderSettings

NO_TIME = media.Fraction(-1)


def restore(source: Path, output: Path, engine: Adding | None = None) -> Report:
    return restore_video(
        source=source,
        output=output,
        model=engine or Adding(0),
        encoder=EncoderSettings(preset="ultrafast"),
        segment_seconds=0.4,
    )


def decodable(path: Path) -> list[media.Fraction]:
    """Times of the frames that FFmpeg gets out of a damaged file."""
    times = []
    with av.open(str(path)) as container:
        video = container.streams.video[0]
        try:
            for packet in container.demux(video):
                try:
                    times += [
                        NO_TIME if frame.pts is None else frame.pts * video.time_base
                        for frame in packet.decode()
                    ]
                except av.error.FFmpegError:
                    continue
        except av.error.FFmpegError:
            pass
    return sorted(times)  # damage may make a decoder give frames out of order


def clip(path: Path, **options: object) -> Path:
    return media.write_clip(path, frames=60, sounds=[Sound(codec="mp2", seconds=2.4)], **options)  # type: ignore[arg-type]


@pytest.mark.parametrize("suffix", [".ts", ".mkv"])
@pytest.mark.parametrize("seed", range(3))
def test_flipped_bits(suffix: str, seed: int, tmp_path: Path) -> None:
    # Arithmetic coding: a flipped bit cannot pass for another valid one.
    source = media.write_clip(
        tmp_path / f"in{suffix}",
        frames=60,
        options={**media.X264, "coder": "1", "preset": "veryfast"},
        muxer={"fflags": "bitexact"},  # no random identifiers: the same bits are flipped every time
    )
    data = bytearray(source.read_bytes())
    chance = random.Random(seed)
    for _ in range(15):
        data[chance.randrange(3000, len(data))] ^= 1 << chance.randrange(8)
    source.write_bytes(data)
    wanted = decodable(source)
    assert len(wanted) > 30
    report = restore(source, tmp_path / "out.mkv")
    assert report.damaged
    assert report.warnings
    assert report.frames == len(wanted)
    got = media.frame_times(tmp_path / "out.mkv")
    # A frame without a time of its own takes one between its neighbours.
    assert all(any(abs(a - b) <= media.Fraction(1, 1000) for b in got) for a in wanted if a is not NO_TIME)


def test_a_run_that_goes_on_tells_of_damage_that_the_first_one_met(tmp_path: Path) -> None:
    source = media.write_clip(
        tmp_path / "in.mp4", frames=60, options={**media.X264, "coder": "1", "preset": "veryfast"}
    )
    with av.open(str(source)) as container:
        packets = [packet for packet in container.demux(video=0) if packet.size]
        places = [(packet.pos or 0, packet.size) for packet in packets[2:5]]
    data = bytearray(source.read_bytes())
    for start, size in places:
        data[start + size // 2 : start + size] = bytes(size - size // 2)
    source.write_bytes(data)
    whole = restore(source, tmp_path / "whole.mkv")
    assert whole.damaged
    with pytest.raises(CarfixError, match="broke"):
        restore(source, tmp_path / "out.mkv", Failing(40, CarfixError("broke")))
    goes_on = restore(source, tmp_path / "out.mkv")
    assert goes_on.resumed > 10
    assert (goes_on.damaged, goes_on.warnings) == (True, whole.warnings)


@pytest.mark.parametrize("suffix", [".ts", ".mkv", ".mp4", ".avi"])
def test_truncated(suffix: str, tmp_path: Path) -> None:
    muxer = {"movflags": "faststart"} if suffix == ".mp4" else {}
    source = clip(tmp_path / f"in{suffix}", muxer=muxer)
    source.write_bytes(source.read_bytes()[: int(source.stat().st_size * 0.6)])
    wanted = decodable(source)
    assert 5 < len(wanted) < 60
    report = restore(source, tmp_path / "out.mkv")
    assert report.frames == len(wanted)
    assert len(media.frame_times(tmp_path / "out.mkv")) == len(wanted)
    if suffix != ".ts":  # which states no size
        assert report.damaged
        assert any("cut short" in line for line in report.warnings)


def test_truncated_before_its_index(tmp_path: Path) -> None:
    source = clip(tmp_path / "in.mp4")
    source.write_bytes(source.read_bytes()[:-2000])
    with pytest.raises(CarfixError, match=r"cannot read .*in\.mp4: ") as failure:
        restore(source, tmp_path / "out.mp4")
    assert "\n" not in str(failure.value)
    assert [path.name for path in tmp_path.iterdir()] == ["in.mp4"]


@pytest.mark.parametrize(
    ("codec", "options"),
    [
        ("libx264", {**media.X264, "g": "12"}),
        ("libx264", {"g": "12", "x264-params": "open-gop=1:bframes=3:keyint=12"}),
        ("mpeg2video", {"g": "12", "bf": "2"}),
    ],
)
def test_a_missing_first_keyframe(codec: str, options: dict[str, str], tmp_path: Path) -> None:
    """A recording that begins in the middle of a GOP: what cannot be decoded is left out, counted, and no damage."""
    whole = media.write_clip(
        tmp_path / "whole.ts", frames=40, codec=codec, time_base=1 / media.RATE, options=options
    )
    source = tmp_path / "in.ts"
    with av.open(str(whole)) as container, av.open(str(source), "w") as output:
        video = container.streams.video[0]
        copy = output.add_stream_from_template(video, opaque=True)
        for number, packet in enumerate(container.demux(video)):
            if packet.size and number >= 5:
                packet.stream = copy
                output.mux(packet)
    wanted = decodable(source)
    assert 25 <= len(wanted) <= 35
    report = restore(source, tmp_path / "out.mkv")
    assert report.frames == len(wanted)
    assert not report.damaged
    (line,) = report.warnings
    assert line.startswith(f"the recording begins between two keyframes: {35 - len(wanted)} frames")
    assert abs(media.frame_times(tmp_path / "out.mkv")[0] - wanted[0]) <= media.Fraction(1, 1000)


@pytest.mark.parametrize("suffix", [".mp4", ".mov", ".mkv"])
def test_frames_that_are_lost_at_the_beginning_leave_the_others_at_their_times(
    suffix: str, tmp_path: Path
) -> None:
    """MP4 says where its video begins in ticks that suit the first frame: that of the output, not of the input."""
    source = media.write_clip(
        tmp_path / "in.mp4",
        time_base=media.Fraction(1, 30_000),
        times=[1001 * i for i in range(12)],
        options={**media.X264, "bf": "0"},
    )
    with av.open(str(source)) as container:
        first = next(packet for packet in container.demux(video=0) if packet.size)
    data = bytearray(source.read_bytes())
    assert first.pos
    data[first.pos : first.pos + first.size] = bytes(first.size)
    source.write_bytes(data)
    wanted = decodable(source)
    assert wanted[0] > 0
    assert restore(source, tmp_path / f"out{suffix}").damaged
    got = media.frame_times(tmp_path / f"out{suffix}")
    tolerance = media.Fraction(1, 1000 if suffix == ".mkv" else 30_000)
    assert max(abs(a - b) for a, b in zip(got, wanted, strict=True)) <= tolerance


@pytest.mark.parametrize("size", [40, 300])
def test_a_recording_that_has_just_begun_is_no_broken_disk(size: int, tmp_path: Path) -> None:
    source = media.write_clip(tmp_path / "in.mkv", frames=3)
    source.write_bytes(source.read_bytes()[:size])
    with pytest.raises(CarfixError, match=r"in\.mkv: it ends within its header: the recording was cut off"):
        restore(source, tmp_path / "out.mkv")


@pytest.mark.parametrize("name", ["in.mp4", "in.mov"])
def test_a_recording_whose_index_was_never_written_is_called_so(name: str, tmp_path: Path) -> None:
    source = media.write_clip(tmp_path / name)
    data = source.read_bytes()
    source.write_bytes(data[: data.rindex(b"moov") - 4])
    with pytest.raises(CarfixError, match=r"its index \(moov\) is missing: the recording was cut off"):
        restore(source, tmp_path / "out.mkv")
    source.write_bytes(b"ftyp or not, these are words")
    with pytest.raises(CarfixError, match="not a video"):
        restore(source, tmp_path / "out.mkv")


@pytest.mark.parametrize("suffix", [".mkv", ".mp4"])
def test_damaged_sound_costs_its_packets_alone(suffix: str, tmp_path: Path) -> None:
    """Of AAC that has lost its header Matroska and MP4, which store it otherwise, can make nothing."""
    source, output = tmp_path / "in.ts", tmp_path / f"out{suffix}"
    media.write_clip(source, frames=50, sounds=[Sound(codec="aac", seconds=2.0)])
    whole = source.read_bytes()
    refused = 0
    for place in range(20_000, len(whole) - 2_000, 4_500):
        source.write_bytes(whole[:place] + b"U" * 1_500 + whole[place + 1_500 :])
        output.unlink(missing_ok=True)
        report = restore(source, output)
        left = [int(line.split()[0]) for line in report.warnings if "sound and other streams" in line]
        assert media.packets_digest(output, 1)[0] == media.packets_digest(source, 1)[0] - sum(left)
        assert report.damaged or not left
        refused += sum(left)
    assert refused > 0


@pytest.mark.parametrize("suffix", [".mkv", ".mp4", ".ts"])
def test_damaged_times_of_sound_are_guessed(suffix: str, tmp_path: Path) -> None:
    """A bit of the time of a packet: too late by 16 s, then too early by a fifth of one."""
    source, output = tmp_path / "in.mkv", tmp_path / f"out{suffix}"
    media.write_clip(source, frames=50, sounds=[Sound(codec="mp2", seconds=2.0)])
    wanted = sound_times(source)
    data = bytearray(source.read_bytes())
    with av.open(str(source)) as container:
        packets = [bytes(packet) for packet in container.demux(audio=0) if packet.size]
    for number, bit in ((20, 14), (30, 8)):
        place = data.index(packets[number]) - 3  # in ticks, from the beginning of the cluster
        data[place : place + 2] = (int.from_bytes(data[place : place + 2], "big") ^ 1 << bit).to_bytes(
            2, "big"
        )
    source.write_bytes(data)
    assert max(sound_times(source)) > 16
    restore(source, output)
    got = sound_times(output)
    assert max(abs(a - b) for a, b in zip(got, wanted, strict=True)) < media.Fraction(1, 100)


def sound_times(path: Path) -> list[media.Fraction]:
    with av.open(str(path)) as container:
        packets = container.demux(audio=0)
        return [packet.pts * packet.time_base for packet in packets if packet.size]  # type: ignore[operator]


def test_damaged_sound_through_a_pipe(tmp_path: Path) -> None:
    source, output = tmp_path / "in.ts", tmp_path / "out.mkv"
    media.write_clip(source, frames=50, sounds=[Sound(codec="aac", seconds=2.0)])
    whole = source.read_bytes()
    refused = 0
    for place in range(20_000, len(whole) - 2_000, 4_500):
        data = whole[:place] + b"U" * 1_500 + whole[place + 1_500 :]
        report = restore_pipe(
            source=io.BytesIO(data),
            output=output,
            encoder=EncoderSettings(preset="ultrafast"),
            choice=EngineChoice(model=Adding(0)),
        )
        left = [line for line in report.warnings if "sound and other streams" in line]
        assert report.damaged or not left
        refused += len(left)
    assert refused > 0
