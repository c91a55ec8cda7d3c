"""Decoding on a device: the same frames, or the CPU, or one clear line."""

from collections.abc import Iterator
from pathlib import Path

import media
import numpy as np
import pytest
from av.video.frame import VideoFrame
from engines import Adding

from carfix.errors import MissingPartError, UsageError
from carfix.restore.one_file import restore_video
from carfix.video import decode, hwaccel, source
from carfix.video.convert import convert
from carfix.video.decode import Damage, decode_frames
from carfix.video.encoder_settings import EncoderSettings
from carfix.video.faults import MEDIA_ERRORS
from carfix.video.hwaccel import AUTO, INTERLEAVED, NONE, Hwaccel, candidates, check_hwaccel, decoding_devices
from carfix.video.source import decoded_by, probe
from carfix.video.timeline import scan

LOSSLESS = EncoderSettings(codec="ffv1")


def has(kind: str) -> bool:
    try:
        Hwaccel(kind).open()
    except MEDIA_ERRORS:
        return False
    return True


def codes(frame: VideoFrame) -> list[np.ndarray]:
    dtype = np.uint8 if frame.format.components[0].bits == 8 else np.uint16
    return [
        np.frombuffer(plane, dtype).reshape(plane.height, -1)[:, : plane.width].copy()  # type: ignore[call-overload]
        for plane in frame.planes
    ]


def noise(pix_fmt: str, width: int, height: int) -> VideoFrame:
    frame = VideoFrame(width, height, pix_fmt)
    bits = frame.format.components[0].bits
    draw = np.random.default_rng(3)
    for plane in frame.planes:
        dtype = np.uint8 if bits == 8 else np.uint16
        values = draw.integers(0, 1 << bits, plane.buffer_size // np.dtype(dtype).itemsize, dtype=dtype)
        plane.update(values.tobytes())
    return frame


@pytest.mark.parametrize("colour_range", [0, 1, 2])
@pytest.mark.parametrize(("pix_fmt", "handed_out"), [(p, f) for p, fs in INTERLEAVED.items() for f in fs])
def test_a_devices_frames_come_back_code_for_code(pix_fmt: str, handed_out: str, colour_range: int) -> None:
    frame = noise(pix_fmt, 70, 46)
    theirs = convert(frame, handed_out, colour_range)
    assert theirs.format.name == handed_out
    ours = hwaccel.planar(theirs, pix_fmt, colour_range)
    assert ours.format.name == pix_fmt
    for before, after in zip(codes(frame), codes(ours), strict=True):
        np.testing.assert_array_equal(after, before)


def test_conversions_give_the_same_codes_every_time() -> None:
    """swscale's threads write beyond their slices where the width is no multiple of a vector's."""
    frame = noise("yuv422p10le", 70, 46)
    wanted = codes(frame)
    for _ in range(1000):
        there_and_back = convert(convert(frame, "p210le", 0), "yuv422p10le", 0)
        for before, after in zip(wanted, codes(there_and_back), strict=True):
            np.testing.assert_array_equal(after, before)


def test_a_frame_that_no_device_hands_out_stays_as_it_is() -> None:
    frame = noise("yuv422p", 64, 48)
    assert hwaccel.planar(frame, "yuv420p", 0) is frame


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    return media.write_clip(tmp_path / "in.mp4", frames=12)


def pretend(monkeypatch: pytest.MonkeyPatch, handed_out: str, *, starts: bool = True) -> None:
    """A device on this machine: the CPU decodes, and the frames come as a device hands them out."""

    def open_device(self: Hwaccel) -> None:
        if not starts:
            raise OSError("no such thing")

    decoded, first = decode._frames, source._first_frame

    def frames(*arguments: object) -> Iterator[VideoFrame]:
        for frame in decoded(*arguments):  # type: ignore[arg-type]
            yield convert(frame, handed_out, 0)

    def first_frame(*arguments: object) -> VideoFrame:
        return convert(first(*arguments), handed_out, 0)  # type: ignore[arg-type]

    monkeypatch.setattr(Hwaccel, "open", open_device)
    monkeypatch.setattr(Hwaccel, "settings", lambda self: None)
    monkeypatch.setattr(hwaccel, "decoding_devices", lambda: ["cuda"])
    monkeypatch.setattr(decode, "_frames", frames)
    # `probe` looks at the video before there is talk of a device: only what follows comes from one.
    monkeypatch.setattr(source, "_first_frame", first_frame)


def test_a_device_that_decodes_gives_the_same_file(
    monkeypatch: pytest.MonkeyPatch, clip: Path, tmp_path: Path
) -> None:
    said: list[str] = []
    plain = restore_video(
        source=clip, output=tmp_path / "a.mkv", model=Adding(3), encoder=LOSSLESS, segment_seconds=0.2
    )
    info = probe(clip)
    pretend(monkeypatch, "nv12")
    monkeypatch.setattr("carfix.restore.job.probe", lambda *_: info)
    report = restore_video(
        source=clip,
        output=tmp_path / "b.mkv",
        model=Adding(3),
        encoder=LOSSLESS,
        segment_seconds=0.2,
        hwaccel="cuda:0",
        say=said.append,
    )
    assert any(line.startswith("decoded on cuda:0") for line in said)
    assert report.frames == plain.frames == 12
    for plane in range(3):
        for before, after in zip(
            media.planes(tmp_path / "a.mkv", plane), media.planes(tmp_path / "b.mkv", plane), strict=True
        ):
            np.testing.assert_array_equal(after, before)
    assert media.frame_times(tmp_path / "a.mkv") == media.frame_times(tmp_path / "b.mkv")


def test_a_format_that_cannot_be_turned_back_is_decoded_on_the_cpu(
    monkeypatch: pytest.MonkeyPatch, clip: Path
) -> None:
    said: list[str] = []
    info = probe(clip)
    pretend(monkeypatch, "rgb24")
    assert decoded_by(info, "cuda", said.append).hwaccel is None
    assert said == ["decoded on the CPU: cuda does not take h264 in yuv420p"]


def test_auto_without_a_device_is_the_cpu(monkeypatch: pytest.MonkeyPatch, clip: Path) -> None:
    said: list[str] = []
    pretend(monkeypatch, "nv12", starts=False)
    assert decoded_by(probe(clip), AUTO, said.append).hwaccel is None
    assert said == ["decoded on the CPU: no device was found"]


def test_none_says_nothing(clip: Path) -> None:
    said: list[str] = []
    info = probe(clip)
    assert decoded_by(info, NONE, said.append) is info
    assert candidates(NONE) == []
    assert said == []


def test_a_device_that_this_ffmpeg_does_not_know(clip: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"--hwaccel is none, auto.*, not 'nvdec'") as failure:
        restore_video(source=clip, output=tmp_path / "out.mkv", model=Adding(0), hwaccel="nvdec")
    assert failure.value.exit_code == 2


def test_a_device_that_is_not_there(monkeypatch: pytest.MonkeyPatch, clip: Path, tmp_path: Path) -> None:
    pretend(monkeypatch, "nv12", starts=False)
    with pytest.raises(
        MissingPartError, match=r"--hwaccel cuda: this machine has no such device .*leave the option"
    ):
        restore_video(source=clip, output=tmp_path / "out.mkv", model=Adding(0), hwaccel="cuda")
    assert list(tmp_path.iterdir()) == [clip]


def test_what_this_machine_has_decides() -> None:
    for kind in decoding_devices():
        if has(kind):
            check_hwaccel(kind)
        else:
            with pytest.raises(MissingPartError, match="this machine has no such device to decode on"):
                check_hwaccel(kind)


@pytest.mark.parametrize("text", ["cuda:", "vdpauu", ""])
def test_spelling(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setattr(hwaccel, "decoding_devices", lambda: ["cuda"])
    with pytest.raises(UsageError, match="--hwaccel"):
        Hwaccel.parse(text)


def test_a_device_by_index_and_by_path(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hwaccel, "decoding_devices", lambda: ["cuda", "vaapi"])
    assert Hwaccel.parse("cuda:1") == Hwaccel("cuda", "1")
    assert str(Hwaccel.parse("vaapi:/dev/dri/renderD128")) == "vaapi:/dev/dri/renderD128"


@pytest.mark.parametrize("kind", decoding_devices() or ["none at all"])
def test_every_sample_as_on_the_cpu(kind: str, clip: Path) -> None:
    if not has(kind):
        pytest.skip(f"this machine has no {kind} to decode on")
    info = probe(clip)
    theirs = decoded_by(info, kind, lambda _: None)
    if theirs.hwaccel is None:
        pytest.skip(f"{kind} is here, its video unit is not")
    timeline = scan(info)
    pairs = zip(
        decode_frames(info, timeline, Damage()), decode_frames(theirs, timeline, Damage()), strict=True
    )
    for ours, device in pairs:
        assert ours.pts == device.pts
        for before, after in zip(codes(ours), codes(device), strict=True):
            np.testing.assert_array_equal(after, before)
