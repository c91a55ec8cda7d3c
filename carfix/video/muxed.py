"""What was put into an output: what its verification looks for."""

import dataclasses
from fractions import Fraction
from typing import Any

from av.packet import Packet

from carfix.video.covers import is_cover
from carfix.video.output import OutputFile


@dataclasses.dataclass
class Sound:
    """What there is of one sound track, written or read back."""

    packets: int = 0
    size: int = 0  # bytes of all packets
    begin: Fraction | None = None  # seconds
    end: Fraction = Fraction(0)

    def add(self, packet: "Packet[Any]") -> None:
        """Count one more."""
        self.packets += 1
        self.size += packet.size
        if packet.pts is not None and packet.time_base is not None:
            if self.begin is None:
                self.begin = packet.pts * packet.time_base
            self.end = (packet.pts + (packet.duration or 0)) * packet.time_base

    @property
    def seconds(self) -> Fraction:
        """From its beginning to its end, pauses included."""
        return Fraction(0) if self.begin is None else self.end - self.begin


@dataclasses.dataclass
class Muxed:
    """What was written, for the verification."""

    videos: list[int]  # indices of the output's video streams, in the order in which they are read back
    restored: int  # that of the restored one
    audio: dict[int, Sound]  # output's stream index to what its stream holds
    encoded: set[int]  # of these, what `-c:a ENCODER` makes: readers may cut it otherwise
    written: set[int] = dataclasses.field(default_factory=set)  # indices of streams with packets
    refused: int = 0  # packets of other streams that the muxer, or the decoder of `-c:a ENCODER`, refused

    @staticmethod
    def of(output: OutputFile) -> "Muxed":
        """Of an output whose header is written, and nothing yet of its streams."""
        # Covers are no tracks of MP4 and are read last, wherever they were added.
        videos = sorted(output.container.streams.video, key=is_cover)
        encoded = [encoder.target for encoder in output.encoders.values()]
        return Muxed(
            videos=[stream.index for stream in videos],
            restored=output.video.index,
            audio={
                stream.index: Sound()
                for stream in (*output.copies.values(), *encoded)
                if stream.type == "audio"
            },
            encoded={stream.index for stream in encoded},
            written={output.video.index},
        )

    def video_place(self, found: int) -> int | None:
        """Which of the `found` videos of the finished file is the restored one; None if it is not among them."""
        # MP4 has no track for a stream without packets: of which -ss and -t left nothing, or in a rehearsal.
        written = [index for index in self.videos if index in self.written]
        place = (written if found == len(written) else self.videos).index(self.restored)
        return place if place < found else None

    def count(self, packet: "Packet[Any]") -> None:
        """Take note of a packet that goes into the output."""
        self.written.add(packet.stream_index)
        copied = self.audio.get(packet.stream_index)
        if copied is not None:
            copied.add(packet)
