"""Closed captions and a camera's own messages, which ride inside the video stream, are in the restored one."""

import struct
from pathlib import Path
from uuid import UUID

import av
import jobs
import media
import pytest
from av.sidedata.sidedata import Type as SideDataType

from carfix.restore.report import Report
from carfix.video.encoder_settings import EncoderSettings
from carfix.video.headers.nal import nal_units
from carfix.video.pyav import all_side_data

CAMERA = UUID("11111111-2222-3333-4444-555555555555").bytes
PRESETS = {"libx264": "ultrafast", "libx265": "ultrafast"}

#: SEI payload types (H.264, D.1.1), the NAL units around them, and what says that a registered one holds captions.
REGISTERED, UNREGISTERED = 4, 5
SEI = 6
ATSC = bytes([0xB5, 0x00, 0x31]) + b"GA94\x03"


def nal_unit(kind: int, payload: bytes) -> bytes:
    """An SEI message in a NAL unit, its length before it. Zeros in a row would need escaping: there are none."""
    body = bytes([SEI, kind, len(payload)]) + payload + b"\x80"
    assert b"\x00\x00" not in body
    return struct.pack(">I", len(body)) + body


def without_sei(coded: bytes) -> bytes:
    """A packet without its SEI messages."""
    units = (unit for unit in nal_units(coded, 4) if unit[0] & 0x1F != SEI)
    return b"".join(struct.pack(">I", len(unit)) + unit for unit in units)


def captions_of(index: int) -> bytes:
    """One pair of CEA-608 letters, another for each frame."""
    return bytes([0xFC, 0x41 + index, 0xC2])


def write_user_data(
    path: Path, *, captions: bool, messages: bool, keep_sei: bool = False, begin: int = 0
) -> Path:
    """A clip with B-frames, each packet of which, from number `begin` on, carries captions and a message.

    Without x264's own message.
    """
    plain = media.write_clip(path.with_name("plain.mp4"))
    with av.open(str(plain)) as source, av.open(str(path), "w") as output:
        stream = source.streams.video[0]
        copy = output.add_stream_from_template(stream)
        for index, packet in enumerate(packet for packet in source.demux(stream) if packet.size):
            units = b""
            if captions and index >= begin:
                units += nal_unit(REGISTERED, ATSC + b"\xc1\xff" + captions_of(index) + b"\xff")
            if messages and index >= begin:
                units += nal_unit(UNREGISTERED, CAMERA + b"shot %d" % index)
            coded = bytes(packet) if keep_sei else without_sei(bytes(packet))
            new = av.Packet(units + coded)
            new.pts, new.dts, new.duration = packet.pts, packet.dts, packet.duration
            new.time_base, new.is_keyframe = packet.time_base, packet.is_keyframe
            new.stream = copy
            output.mux(new)
    return path


def carried(path: Path, kind: SideDataType) -> list[list[bytes]]:
    """What each frame carries of one kind, in order of presentation; of messages, the camera's."""
    with av.open(str(path)) as container:
        found = [all_side_data(frame, kind) for frame in container.decode(video=0)]
    if kind is SideDataType.SEI_UNREGISTERED:
        return [[data for data in each if CAMERA in data] for each in found]
    return found


def restore(source: Path, output: Path, codec: str, **settings: object) -> Report:
    encoder = EncoderSettings(codec=codec, preset=PRESETS.get(codec), **settings)  # type: ignore[arg-type]
    return jobs.restore(source, output, encoder=encoder)


@pytest.mark.parametrize("pix_fmt", [None, "yuv420p10le"])
@pytest.mark.parametrize("codec", ["libx264", "libx265"])
def test_closed_captions_stay_with_their_frames(codec: str, pix_fmt: str | None, tmp_path: Path) -> None:
    source = write_user_data(tmp_path / "in.mp4", captions=True, messages=False)
    wanted = carried(source, SideDataType.A53_CC)
    assert sorted(wanted) == [[captions_of(index)] for index in range(media.FRAMES)]
    report = restore(source, tmp_path / "out.mkv", codec, pix_fmt=pix_fmt)
    assert carried(tmp_path / "out.mkv", SideDataType.A53_CC) == wanted
    assert report.warnings == ()


@pytest.mark.parametrize("target", ["out.mkv", "out.ts"])
def test_what_begins_later_stays_too(target: str, tmp_path: Path) -> None:
    """Captions begin behind a title, messages when a camera has found its satellites."""
    source = write_user_data(tmp_path / "in.mp4", captions=True, messages=True, begin=4)
    for kind, codec in ((SideDataType.A53_CC, "libx265"), (SideDataType.SEI_UNREGISTERED, "libx264")):
        wanted = carried(source, kind)
        assert not wanted[0] and any(wanted)
        output = tmp_path / f"{codec}-{target}"
        restore(source, output, codec)
        assert carried(output, kind) == wanted


def test_what_begins_later_and_cannot_be_carried_is_said(tmp_path: Path) -> None:
    source = write_user_data(tmp_path / "in.mp4", captions=True, messages=True, begin=4)
    for target in (source, media.remux(source, tmp_path / "in.ts")):
        lost = restore(target, tmp_path / f"{target.suffix}.mkv", "ffv1").warnings
        assert [line.split(";")[0] for line in lost] == [
            "ffv1 cannot carry closed captions",
            "ffv1 cannot carry the camera's own messages (SEI user data)",
        ]
    restore(source, tmp_path / "hevc.mp4", "libx265")
    (lost_of_hevc,) = restore(tmp_path / "hevc.mp4", tmp_path / "hevc.mkv", "ffv1").warnings
    assert lost_of_hevc.startswith("ffv1 cannot carry closed captions")


def test_closed_captions_can_be_left_out(tmp_path: Path) -> None:
    source = write_user_data(tmp_path / "in.mp4", captions=True, messages=False)
    restore(source, tmp_path / "out.mkv", "libx264", options={"a53cc": "0"})
    assert not any(carried(tmp_path / "out.mkv", SideDataType.A53_CC))


def test_messages_of_a_camera_stay_with_their_frames(tmp_path: Path) -> None:
    source = write_user_data(tmp_path / "in.mp4", captions=True, messages=True)
    wanted = carried(source, SideDataType.SEI_UNREGISTERED)
    assert sorted(wanted) == sorted([CAMERA + b"shot %d" % index] for index in range(media.FRAMES))
    report = restore(source, tmp_path / "out.mp4", "libx264")
    assert carried(tmp_path / "out.mp4", SideDataType.SEI_UNREGISTERED) == wanted
    assert carried(tmp_path / "out.mp4", SideDataType.A53_CC) == carried(source, SideDataType.A53_CC)
    assert report.warnings == ()


def test_the_settings_of_another_x264_are_not_written_again(tmp_path: Path) -> None:
    source = write_user_data(tmp_path / "in.mp4", captions=False, messages=True, keep_sei=True)
    restore(source, tmp_path / "out.mp4", "libx264")
    assert not any(carried(tmp_path / "out.mp4", SideDataType.SEI_UNREGISTERED))
    with av.open(str(tmp_path / "out.mp4")) as container:
        frame = next(container.decode(video=0))
    assert len(all_side_data(frame, SideDataType.SEI_UNREGISTERED)) == 1  # the new one


@pytest.mark.parametrize(
    ("codec", "lost"),
    [
        ("libx265", ["libx265 cannot carry the camera's own messages (SEI user data); -c:v libx264 can"]),
        (
            "ffv1",
            [
                "ffv1 cannot carry closed captions; -c:v libx264 and libx265 can",
                "ffv1 cannot carry the camera's own messages (SEI user data); -c:v libx264 can",
            ],
        ),
    ],
)
def test_what_an_encoder_cannot_carry_is_said(codec: str, lost: list[str], tmp_path: Path) -> None:
    source = write_user_data(tmp_path / "in.mp4", captions=True, messages=True)
    assert list(restore(source, tmp_path / "out.mkv", codec).warnings) == lost
