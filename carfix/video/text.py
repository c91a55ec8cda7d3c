"""Text subtitles: the same words in the kind of the output's container, where its own is another."""

import html
import re
import struct
from collections.abc import Callable
from fractions import Fraction
from typing import Any

import av
from av.container import OutputContainer
from av.packet import Packet
from av.stream import Stream
from av.subtitles.codeccontext import SubtitleCodecContext

from carfix.video.choice import codec_of

#: FFmpeg's names of MP4's text, and of SubRip's and plain text (Matroska), whose packets are the words themselves.
MOV_TEXT, SUBRIP, PLAIN = "mov_text", "subrip", "text"
#: The web's, which WebM has, and that of subtitles with styles (also called SSA).
_WEBVTT, _ASS = "webvtt", "ass"

#: The kinds that containers hold in place of others, by the muxer.
_KINDS = {
    **{
        format: dict.fromkeys((SUBRIP, PLAIN, _ASS, _WEBVTT), MOV_TEXT)
        for format in ("mp4", "mov", "ipod", "3gp", "3g2")
    },
    "matroska": {MOV_TEXT: SUBRIP},
    "webm": dict.fromkeys((SUBRIP, PLAIN, _ASS, MOV_TEXT), _WEBVTT),
}
#: SubRip's marks for styles, which would be read as words; WebVTT's; those of ASS, and its drawings.
_MARKS = re.compile(r"</?(?:b|i|u|s|font)\b[^<>]*>|\{\\[^{}]*\}", re.IGNORECASE)
_WEB_MARKS = re.compile(r"<[^<>]*>")
_ASS_MARKS = re.compile(r"\{[^{}]*\\p[1-9][^{}]*\}.*?(?=\{[^{}]*\\p0|$)|\{[^{}]*\}", re.DOTALL)
#: What ASS has before the words, with commas between.
_ASS_FIELDS = 8
#: How ASS writes line breaks and a space that does not break.
_ASS_LETTERS = (("\\N", "\n"), ("\\n", "\n"), ("\\h", "\N{NO-BREAK SPACE}"))
#: Seconds a tick of MP4's text. FFmpeg's muxer takes other streams' times for its own where it looks whether a subtitle
#: is over: with fewer ticks than theirs the next one, if it begins before that end, would be shown when it has come.
_FINEST = Fraction(1, 90_000)
#: Seconds: MP4 counts them from one subtitle to the next in 31 bits.
_LONGEST_PAUSE = 2**31 * _FINEST
_FONTS = (".ttf", ".otf", ".ttc")
#: The length of the words stands before them, in 16 bits.
_LENGTH = struct.Struct(">H")
_LONGEST = 0xFFFF
_UTF_16 = (b"\xfe\xff", b"\xff\xfe")
#: How FFmpeg's encoder is told of fonts and colours, which MP4's header must name: FFmpeg's own.
_HEADER = b"""[Script Info]
ScriptType: v4.00+
PlayResX: 384
PlayResY: 288

[V4+ Styles]
Format: Name, Fontname, Fontsize, PrimaryColour, SecondaryColour, OutlineColour, BackColour, Bold, Italic, Underline, \
StrikeOut, ScaleX, ScaleY, Spacing, Angle, BorderStyle, Outline, Shadow, Alignment, MarginL, MarginR, MarginV, Encoding
Style: Default,Arial,16,&Hffffff,&Hffffff,&H0,&H0,0,0,0,0,100,100,0,0,1,1,0,2,10,10,10,1

[Events]
Format: Layer, Start, End, Style, Name, MarginL, MarginR, MarginV, Effect, Text
"""


def kind_in(format: str, stream: Stream) -> str | None:
    """As what text `stream` goes into the container `format`; None where it goes as it is, or not at all."""
    return _KINDS.get(format, {}).get(codec_of(stream)) if stream.type == "subtitle" else None


def add_text(output: OutputContainer, stream: Stream, kind: str) -> Stream:
    """Add a stream of `kind` for the words of `stream`."""
    if kind != MOV_TEXT:
        copy: Stream = output.add_mux_stream(kind)
        copy.time_base = stream.time_base
    else:
        copy = output.add_stream(kind)
        assert isinstance(copy.codec_context, SubtitleCodecContext)
        copy.codec_context.subtitle_header = _HEADER
        source: Any = stream.container  # of an input, which its type does not say
        lasts = Fraction(source.duration or 0, av.time_base)
        copy.time_base = _FINEST if lasts < _LONGEST_PAUSE else stream.time_base
    return copy


def is_font(stream: Stream) -> bool:
    """Whether the stream is a font, which Matroska has beside subtitles with styles."""
    name, kind = stream.metadata.get("filename", ""), stream.metadata.get("mimetype", "")
    return stream.type == "attachment" and ("font" in kind or name.lower().endswith(_FONTS))


def font_left_out(stream: Stream, format: str) -> str:
    """The warning about a font for which a container has no place: it has none for styles, either."""
    name = stream.metadata.get("filename", "")
    return f"the font {name} (stream {stream.index}) is left out: {format} has no place for one"


def text_note(format: str, stream: Stream) -> str | None:
    """A line if the kind of a text changes, and its styles are lost with it."""
    if (kind := kind_in(format, stream)) is None:
        return None
    what = f"subtitle stream {stream.index} ({codec_of(stream)})"
    return f"{what} is written as {kind}, which {format} holds: words without styles"


def rewriting(format: str, stream: Stream) -> Callable[["Packet[Any]"], list["Packet[Any]"]] | None:
    """What makes packets of the kind in `format` of those of `stream`; None if they stay as they are."""
    if (kind := kind_in(format, stream)) is None:
        return None
    read, write = _READ[codec_of(stream)], _WRITE[kind]

    def rewritten(packet: "Packet[Any]") -> list["Packet[Any]"]:
        """None of a packet without words, which MP4 has between two subtitles."""
        words = read(bytes(packet))
        return [_with(packet, write(words))] if words.strip() else []

    return rewritten


def _text(data: bytes) -> str:
    return data.decode("utf-8", "replace").replace("\r\n", "\n").strip("\r\n")


def _subrip(data: bytes) -> str:
    return _MARKS.sub("", _text(data))


def _webvtt(data: bytes) -> str:
    return html.unescape(_WEB_MARKS.sub("", _text(data)))


def _ass(data: bytes) -> str:
    words = _ASS_MARKS.sub("", _text(data).split(",", _ASS_FIELDS)[-1])
    for written, meant in _ASS_LETTERS:
        words = words.replace(written, meant)
    return words


def _mov_text(data: bytes) -> str:
    length = _LENGTH.unpack(data[: _LENGTH.size])[0] if len(data) >= _LENGTH.size else 0
    text = data[_LENGTH.size :][:length]
    return text.decode("utf-16" if text.startswith(_UTF_16) else "utf-8", "replace")


def _as_mov_text(words: str) -> bytes:
    text = words.encode()[:_LONGEST]
    return _LENGTH.pack(len(text)) + text


#: The words of packets, and packets of words, by kind.
_READ = {SUBRIP: _subrip, PLAIN: _subrip, _WEBVTT: _webvtt, _ASS: _ass, MOV_TEXT: _mov_text}
_WRITE: dict[str, Callable[[str], bytes]] = {
    MOV_TEXT: _as_mov_text,
    SUBRIP: str.encode,
    _WEBVTT: lambda words: html.escape(words, quote=False).encode(),
}


def _with(packet: "Packet[Any]", data: bytes) -> "Packet[Any]":
    other: Packet[Any] = Packet(data)
    other.stream = packet.stream
    other.pts, other.dts, other.time_base = packet.pts, packet.dts, packet.time_base
    other.duration = packet.duration
    other.is_keyframe = True
    return other
