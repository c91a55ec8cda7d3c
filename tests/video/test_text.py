"""Text subtitles in containers that have a kind of their own."""

import html
from pathlib import Path

import av
import media
import pytest
from engines import Adding
from jobs import restore

from carfix.restore.models import EngineChoice
from carfix.restore.pipe import restore_pipe
from carfix.video.encoder_settings import EncoderSettings

SUBRIP = """1
00:00:00,100 --> 00:00:00,200
<i>Hello</i>, w\u00f6rld
{\\an8}second <b>line</b>

2
00:00:00,300 --> 00:00:00,400
1 < 2

"""
WORDS = ["Hello, w\u00f6rld\nsecond line", "1 < 2"]


def words_of(path: Path) -> tuple[str, list[tuple[float, float, str]]]:
    """What kind a file's text is of, and from when to when which words are shown."""
    with av.open(str(path)) as container:
        (stream,) = container.streams.subtitles
        shown = []
        for packet in container.demux(stream):
            data = bytes(packet)
            if stream.codec_context.codec.canonical_name == "mov_text":
                data = data[2:][: int.from_bytes(data[:2], "big")]
            if data:
                begin = float(packet.pts * packet.time_base)
                shown.append((begin, begin + float(packet.duration * packet.time_base), data.decode()))
        return stream.codec_context.codec.canonical_name, shown


@pytest.fixture
def with_text(tmp_path: Path) -> Path:
    clip = media.write_clip(tmp_path / "clip.mkv", frames=15)
    (tmp_path / "words.srt").write_text(SUBRIP, encoding="utf-8")
    return media.remux(clip, tmp_path / "in.mkv", extra=tmp_path / "words.srt")


def times(shown: list[tuple[float, float, str]]) -> list[float]:
    return [time for begin, end, _ in shown for time in (begin, end)]


@pytest.mark.parametrize("suffix", [".mp4", ".mov", ".m4v"])
def test_text_goes_into_mp4_and_back(suffix: str, with_text: Path, tmp_path: Path) -> None:
    lines: list[str] = []
    restore(with_text, tmp_path / f"out{suffix}", say=lines.append)
    assert any("subtitle stream 1 (subrip) is written as mov_text" in line for line in lines)
    kind, shown = words_of(tmp_path / f"out{suffix}")
    assert kind == "mov_text"
    assert [text for _, _, text in shown] == WORDS
    assert times(shown) == pytest.approx([0.1, 0.2, 0.3, 0.4], abs=0.002)

    restore(tmp_path / f"out{suffix}", tmp_path / "back.mkv")
    kind, shown = words_of(tmp_path / "back.mkv")
    assert kind == "subrip"
    assert [text for _, _, text in shown] == WORDS  # and nothing for the pauses that MP4 writes between them
    assert times(shown) == pytest.approx([0.1, 0.2, 0.3, 0.4], abs=0.002)


def test_the_description_that_mp4_needs(with_text: Path, tmp_path: Path) -> None:
    restore(with_text, tmp_path / "out.mp4")
    with av.open(str(tmp_path / "out.mp4")) as container:
        description = container.streams.subtitles[0].codec_context.extradata
    assert description is not None and b"ftab" in description


def test_text_that_stays_as_it_is(with_text: Path, tmp_path: Path) -> None:
    lines: list[str] = []
    restore(with_text, tmp_path / "out.mkv", say=lines.append)
    assert not any("written as" in line for line in lines)
    assert "<i>Hello</i>" in words_of(tmp_path / "out.mkv")[1][0][2]


def test_text_through_a_pipe(with_text: Path, tmp_path: Path) -> None:
    lines: list[str] = []
    with with_text.open("rb") as source:
        restore_pipe(
            source=source,
            output=tmp_path / "out.mp4",
            format="mp4",
            choice=EngineChoice(model=Adding(0)),
            say=lines.append,
        )
    assert any("subtitle stream 1 (subrip) is written as mov_text" in line for line in lines)
    assert [text for _, _, text in words_of(tmp_path / "out.mp4")[1]] == WORDS


ASS = r"""[Script Info]
ScriptType: v4.00+

[V4+ Styles]
Format: Name, Fontname, Fontsize
Style: Default,Arial,16

[Events]
Format: Layer, Start, End, Style, Name, MarginL, MarginR, MarginV, Effect, Text
Dialogue: 0,0:00:00.10,0:00:00.20,Default,,0,0,0,,{\i1}Hello{\i0}, wörld\Nsecond{\p1}m 0 0 l 9 9{\p0} line
Dialogue: 0,0:00:00.22,0:00:00.28,Default,,0,0,0,,{\an7\p1}m 0 0 l 100 0 100 100{\p0}
Dialogue: 0,0:00:00.30,0:00:00.40,Default,,0,0,0,,1 < 2
"""
WEBVTT = """WEBVTT

00:00.100 --> 00:00.200
<v Bob>Hello</v>, wörld
second <i>line</i>

00:00.300 --> 00:00.400
1 &lt; 2
"""


@pytest.mark.parametrize(("suffix", "text"), [(".srt", SUBRIP), (".ass", ASS), (".vtt", WEBVTT)])
@pytest.mark.parametrize(("target", "wanted"), [(".mp4", "mov_text"), (".webm", "webvtt")])
def test_words_of_every_kind_go_into_others(
    suffix: str, text: str, target: str, wanted: str, tmp_path: Path
) -> None:
    clip = media.write_clip(tmp_path / "clip.mkv", frames=15)
    (tmp_path / f"words{suffix}").write_text(text, encoding="utf-8")
    source = media.remux(clip, tmp_path / "in.mkv", extra=tmp_path / f"words{suffix}")
    codec = "libvpx" if target == ".webm" else "libx264"
    encoder = EncoderSettings(codec=codec, crf=None if target == ".webm" else 30)
    report = restore(source, tmp_path / f"out{target}", encoder=encoder)
    kind, shown = words_of(tmp_path / f"out{target}")
    assert kind == wanted and report.copied == (1,)
    assert times(shown) == pytest.approx([0.1, 0.2, 0.3, 0.4], abs=0.002)
    found = [words for _, _, words in shown]
    if kind == "webvtt" and suffix == ".vtt":  # as it was
        assert found == ["<v Bob>Hello</v>, wörld\nsecond <i>line</i>", "1 &lt; 2"]
    else:
        assert [html.unescape(words) for words in found] == WORDS


@pytest.mark.parametrize("sounds", [[], [media.Sound()]])
def test_words_that_overlap_begin_in_time_in_mp4(sounds: list[media.Sound], tmp_path: Path) -> None:
    """It shows one after the other. The second was late by as much as the first would have stood still."""
    clip = media.write_clip(tmp_path / "clip.mkv", frames=25, sounds=sounds)
    (tmp_path / "words.srt").write_text(SUBRIP.replace("00,200", "00,600"), encoding="utf-8")
    source = media.remux(clip, tmp_path / "in.mkv", extra=tmp_path / "words.srt")
    restore(source, tmp_path / "out.mp4")
    assert times(words_of(tmp_path / "out.mp4")[1]) == pytest.approx([0.1, 0.3, 0.3, 0.4], abs=0.002)


def test_fonts_of_styles_stay_behind_with_them(tmp_path: Path) -> None:
    """They were a reason to refuse MP4, with -sn as well."""
    fonts = [("Sans.ttf", "application/x-truetype-font", bytes(100)), ("Serif", "font/otf", bytes(100))]
    source = media.write_clip(tmp_path / "in.mkv", attachments=fonts)
    report = restore(source, tmp_path / "out.mp4")
    assert [line for line in report.warnings if "font" in line] == [
        "the font Sans.ttf (stream 1) is left out: mp4 has no place for one",
        "the font Serif (stream 2) is left out: mp4 has no place for one",
    ]
    assert not report.damaged
    said: list[str] = []
    with source.open("rb") as pipe:
        choice = EngineChoice(model=Adding(0))
        restore_pipe(source=pipe, output=tmp_path / "p.mp4", format="mp4", choice=choice, say=said.append)
    assert sum("is left out: mp4 has no place for one" in line for line in said) == 2
    assert restore(source, tmp_path / "out.mkv").copied == (1, 2)
