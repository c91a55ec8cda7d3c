"""Packets of an input in file order, whatever streams turn up on the way."""

from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import av.error
from av.container import InputContainer
from av.packet import Packet
from av.stream import Stream
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

S = TypeVar("S", bound=Stream)

#: Formats of whose packets FFmpeg says that they last a tick, a millisecond: Dahua's recordings (.dav).
_WITHOUT_DURATIONS = ("dhav",)
#: Cameras' format that ends with an index, into which FFmpeg reads on and then calls the file damaged.
_ENDS_WITH_INDEX = ("hxvs",)


def demux(container: InputContainer, *streams: S) -> Iterator["Packet[S]"]:
    """The packets of `streams` (all if none are named), then an empty one of each for its decoder to flush.

    Damage in a transport stream makes up streams that were not there at the start. PyAV then ends with an
    IndexError when it flushes one of those; those that were asked for have been flushed by then.

    Where such a stream has a hole (zeros on a disk that had no power, what a recorder has set aside and not filled)
    FFmpeg looks 64 kB ahead for where it goes on, and then asks to be called again.

    Whether cameras' `.264` in HXVS is whole behind its last packet, `carfix.video.breaks` tells.
    """
    packets: Iterator[Packet[Any]] = container.demux(*streams)
    lasting = container.format.name not in _WITHOUT_DURATIONS
    while True:
        try:
            packet = next(packets)
        except av.error.BlockingIOError:
            packets = container.demux(*streams)
            continue
        except av.error.InvalidDataError:
            if container.format.name not in _ENDS_WITH_INDEX:
                raise
            for stream in streams or container.streams:
                flush: Packet[Any] = Packet()
                flush.stream = stream
                yield flush
            return
        except (StopIteration, IndexError):
            return
        if not lasting:
            packet.duration = 0
        yield packet


def decoded(
    container: InputContainer,
    stream: VideoStream,
    note: Callable[["Packet[VideoStream]"], None] = lambda packet: None,
) -> Iterator[VideoFrame]:
    """The frames of `stream`; `note` is given each packet before the decoder gets it."""
    for packet in demux(container, stream):
        note(packet)
        yield from packet.decode()
