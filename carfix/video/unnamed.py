"""Streams that readers would not know: MPEG-TS takes any sound, picture and text, under no name."""

import contextlib
from collections.abc import Sequence
from typing import Any

import av
from av.container import OutputContainer
from av.packet import Packet
from av.stream import Stream

from carfix.video.faults import MEDIA_ERRORS, said

#: What FFmpeg's muxer warns of when a reader will not know a stream's codec.
_UNNAMED = "may not be recognized upon reading"


def ask(output: OutputContainer, stream: Stream) -> None:
    """Let the muxer say what it makes of a stream of `output`, whose header is written: it does so with a packet."""
    if output.format.name != "mpegts":
        return
    packet: Packet[Any] = Packet(b" ")
    packet.pts = packet.dts = 0
    packet.stream = stream
    with contextlib.suppress(*MEDIA_ERRORS):
        output.mux(packet)


def unnamed(log: Sequence[tuple[int, str, str]]) -> str | None:
    """The muxer's own words if a reader will not know the stream, in what it has logged; None if it will."""
    return next((line for line in said(log, av.logging.WARNING) if _UNNAMED in line), None)
