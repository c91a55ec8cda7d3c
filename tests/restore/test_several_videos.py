"""Files with more than one video: which one is restored, and what becomes of the others and of cover pictures."""

import io
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

import av
import media
import numpy as np
import pytest
from av.stream import Disposition
from engines import Adding
from jobs import LOSSLESS, restore

from carfix.errors import CarfixError, UsageError
from carfix.restore.existing import what_is_there
from carfix.restore.models import EngineChoice
from carfix.restore.pipe import restore_pipe
from carfix.restore.report import Report
from carfix.restore.tasks import Task
from carfix.video.encoder_settings import EncoderSettings

SMALL = (48, 32)
#: Frames that are reordered so far that Matroska, which tells no decoding times, has those of the first ones open.
DEEP = {"preset": "ultrafast", "bf": "7", "b-pyramid": "normal", "b_strategy": "0", "g": "25", "refs": "4"}
NO_B_FRAMES = EncoderSettings(preset="ultrafast", options={"bf": "0"})


def two_videos(path: Path, *, frames: int = media.FRAMES, large_first: bool = True) -> Path:
    """A large and a small video in one file, neither of them flagged as default in a transport stream."""
    large = media.write_clip(path.with_name("large.mp4"), frames=frames, options=DEEP)
    small = media.write_clip(
        path.with_name("small.mp4"), width=SMALL[0], height=SMALL[1], frames=frames, options=DEEP
    )
    first, second = (large, small) if large_first else (small, large)
    return media.remux(first, path, extra=second)


def luma(path: Path, place: int) -> list[np.ndarray]:
    return media.planes(path, place=place)


def times(path: Path, place: int) -> list[float]:
    return [float(time) for time in media.frame_times(path, place)]


def pictures(path: Path) -> list[tuple[str, bytes]]:
    """Codec and data of the cover pictures."""
    with av.open(str(path)) as container:
        return [
            (stream.codec_context.name, bytes(next(container.demux(stream))))
            for stream in container.streams.video
            if stream.disposition & Disposition.attached_pic
        ]


def equal(one: list[np.ndarray], other: list[np.ndarray]) -> bool:
    return len(one) == len(other) and all(np.array_equal(a, b) for a, b in zip(one, other, strict=True))


@pytest.mark.parametrize("large_first", [True, False])
@pytest.mark.parametrize(
    ("suffix", "target"), [(".mkv", ".mkv"), (".mp4", ".mp4"), (".ts", ".mkv"), (".mkv", ".mp4")]
)
def test_the_largest_is_restored_and_the_others_go_along(
    suffix: str, target: str, large_first: bool, tmp_path: Path
) -> None:
    source = two_videos(tmp_path / f"in{suffix}", large_first=large_first)
    output = tmp_path / f"out{target}"
    said: list[str] = []
    encoder = EncoderSettings(options={"qp": "0", "preset": "ultrafast"})
    report = restore(source, output, model=Adding(3), encoder=encoder, say=said.append)
    chosen, other = (0, 1) if large_first else (1, 0)
    assert (report.stream, report.copied) == (chosen, (other,))
    assert equal(luma(output, chosen), [plane + 3 for plane in luma(source, chosen)])
    assert equal(luma(output, other), luma(source, other))
    for place in (0, 1):
        assert times(output, place) == pytest.approx(times(source, place), abs=0.001)
    assert [line for line in said if "videos" in line] == [
        f"of its videos, stream {chosen} (h264, 64x48) is restored; {other} (h264, 48x32) is copied as it is; "
        "--stream takes another"
    ]
    assert not report.warnings  # nothing is lost


@pytest.mark.parametrize("stream", ["1", 1, "v:1"])
def test_another_can_be_chosen(stream: str | int, tmp_path: Path) -> None:
    source = two_videos(tmp_path / "in.mkv")
    report = restore(source, tmp_path / "out.mkv", model=Adding(3), encoder=LOSSLESS, stream=stream)
    assert report.stream == 1
    assert equal(luma(tmp_path / "out.mkv", 1), [plane + 3 for plane in luma(source, 1)])
    assert equal(luma(tmp_path / "out.mkv", 0), luma(source, 0))


def test_a_stream_that_cannot_be_chosen_is_refused_with_those_that_can(tmp_path: Path) -> None:
    clip = media.write_clip(tmp_path / "clip.mp4", sounds=[media.Sound()])
    source = with_cover(clip, tmp_path / "in.mp4")
    engine = Adding(0)
    for stream, why in (
        ("1", "is audio"),
        ("2", "is a picture"),
        ("v:1", "is a picture"),
        ("7", "no such stream"),
    ):
        with pytest.raises(CarfixError, match=rf"{why}; its videos are 0 \(h264, 64x48\)"):
            restore(source, tmp_path / "out.mp4", stream=stream, model=engine)
    with pytest.raises(UsageError, match="not 'video'"):
        restore(source, tmp_path / "out.mp4", stream="video", model=engine)
    assert engine.planes == 0


def test_the_one_flagged_as_default_is_restored(tmp_path: Path) -> None:
    """Whoever made the file has said which one it is."""
    source = two_videos(tmp_path / "both.mkv")
    with av.open(str(source)) as container, av.open(str(tmp_path / "in.mkv"), "w") as output:
        copies = [output.add_stream_from_template(stream, opaque=True) for stream in container.streams.video]
        copies[0].disposition, copies[1].disposition = Disposition(0), Disposition.default
        for packet in container.demux():
            if packet.size:
                packet.stream = copies[packet.stream_index]
                output.mux(packet)
    assert restore(tmp_path / "in.mkv", tmp_path / "out.mkv").stream == 1


def test_a_video_that_is_cut_begins_with_a_keyframe(tmp_path: Path) -> None:
    source = two_videos(tmp_path / "in.mkv", frames=60)
    restore(source, tmp_path / "out.mkv", start=0.5, end=2.2)
    with av.open(str(tmp_path / "out.mkv")) as container:
        packets = [packet for packet in container.demux(container.streams[1]) if packet.size]
    assert packets[0].is_keyframe
    # From its second keyframe, at 1 s, every frame up to the end is there and whole.
    shown = [
        plane
        for plane, time in zip(luma(tmp_path / "out.mkv", 1), times(tmp_path / "out.mkv", 1), strict=True)
        if time < 2.19 - 0.5
    ]
    assert times(tmp_path / "out.mkv", 1)[0] == pytest.approx(0.5, abs=0.001)
    assert equal(shown, luma(source, 1)[25:55])


def test_a_video_of_which_nothing_is_left_is_no_reason_to_fail(tmp_path: Path) -> None:
    """MP4 has no track without frames."""
    source = two_videos(tmp_path / "in.mp4", large_first=False)
    restore(source, tmp_path / "out.mp4", start=0.2, model=Adding(3), encoder=NO_B_FRAMES)
    with av.open(str(tmp_path / "out.mp4")) as container:
        assert [(video.width, video.height) for video in container.streams.video] == [(64, 48)]


def test_what_was_announced_and_never_sent_is_left_out(tmp_path: Path) -> None:
    """A recording of one programme may list the others of its channel."""
    data = two_videos(tmp_path / "both.ts").read_bytes()
    packets = [data[at : at + 188] for at in range(0, len(data), 188)]
    source = tmp_path / "in.ts"
    source.write_bytes(b"".join(p for p in packets if int.from_bytes(p[1:3], "big") & 0x1FFF != 0x101))
    report = restore(source, tmp_path / "out.mkv")
    assert report.copied == ()
    assert report.warnings == ("video stream 1 is left out: nothing was found that tells its form",)


@pytest.mark.parametrize(("suffix", "stream"), [(".mp4", None), (".mkv", "0"), (".mkv", "1")])
def test_a_batch_knows_the_restored_one_in_the_output(
    suffix: str, stream: str | None, tmp_path: Path
) -> None:
    """From a transport stream, which flags none, MP4 makes the first one the default."""
    source = two_videos(tmp_path / "in.ts", large_first=False)
    task = Task(source, tmp_path / f"out{suffix}")
    restore(source, task.output, stream=stream)
    there = what_is_there(task, {"stream": stream})
    assert there is not None and there.status == "skipped"
    other = "1" if stream == "0" else "0"
    there = what_is_there(task, {"stream": other})
    assert there is not None and there.status == "skipped"  # as many frames at the same times


@pytest.mark.parametrize("format", ["nut", "matroska", "mpegts"])
def test_pipes_carry_both(format: str, tmp_path: Path) -> None:
    source = two_videos(tmp_path / "in.mkv")
    said: list[str] = []
    target = tmp_path / "out.bin"
    with target.open("wb") as output:
        report = piped(source, output, format, say=said.append)
    assert (report.stream, report.copied) == (0, (1,))
    assert equal(luma(target, 1), luma(source, 1))
    assert np.diff(times(target, 1)) == pytest.approx(np.diff(times(source, 1)), abs=0.002)
    assert any("1 (h264, 48x32) is copied as it is" in line for line in said)


def test_bare_formats_hold_one(tmp_path: Path) -> None:
    source = two_videos(tmp_path / "in.mkv")
    report = restore(source, tmp_path / "out.y4m", encoder=EncoderSettings())
    assert report.warnings == ("video stream 1 is left out: yuv4mpegpipe holds one video",)


def piped(source: Path, output: IO[bytes], format: str, say: Callable[[str], None] | None = None) -> Report:
    return restore_pipe(
        source=io.BytesIO(source.read_bytes()),
        output=output,
        format=format,
        choice=EngineChoice(model=Adding(0)),
        encoder=NO_B_FRAMES,
        say=say,
    )


def with_cover(clip: Path, target: Path) -> Path:
    """`clip` with a cover picture behind its other streams, in MP4 or Matroska."""
    png = av.CodecContext.create("png", "w")
    png.width, png.height, png.pix_fmt, png.time_base = 200, 200, "rgb24", media.Fraction(1, 25)
    (picture,) = png.encode(media.picture(0, 200, 200).reformat(format="rgb24"))
    with av.open(str(clip)) as container, av.open(str(target), "w") as output:
        copies: dict[int, Any] = {
            stream.index: output.add_stream_from_template(stream, opaque=True) for stream in container.streams
        }
        if target.suffix == ".mkv":
            output.add_attachment("front.png", "image/png", bytes(picture))
        else:
            cover = output.add_stream("png")
            cover.width, cover.height, cover.pix_fmt = 200, 200, "rgb24"
            cover.disposition = Disposition.attached_pic
            output.start_encoding()
            picture.stream = cover
            picture.pts = picture.dts = 0
            output.mux(picture)
        for packet in container.demux():
            if packet.size:
                packet.stream = copies[packet.stream_index]
                output.mux(packet)
    return target


@pytest.mark.parametrize("target", [".mp4", ".mkv"])
@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
def test_covers_stay_covers(suffix: str, target: str, tmp_path: Path) -> None:
    source = with_cover(media.write_clip(tmp_path / "clip.mp4"), tmp_path / f"in{suffix}")
    assert [codec for codec, _ in pictures(source)] == ["png"]
    for start in (None, 0.2):
        output = tmp_path / f"out{start}{target}"
        said: list[str] = []
        restore(source, output, start=start, say=said.append)
        assert pictures(output) == pictures(source)
        assert not any("videos" in line for line in said)


def test_covers_go_through_pipes(tmp_path: Path) -> None:
    source = with_cover(media.write_clip(tmp_path / "clip.mp4"), tmp_path / "in.mkv")
    with (tmp_path / "out.mkv").open("wb") as output:
        piped(source, output, "matroska")
    assert pictures(tmp_path / "out.mkv") == pictures(source)


@pytest.mark.parametrize(("suffix", "name"), [(".mov", "mov"), (".ts", "mpegts"), (".flv", "flv")])
def test_a_cover_for_which_there_is_no_place_is_told(suffix: str, name: str, tmp_path: Path) -> None:
    source = with_cover(media.write_clip(tmp_path / "clip.mp4"), tmp_path / "in.mp4")
    report = restore(source, tmp_path / f"out{suffix}")
    assert report.warnings[0] == f"the cover picture (stream 1) is left out: {name} has no place for one"
    with av.open(str(tmp_path / f"out{suffix}")) as container:
        assert len(container.streams) == 1
