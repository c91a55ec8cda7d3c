"""Restoring through pipes: frames as they come, nothing planned, nothing kept on a disk."""

import contextlib
import heapq
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Set
from pathlib import Path
from typing import IO, Any

import av
from av.codec.context import Flags
from av.container import InputContainer, OutputContainer
from av.packet import Packet
from av.stream import Stream
from av.video.frame import PictureType, VideoFrame
from av.video.stream import VideoStream

from carfix.errors import CarfixError, UsageError
from carfix.restore.frames import FramePipeline, Item
from carfix.restore.models import EngineChoice
from carfix.restore.report import Progress, Report
from carfix.video.address import address
from carfix.video.choice import check_stream, choice_note, find_video
from carfix.video.copying import Ascending
from carfix.video.covers import WITHOUT_COVERS, attach, is_attached, is_cover
from carfix.video.demux import demux
from carfix.video.encoder import (
    EncoderSettings,
    Encoding,
    check_settings,
    configure,
    resolve_encoding,
    settings_for,
)
from carfix.video.faults import MEDIA_ERRORS, reason
from carfix.video.luma import write_luma
from carfix.video.muxer import BARE, WITHOUT_HEADERS, codec_tag, kept_tags, muxer_options, output_format
from carfix.video.quantizer import export_quantizers
from carfix.video.scheduling import kept_scheduling
from carfix.video.segments import Segment
from carfix.video.source import SourceInfo, describe, open_container
from carfix.video.streams import (
    COPY,
    NONE,
    add_copy,
    cover_left_out,
    formless_left_out,
    has_form,
    left_out,
    try_copy,
)

#: What stands for standard input and output on the command line.
PIPE = Path("-")
#: How many frames wait so that damage cannot put them out of order; see `carfix.video.decode`.
_REORDERED = 8
#: What leaves streams of a kind out.
_LEAVE_OUT = {"audio": ", or -c:a none", "subtitle": ", or -sn"}
#: The whole of a pipe is one piece.
_WHOLE = Segment(index=0, start=0, end=0, frames=0)


def restore_pipe(
    *,
    source: Path | IO[bytes],
    output: Path | IO[bytes],
    format: str | None = None,
    encoder: EncoderSettings | None = None,
    audio_codec: str = COPY,
    subtitles: bool = True,
    stream: str | None = None,
    choice: EngineChoice | None = None,
    progress: Callable[[Progress], None] | None = None,
    say: Callable[[str], None] | None = None,
) -> Report:
    """Restore video from `source` to `output`, of which at least one is a stream of bytes.

    Other streams go along packet for packet as they arrive. `format` names the container of `output` (`nut`,
    `matroska`, `mpegts`, or `yuv4mpegpipe` for bare frames, alias `y4m`); the rest is as for `restore_video`. Raises
    `UsageError` for settings that cannot be, `CarfixError` for what is wrong with the streams.
    """
    began = time.monotonic()
    choice = choice or EngineChoice(model="auto")
    choice.check()
    check_stream(stream)
    format = _format(output, format)
    settings = settings_for(encoder or EncoderSettings(), format)
    check_settings(settings)
    if audio_codec not in (COPY, NONE):
        raise UsageError("-c:a takes copy or none where a pipe is involved")
    left = {kind for kind, wanted in (("audio", audio_codec != NONE), ("subtitle", subtitles)) if not wanted}
    say = say or (lambda _: None)
    name = source if isinstance(source, Path) else PIPE
    try:
        with contextlib.ExitStack() as stack:
            container = stack.enter_context(open_container(source))
            reader = _Reader(container, name, stream)
            encoding = resolve_encoding(reader.info, settings)
            for line in encoding.warnings:
                say(line)
            engine = stack.enter_context(choice.open())
            say(choice.describe(engine))
            with _Writer(output, format, reader, encoding, left, say, progress or (lambda _: None)) as writer:
                threads = FramePipeline(
                    engine, encoding.pix_fmt, reader.info.colour.range, choice.strength_of(engine)
                )
                threads.run(reader.frames(), lambda items: writer.write(items, threads))
                writer.finish()
                copied = writer.copied
            description = engine.description
    except BrokenPipeError:
        raise CarfixError("the program that reads the output has ended") from None
    except MEDIA_ERRORS as error:
        raise CarfixError(f"cannot write the output: {reason(error)}") from error
    findings = [f"{reader.refused} damaged packets could not be decoded"] if reader.refused else []
    for line in findings:
        say(line)
    return Report(
        source=name,
        output=output if isinstance(output, Path) else PIPE,
        frames=writer.count,
        resumed=0,
        repeated=threads.repeated,
        seconds=time.monotonic() - began,
        engine=description,
        stream=reader.info.stream,
        copied=copied,
        warnings=(*encoding.warnings, *findings),
        damaged=bool(findings),
    )


def _format(output: Path | IO[bytes], format: str | None) -> str:
    if format is None and not isinstance(output, Path):
        raise UsageError("a pipe has no name that says the container: add -f nut, -f matroska or -f y4m")
    return output_format(output if isinstance(output, Path) else PIPE, format)


class _Reader:
    """Frames in order from a container that cannot be rewound; packets of other streams wait in `others`."""

    def __init__(self, container: InputContainer, path: Path, wanted: str | None) -> None:
        self.container = container
        self.video = find_video(container, path, wanted)
        self.others: deque[Packet[Any]] = deque()
        self.refused = 0
        self._packets: Iterator[Packet[Any]] = demux(container)
        self._decoded: Iterator[VideoFrame] = self._decode()
        first = next(self._decoded, None)
        if first is None:
            why = ""
            if path == PIPE and "mp4" in container.format.name:
                why = "; through a pipe, MP4 needs its index in front (FFmpeg's -movflags +faststart)"
            raise CarfixError(f"{path}: not a single frame of its video could be decoded{why}")
        self._first = first
        self.info: SourceInfo = describe(container, self.video, first, path)

    def _decode(self) -> Iterator[VideoFrame]:
        context = self.video.codec_context
        note = export_quantizers(context)
        with contextlib.suppress(*MEDIA_ERRORS):  # a pipe that breaks off ends there
            for packet in self._packets:
                if packet.size and packet.stream_index != self.video.index:
                    self.others.append(packet)
                elif packet.size:
                    note(packet)
                    try:
                        yield from context.decode(packet)
                    except MEDIA_ERRORS:
                        self.refused += 1
        yield from context.decode(None)

    def frames(self) -> Iterator[tuple[Segment, VideoFrame]]:
        """Frames with strictly ascending `pts`, in the order of presentation."""
        waiting: list[tuple[int, int, VideoFrame]] = []
        step = max(1, round(1 / self.info.rate / self.info.time_base))
        latest, last = -step, None
        for number, frame in enumerate(self._all()):
            latest = latest + step if frame.pts is None else frame.pts
            heapq.heappush(waiting, (latest, number, frame))
            while len(waiting) > _REORDERED:
                last, frame = _next(waiting, last)
                yield _WHOLE, frame
        while waiting:
            last, frame = _next(waiting, last)
            yield _WHOLE, frame

    def _all(self) -> Iterator[VideoFrame]:
        yield self._first
        for frame in self._decoded:
            if (frame.width, frame.height, frame.format.name) != (
                self.info.width,
                self.info.height,
                self.info.pix_fmt,
            ):
                raise CarfixError(
                    f"the video changes to {frame.width}x{frame.height} {frame.format.name} on the way"
                )
            yield frame


def _next(waiting: list[tuple[int, int, VideoFrame]], last: int | None) -> tuple[int, VideoFrame]:
    pts, _, frame = heapq.heappop(waiting)
    frame.pts = pts if last is None or pts > last else last + 1
    frame.dts = None
    return frame.pts, frame


class _Writer:
    """Encodes restored frames into the output, and puts the other streams' packets between them."""

    def __init__(
        self,
        output: Path | IO[bytes],
        format: str,
        reader: _Reader,
        encoding: Encoding,
        left: Set[str],
        say: Callable[[str], None],
        progress: Callable[[Progress], None],
    ) -> None:
        self.count = 0
        self._reader = reader
        self._progress = progress
        self._container: OutputContainer = av.open(
            address(output) if isinstance(output, Path) else output,
            "w",
            format=format,
            container_options=muxer_options(format, reader.container.metadata),
        )
        info = reader.info
        video = self._container.add_stream(encoding.codec, rate=info.rate, options=dict(encoding.options))
        assert isinstance(video, VideoStream)
        configure(video.codec_context, info, encoding)
        if format in WITHOUT_HEADERS:
            video.codec_context.flags &= ~Flags.global_header
        video.time_base = video.codec_context.time_base
        if tag := codec_tag(video.codec_context.codec.canonical_name, format):
            video.codec_context.codec_tag = tag
        if info.display_matrix is not None:
            video.set_display_matrix(info.display_matrix)
        video.metadata.update(kept_tags(reader.video.metadata))
        self._video = video
        self._container.metadata.update(kept_tags(reader.container.metadata))
        self.copied: tuple[int, ...] = ()  # indices of the input's streams
        self._copies: dict[int, tuple[Stream, Ascending]] = {}
        for stream in reader.container.streams:
            if stream.index != reader.video.index and stream.type not in left:
                self._add_copy(stream, format, say)
        for line in choice_note(reader.container.streams, reader.video.index, self.copied):
            say(line)

    def _add_copy(self, stream: Stream, format: str, say: Callable[[str], None]) -> None:
        if format in BARE:
            say(left_out(stream, format))
            return
        if is_cover(stream) and format in WITHOUT_COVERS:
            say(cover_left_out(stream, format))
            return
        if is_attached(stream, format):
            # FFmpeg's readers give pictures before everything else: it is there.
            for picture in (packet for packet in self._reader.others if packet.stream_index == stream.index):
                attach(self._container, stream, bytes(picture))
                self.copied = (*self.copied, stream.index)
            return
        failure = try_copy(stream, None, format)
        if failure is None:
            self._copies[stream.index] = add_copy(self._container, stream), Ascending(stream)
            self.copied = (*self.copied, stream.index)
        elif not has_form(stream):
            say(formless_left_out(stream))
        elif stream.type == "data":
            say(f"{stream.type} stream {stream.index} is left out of {format}: {failure}")
        else:
            container = "matroska" if format == "nut" else "nut"
            cure = f"use -f {container}" + _LEAVE_OUT.get(stream.type, "")
            raise CarfixError(f"{format} cannot hold {stream.type} stream {stream.index}: {failure}; {cure}")

    def __enter__(self) -> "_Writer":
        with kept_scheduling():
            self._container.start_encoding()
        return self

    def __exit__(self, *exc: object) -> None:
        with contextlib.suppress(*(MEDIA_ERRORS if exc[0] is not None else ())):
            self._container.close()

    def write(self, items: Iterable[Item], threads: FramePipeline) -> None:
        """Write every frame that comes, and what the other streams have brought meanwhile."""
        for item in items:
            write_luma(item.frame, item.luma, threads.luma)
            item.frame.pict_type = PictureType.NONE
            self._container.mux(self._video.encode(item.frame))
            self.count += 1
            self._progress(Progress(phase="restoring", done=self.count, total=self.count))
            self._pass_on()

    def finish(self) -> None:
        """Flush the encoder and write what is left of the other streams."""
        self._container.mux(self._video.encode(None))
        self._pass_on()

    def _pass_on(self) -> None:
        while self._reader.others:
            packet = self._reader.others.popleft()
            if packet.stream_index in self._copies:
                copy, clock = self._copies[packet.stream_index]
                clock.set_times(packet)
                packet.stream = copy
                self._container.mux(packet)
