"""What goes into a pipe, or comes from one: restored frames encoded, other streams' packets between them."""

import contextlib
from collections.abc import Callable, Iterable, Set
from fractions import Fraction
from pathlib import Path
from typing import IO, Any

import av
from av.codec.context import Flags
from av.container import OutputContainer
from av.packet import Packet
from av.stream import Stream
from av.video.frame import PictureType, VideoFrame
from av.video.stream import VideoStream

from carfix.errors import CarfixError
from carfix.restore.counted import CountedFrames
from carfix.restore.frames import FramePipeline, Item
from carfix.restore.pipe_reader import PipeReader
from carfix.restore.report import Progress
from carfix.video.address import address
from carfix.video.adts import describe_aac
from carfix.video.choice import choice_note, has_form
from carfix.video.copying import Ascending, Change, change_of
from carfix.video.covers import attach, is_attached, is_cover
from carfix.video.encoder import Encoding, configure, flags_fields
from carfix.video.encoder_settings import RAW
from carfix.video.faults import MEDIA_ERRORS, reason
from carfix.video.flash import FLV
from carfix.video.luma import write_luma
from carfix.video.matroska import MATROSKA, make_room, write_shapes
from carfix.video.muxer import (
    BARE,
    WITHOUT_HEADERS,
    Y4M,
    codec_tag,
    kept_tags,
    lost_turn,
    moved_by,
    moved_note,
    movie_timescale,
    muxer_options,
    video_clock,
    without_statistics,
)
from carfix.video.one_clock import move
from carfix.video.pauses import NO_ROOM, Pauses
from carfix.video.pyav import KEEP_ODD_TAGS
from carfix.video.recognition import unknown_to_readers
from carfix.video.scheduling import kept_scheduling
from carfix.video.source import SourceInfo
from carfix.video.streams import add_copy, cover_left_out, formless_left_out, left_out, try_copy
from carfix.video.text import font_left_out, is_font, text_note
from carfix.video.y4m import Y4mFile

#: What leaves streams of a kind out.
_LEAVE_OUT = {"audio": "-c:a none", "subtitle": "-sn"}
#: Containers whose times are milliseconds, and the frames a second of which no more than two share one.
_IN_MILLISECONDS, _MOST_IN_MILLISECONDS = (*MATROSKA, FLV), 2000
#: Containers for pipes that hold nearly everything, best first, and their suffixes.
_PIPED = {"nut": ".nut", "matroska": ".mkv"}


class PipeWriter:
    """Encodes restored frames into the output, and puts the other streams' packets between them."""

    def __init__(
        self,
        output: Path | IO[bytes],
        format: str,
        reader: PipeReader,
        encoding: Encoding,
        left: Set[str],
        say: Callable[[str], None],
        progress: Callable[[Progress], None],
    ) -> None:
        self.count = 0
        self.refused = 0  # packets of other streams
        #: Interlaced frames that are encoded as progressive ones, since the first frame was one.
        self.unflagged = 0
        self._flags = flags_fields(encoding, reader.info)
        self._reader = reader
        self._progress = progress
        self._output, self._format = output, format
        self._to_file = isinstance(output, Path)
        if format in _IN_MILLISECONDS and 1 / reader.info.frame_seconds > _MOST_IN_MILLISECONDS:
            rate, other = 1 / reader.info.frame_seconds, "a name in .mp4" if self._to_file else "-f nut"
            raise CarfixError(
                f"{format} counts in steps of 1/1000 s and cannot keep the times of {float(rate):.6g} frames a second; "
                f"use {other}"
            )
        self._closed = False
        self._pauses = Pauses()
        self._counts = format == Y4M
        self._y4m = Y4mFile(output, reader.info) if format == Y4M else None
        self._later = moved_by(reader.begins, reader.info, format)
        starts = [
            self._later + Fraction(stream.start_time or 0) * (stream.time_base or 0)
            for stream in _others(reader, left)
        ]
        options = muxer_options(
            format, reader.container.metadata, timescale=movie_timescale(reader.begins + self._later, starts)
        )
        self._onward = not isinstance(output, Path) and not output.seekable()  # nobody goes back in it
        if self._onward and format == "nut":
            options["write_index"] = "0"  # which would grow for as long as a camera runs
        self._container: OutputContainer = av.open(
            self._y4m or (address(output) if isinstance(output, Path) else output),
            "w",
            format=format,
            container_options=options,
            **KEEP_ODD_TAGS,
        )
        info = reader.info
        for line in moved_note(self._later, format):
            say(line)
        video = self._add_video(encoding, info)
        configure(video.codec_context, info, encoding)
        if format in WITHOUT_HEADERS:
            video.codec_context.flags &= ~Flags.global_header
        video.codec_context.time_base = video_clock(format, video.codec_context.time_base, info.frame_seconds)
        video.time_base = info.time_base if encoding.time_base is None else video.codec_context.time_base
        self._counted = CountedFrames(info) if encoding.time_base is None else None
        if tag := codec_tag(video.codec_context.codec.canonical_name, format):
            video.codec_context.codec_tag = tag
        if info.display_matrix is not None:
            video.set_display_matrix(info.display_matrix)
            for line in lost_turn(info.display_matrix, format):
                say(line)
        video.metadata.update(without_statistics(kept_tags(reader.video.metadata)))
        video.disposition = reader.video.disposition
        self._video = video
        # A pipe has no place to come back to: there, what codecs say themselves is all.
        pixels = info.sample_aspect_ratio if self._to_file else None
        self._shape = make_room(video, format, pixels)
        self._container.metadata.update(kept_tags(reader.container.metadata))
        self._container.set_chapters(
            [chapter for chapter in reader.container.chapters() if chapter["time_base"]]
        )
        self.copied: tuple[int, ...] = ()  # indices of the input's streams
        self._copies: dict[int, tuple[Stream, Ascending, Change]] = {}
        for stream in _others(reader, left):
            self._add_copy(stream, format, say)
        for line in choice_note(reader.container.streams, reader.video.index, self.copied):
            say(line)

    def _add_video(self, encoding: Encoding, info: SourceInfo) -> VideoStream:
        failure: str | None
        try:
            video = self._container.add_stream(encoding.codec, rate=info.rate, options=dict(encoding.options))
            failure = unknown_to_readers(self._format, info, encoding)
        except ValueError as error:
            failure = reason(error)
        if failure is not None:
            to_nut = (encoding.codec == RAW or not self._to_file) and self._format != "nut"
            other = "nut" if to_nut else "matroska"
            raise CarfixError(
                f"{self._container.format.name} cannot hold {encoding.codec} video: {failure}; "
                f"use {self._named(other)} or another -c:v"
            )
        assert isinstance(video, VideoStream)
        return video

    def _named(self, format: str) -> str:
        """How the user says that the output is to be another container."""
        return f"a name in {_PIPED[format]}" if self._to_file else f"-f {format}"

    def _add_copy(self, stream: Stream, format: str, say: Callable[[str], None]) -> None:
        if format in BARE:
            say(left_out(stream, format))
            return
        if is_attached(stream, format):
            # FFmpeg's readers give pictures before everything else: it is there.
            for picture in (packet for packet in self._reader.others if packet.stream_index == stream.index):
                attach(self._container, stream, bytes(picture))
                self.copied = (*self.copied, stream.index)
            return
        sample = self._sample(stream)
        failure = try_copy(stream, sample, format)
        if failure is None:
            copy = add_copy(self._container, stream)
            if format in MATROSKA and self._onward:
                describe_aac(copy)
            self._copies[stream.index] = copy, Ascending(stream, copy), change_of(stream, format)
            self.copied = (*self.copied, stream.index)
            if note := text_note(format, stream):
                say(note)
        elif is_cover(stream):
            say(cover_left_out(stream, format))
        elif is_font(stream):
            say(font_left_out(stream, format))
        elif not has_form(stream):
            say(formless_left_out(stream))
        elif stream.type in ("data", "unknown"):
            say(f"{stream.type} stream {stream.index} is left out of {format}: {failure}")
        else:
            usual = reversed(_PIPED) if self._to_file else _PIPED
            cures = [self._named(name) for name in usual if try_copy(stream, sample, name) is None][:1]
            cures += [_LEAVE_OUT[stream.type]] if stream.type in _LEAVE_OUT else []
            raise CarfixError(
                f"{format} cannot hold {stream.type} stream {stream.index}: {failure.rstrip(' .')}; "
                f"use {' or '.join(cures) or 'a file in place of the pipe'}"
            )

    def _sample(self, stream: Stream) -> "Packet[Any] | None":
        """A copy of the first packet of `stream`, if it has come by now, which may be tried on a container."""
        for packet in (*self._reader.others, *self._reader.waiting.values()):
            if packet.stream_index == stream.index:
                sample: Packet[Any] = Packet(bytes(packet))
                sample.pts, sample.dts, sample.time_base = packet.pts, packet.dts, packet.time_base
                return sample
        return None

    def __enter__(self) -> "PipeWriter":
        with kept_scheduling():
            self._container.start_encoding()
        return self

    def __exit__(self, *exc: object) -> None:
        with contextlib.suppress(*(MEDIA_ERRORS if exc[0] is not None else ())):
            self.close()

    def close(self) -> None:
        """Complete the output, if it was begun, and close it; once more does nothing."""
        if not self._closed:
            self._closed = True
            self._container.close()
            if self._y4m is not None:
                self._y4m.finish()
            if not isinstance(self._output, Path):
                self._output.flush()  # the end of it may wait in a buffer, and nobody be there to read it
            elif self._shape is not None:
                write_shapes(self._output, self._format, [self._shape])

    def write(self, items: Iterable[Item], threads: FramePipeline) -> None:
        """Write every frame that comes, and what the other streams have brought meanwhile."""
        for item in items:
            write_luma(item.frame, item.luma, threads.luma)
            item.frame.pict_type = PictureType.NONE
            if self._counts:
                item.frame.pts, item.frame.time_base = self.count, self._video.codec_context.time_base
            else:
                move(item.frame, self._later)
                if self._counted is not None:
                    self._counted.number(item.frame)
            self._encode(item.frame)
            self.count += 1
            self.unflagged += item.interlaced and not self._flags
            self._progress(Progress(phase="restoring", done=self.count, total=0))
            self._pass_on()
            if not isinstance(self._output, Path):
                self._output.flush()  # somebody may look at the frame before the next one comes

    def finish(self) -> None:
        """Flush the encoder and write what is left of the other streams."""
        self._encode(None)
        self._pass_on()

    def _encode(self, frame: VideoFrame | None) -> None:
        packets = self._video.encode(frame)
        for packet in packets if self._counted is None else self._counted.timed(packets):
            self._mux(packet)

    def _mux(self, packet: "Packet[Any]") -> None:
        self._pauses.note(packet)
        try:
            self._container.mux(packet)
        except NO_ROOM as error:
            if not (pause := str(self._pauses)):
                raise
            raise CarfixError(f"{self._format} cannot hold {pause}; use {self._named('matroska')}") from error

    def _pass_on(self) -> None:
        while self._reader.others:
            packet = self._reader.others.popleft()
            if packet.stream_index in self._copies:
                copy, clock, change = self._copies[packet.stream_index]
                move(packet, self._later)
                for changed in change(packet):
                    clock.set_times(changed)
                    changed.stream = copy
                    try:
                        self._mux(changed)
                    except av.error.InvalidDataError:  # as in `carfix.video.mux`
                        self.refused += 1


def _others(reader: PipeReader, left: Set[str]) -> list[Stream]:
    """The input's streams beside the video, but for kinds that the user leaves out."""
    streams = reader.container.streams
    return [stream for stream in streams if stream.index != reader.video.index and stream.type not in left]
