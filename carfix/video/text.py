"""Text subtitles: the same words in the kind of the output's container, where its own is another."""

import re
import struct
from collections.abc import Callable
from typing import Any

from av.container import OutputContainer
from av.packet import Packet
from av.stream import Stream
from av.subtitles.codeccontext import SubtitleCodecContext

from carfix.video.choice import codec_of

#: FFmpeg's names of MP4's text, and of SubRip's and plain text (Matroska), whose packets are the words themselves.
MOV_TEXT, SUBRIP, PLAIN = "mov_text", "subrip", "text"

#: The kinds that containers hold in place of others, by the muxer.
_KINDS = {
    **{format: {SUBRIP: MOV_TEXT, PLAIN: MOV_TEXT} for format in ("mp4", "mov", "ipod", "3gp", "3g2")},
    "matroska": {MOV_TEXT: SUBRIP},
}
#: SubRip's marks for styles, which would be read as words.
_MARKS = re.compile(r"</?(?:b|i|u|s|font)\b[^<>]*>|\{\\[^{}]*\}", re.IGNORECASE)
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
    else:
        copy = output.add_stream(kind)
        assert isinstance(copy.codec_context, SubtitleCodecContext)
        copy.codec_context.subtitle_header = _HEADER
    copy.time_base = stream.time_base
    return copy


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
    return _to_mov_text if kind == MOV_TEXT else _from_mov_text


def _to_mov_text(packet: "Packet[Any]") -> list["Packet[Any]"]:
    words = _MARKS.sub("", bytes(packet).decode("utf-8", "replace")).replace("\r\n", "\n").strip("\r\n")
    text = words.encode()[:_LONGEST]
    return [_with(packet, _LENGTH.pack(len(text)) + text)] if text else []


def _from_mov_text(packet: "Packet[Any]") -> list["Packet[Any]"]:
    """None of a packet without words, which MP4 has between two subtitles."""
    data = bytes(packet)
    length = _LENGTH.unpack(data[: _LENGTH.size])[0] if len(data) >= _LENGTH.size else 0
    text = data[_LENGTH.size :][:length]
    words = text.decode("utf-16" if text.startswith(_UTF_16) else "utf-8", "replace")
    return [_with(packet, words.encode())] if words.strip() else []


def _with(packet: "Packet[Any]", data: bytes) -> "Packet[Any]":
    other: Packet[Any] = Packet(data)
    other.stream = packet.stream
    other.pts, other.dts, other.time_base = packet.pts, packet.dts, packet.time_base
    other.duration = packet.duration
    other.is_keyframe = True
    return other
