"""What goes along with the video: other streams, subtitles, chapters, attachments and tags."""

from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import media
import pytest
from av.packet import Packet
from av.stream import Disposition
from fidelity import assert_same_video, restore
from media import Sound

from carfix.errors import CarfixError


def test_every_other_stream_goes_along(tmp_path: Path) -> None:
    picture = media.write_clip(
        tmp_path / "picture.mkv",
        sounds=[
            Sound(language="eng", disposition=int(Disposition.default)),
            Sound(codec="flac", language="deu", disposition=int(Disposition.comment)),
        ],
        tags={"title": "Gate 3", "COMMENT": "north side"},
        video_tags={"language": "fra", "title": "camera"},
        chapters=[(0.0, 0.2, "arrival"), (0.2, 0.48, "departure")],
        attachments=[("font.ttf", "application/x-truetype-font", b"\x00\x01\x02not a font")],
    )
    source = media.remux(picture, tmp_path / "in.mkv", extra=subtitles(tmp_path / "text.srt"))
    output = tmp_path / "out.mkv"
    restore(source, output)
    assert_same_video(source, output)
    with av.open(str(source)) as a, av.open(str(output)) as b:
        assert [s.type for s in b.streams] == [s.type for s in a.streams]
        assert len(a.streams) >= 4
        for before, after in zip(a.streams, b.streams, strict=True):
            assert after.disposition == before.disposition
            assert after.language == before.language
            assert after.metadata.get("title") == before.metadata.get("title")
        assert {k: v for k, v in a.metadata.items() if k.lower() != "encoder"}.items() <= b.metadata.items()
    for index in range(1, 4):
        assert media.packets_digest(output, index) == media.packets_digest(source, index)


def test_a_subtitle_stands_where_it_is_shown(tmp_path: Path) -> None:
    """However far away the next one is: players do not look for it there."""
    clip = media.write_clip(
        tmp_path / "clip.mkv", rate=Fraction(2), frames=60, sounds=[Sound(codec="mp2", seconds=30)]
    )
    text = tmp_path / "text.srt"
    text.write_text("1\n00:00:01,000 --> 00:00:02,000\nHello\n\n2\n00:00:28,000 --> 00:00:29,000\nGoodbye\n")
    source, output = tmp_path / "in.mkv", tmp_path / "out.mkv"
    with av.open(str(clip)) as one, av.open(str(text)) as other, av.open(str(source), "w") as both:
        copies = {stream: both.add_stream_from_template(stream, opaque=True) for stream in one.streams}
        copies |= {stream: both.add_stream_from_template(stream, opaque=True) for stream in other.streams}
        packets = [packet for container in (one, other) for packet in container.demux() if packet.size]
        for packet in sorted(packets, key=lambda packet: (packet.dts or 0) * packet.time_base):  # type: ignore[operator]
            packet.stream = copies[packet.stream]
            both.mux(packet)
    restore(source, output)
    for path in (source, output):
        shown, before = Fraction(0), []
        with av.open(str(path)) as container:
            for packet in container.demux():
                if packet.size and packet.stream.type == "subtitle":
                    before.append(shown)
                elif packet.size:
                    shown = max(shown, (packet.pts or 0) * packet.time_base)  # type: ignore[operator]
        assert before == [pytest.approx(1, abs=2), pytest.approx(28, abs=2)]  # but for reordering


@pytest.mark.parametrize("format", ["mpegts", "mpeg"])
def test_subtitles_that_the_container_cannot_hold(format: str, tmp_path: Path) -> None:
    """Transport and program streams take the packets, as something that nobody reads."""
    clip = media.write_clip(tmp_path / "clip.mkv", sounds=[Sound(codec="ac3")])
    source = media.remux(clip, tmp_path / "in.mkv", extra=subtitles(tmp_path / "text.srt"))
    with pytest.raises(CarfixError, match=rf"{format} cannot hold subtitle stream 2 \(subrip\).*\.mkv.*-sn"):
        restore(source, tmp_path / "out", format=format)
    restore(source, tmp_path / "out", format=format, subtitles=False)
    with av.open(str(tmp_path / "out")) as container:
        assert sorted(stream.type for stream in container.streams) == ["audio", "video"]


@pytest.mark.parametrize("suffix", [".ts", ".nut"])
def test_text_of_mp4_that_readers_would_not_know(suffix: str, clip: Path, tmp_path: Path) -> None:
    source = media.remux(clip, tmp_path / "text.mp4", extra=mp4_text(tmp_path / "words.mp4"))
    with pytest.raises(CarfixError, match=r"subtitle stream 2 \(mov_text\).*\.mkv.*-sn"):
        restore(source, tmp_path / f"out{suffix}")


def subtitles(path: Path) -> Path:
    path.write_text("1\n00:00:00,000 --> 00:00:00,200\nHello\n\n2\n00:00:00,240 --> 00:00:00,400\nGoodbye\n")
    return path


def mp4_text(path: Path) -> Path:
    with av.open(str(path), "w") as output:
        text = output.add_mux_stream("mov_text")
        text.time_base = Fraction(1, 1000)
        packet: Packet[Any] = Packet(b"\0\5Hello")
        packet.pts, packet.dts, packet.duration, packet.time_base = 0, 0, 200, text.time_base
        packet.stream = text
        output.mux(packet)
    return path


def test_chapters_attachments_and_tags(tmp_path: Path) -> None:
    source = media.write_clip(
        tmp_path / "in.mkv",
        tags={"title": "Gate 3", "LOCATION": "north side"},
        chapters=[(0.0, 0.2, "arrival"), (0.2, 0.48, "departure")],
        attachments=[("font.ttf", "application/x-truetype-font", b"\x00\x01\x02not a font")],
    )
    restore(source, tmp_path / "out.mkv")
    with av.open(str(source)) as a, av.open(str(tmp_path / "out.mkv")) as b:
        assert b.metadata["title"] == "Gate 3" and b.metadata["LOCATION"] == "north side"
        assert len(a.chapters()) == 2
        assert [(c["start"], c["end"], c["metadata"]) for c in b.chapters()] == [
            (c["start"], c["end"], c["metadata"]) for c in a.chapters()
        ]
        (attachment,) = b.streams.attachments
        assert (attachment.name, attachment.mimetype) == ("font.ttf", "application/x-truetype-font")
        assert attachment.data == b"\x00\x01\x02not a font"


def test_a_cut_within_a_chapter(tmp_path: Path) -> None:
    """Matroska refused the whole file for the 500 nanoseconds that the chapter seemed to begin below 0."""
    chapters = [(0.0, 0.2, "arrival"), (0.2, 0.48, "departure")]
    source = media.write_clip(tmp_path / "in.mkv", chapters=chapters)
    restore(source, tmp_path / "out.mkv", start=0.3)
    with av.open(str(tmp_path / "out.mkv")) as container:
        (chapter,) = container.chapters()
        begins, ends = (chapter[side] * chapter["time_base"] for side in ("start", "end"))  # type: ignore[literal-required]
        assert (float(begins), float(ends)) == pytest.approx((0, 0.18), abs=1e-3)


def test_chapters_and_tags_in_mp4(tmp_path: Path) -> None:
    source = media.write_clip(
        tmp_path / "in.mp4",
        tags={"title": "Gate 3", "camera": "north side"},
        chapters=[(0.0, 0.2, "arrival"), (0.2, 0.48, "departure")],
        muxer={"movflags": "use_metadata_tags"},
        sounds=[Sound(language="eng")],
    )
    restore(source, tmp_path / "out.mp4")
    with av.open(str(source)) as a, av.open(str(tmp_path / "out.mp4")) as b:
        assert a.metadata["camera"] == b.metadata["camera"] == "north side"
        assert b.metadata["title"] == "Gate 3"
        assert [c["metadata"]["title"] for c in b.chapters()] == ["arrival", "departure"]
        assert b.streams.audio[0].language == "eng"
    assert media.packets_digest(tmp_path / "out.mp4", 1) == media.packets_digest(source, 1)


def test_sound_stays_where_it_was(tmp_path: Path) -> None:
    source = media.write_clip(tmp_path / "in.mp4", frames=25, sounds=[Sound(start=0.3)])
    for suffix in (".mp4", ".mkv", ".mov"):
        output = tmp_path / f"out{suffix}"
        restore(source, output)
        with av.open(str(source)) as a, av.open(str(output)) as b:
            before = [p.pts * p.time_base for p in a.demux(audio=0) if p.size]
            after = [p.pts * p.time_base for p in b.demux(audio=0) if p.size]
        assert len(before) > 20
        allowed = Fraction(1, 1000) if suffix == ".mkv" else 0
        assert max(abs(x - y) for x, y in zip(before, after, strict=True)) <= allowed
