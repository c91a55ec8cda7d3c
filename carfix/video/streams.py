"""The streams that are copied: what goes along, and whether the output's container can hold it."""

import dataclasses
import io
from collections.abc import Mapping
from fractions import Fraction
from typing import Any

import av
from av.audio.layout import AudioLayout
from av.audio.stream import AudioStream
from av.codec import Codec
from av.codec.codec import UnknownCodecError
from av.container import InputContainer, OutputContainer
from av.packet import Packet
from av.stream import Stream

from carfix.errors import CarfixError, UsageError
from carfix.video.choice import choice_note
from carfix.video.covers import WITHOUT_COVERS, is_attached, is_cover
from carfix.video.demux import demux
from carfix.video.faults import MEDIA_ERRORS, captured_log, reason, said
from carfix.video.muxer import BARE, kept_tags, muxer_options, without_statistics
from carfix.video.source import SourceInfo, open_input
from carfix.video.unlisted import add_unlisted_copy

#: Words of `-c:a` that are not encoders.
COPY, NONE = "copy", "none"

#: What FFmpeg's muxer warns of when a reader will not know a stream's codec.
_UNNAMED = "may not be recognized upon reading"

#: How many packets are read to find the first one of every stream; a subtitle may come much later, and is
#: then judged by its header alone.
_PROBE_PACKETS = 5000

#: FFmpeg's layouts for numbers of channels.
_USUAL_LAYOUTS = {1: "mono", 2: "stereo", 3: "2.1", 4: "4.0", 5: "5.0", 6: "5.1", 7: "6.1", 8: "7.1"}


@dataclasses.dataclass(frozen=True)
class CopyPlan:
    """What becomes of the input's streams other than the restored one."""

    copied: tuple[int, ...]  # indices of streams that go along packet for packet
    encoded: tuple[int, ...]  # of audio streams that `-c:a ENCODER` encodes anew
    audio_codec: str  # that encoder; COPY or NONE
    warnings: tuple[str, ...]  # streams that no one can copy
    notes: tuple[str, ...] = ()  # which of several videos is restored
    starts: tuple[Fraction, ...] = ()  # seconds on the input's clock: when the copied streams begin
    covers: Mapping[int, bytes] = dataclasses.field(default_factory=dict)  # of `copied`: pictures to attach


def check_audio_codec(name: str) -> None:
    """Raises `UsageError` unless `name` is `copy`, `none` or an audio encoder."""
    if name in (COPY, NONE):
        return
    try:
        codec = Codec(name, "w")
    except UnknownCodecError:
        raise UsageError(f"unknown audio encoder {name!r}; use copy, none, or one such as aac") from None
    if codec.type != "audio":
        raise UsageError(f"{name} is not an audio encoder but one for {codec.type}")


def plan_copy(
    info: SourceInfo,
    format: str,
    audio_codec: str = COPY,
    *,
    subtitles: bool = True,
    movflags: str | None = None,
) -> CopyPlan:
    """Decide for every stream, trying each that is copied by muxing its first packet into memory.

    Subtitles are left out unless they are wanted, and, with a warning, data streams that FFmpeg has no way to write
    anywhere (cameras' own telemetry). Raises `CarfixError` naming the cure for a stream that the container cannot
    hold.
    """
    copied: list[int] = []
    encoded: list[int] = []
    warnings: list[str] = []
    covers: dict[int, bytes] = {}
    with open_input(info.path) as container:
        streams = [stream for stream in container.streams if stream.index != info.stream]
        heads = _first_packets(container, streams)
        for stream in streams:
            if stream.type == "audio" and audio_codec != COPY:
                if audio_codec != NONE:
                    encoded.append(stream.index)
                continue
            if stream.type == "subtitle" and not subtitles:
                continue
            if format in BARE:
                warnings.append(left_out(stream, format))
                continue
            head = heads.get(stream.index)
            if is_cover(stream) and format in WITHOUT_COVERS:
                warnings.append(cover_left_out(stream, format))
                continue
            if is_attached(stream, format):
                if head is not None:
                    covers[stream.index] = bytes(head)
                    copied.append(stream.index)
                continue
            failure = try_copy(stream, head, format, movflags)
            if failure is None:
                copied.append(stream.index)
            elif not has_form(stream):
                warnings.append(formless_left_out(stream))
            elif stream.type in ("data", "unknown"):
                if not _made_by_muxer(container, stream):
                    warnings.append(f"data stream {stream.index} cannot be copied to {format}: {failure}")
            else:
                raise CarfixError(_refused(info, stream, format, failure))
        notes = choice_note(container.streams, info.stream, copied)
    starts = [_start(heads[index]) for index in copied if index in heads]
    return CopyPlan(
        copied=tuple(copied),
        encoded=tuple(encoded),
        audio_codec=audio_codec,
        warnings=tuple(warnings),
        notes=notes,
        starts=tuple(starts),
        covers=covers,
    )


def _start(packet: "Packet[Any]") -> Fraction:
    return (packet.pts or 0) * (packet.time_base or Fraction(0))


def left_out(stream: Stream, format: str) -> str:
    """The warning about a stream for which a bare format has no place."""
    what = "one video" if stream.type == "video" else "nothing but video"
    return f"{stream.type} stream {stream.index} is left out: {format} holds {what}"


def cover_left_out(stream: Stream, format: str) -> str:
    """The warning about a cover picture for which a container has no place."""
    return f"the cover picture (stream {stream.index}) is left out: {format} has no place for one"


def has_form(stream: Stream) -> bool:
    """False for sound and video that damage made up, or that were announced and never sent."""
    context = stream.codec_context
    known = {"audio": "sample_rate", "video": "width"}.get(stream.type)
    return context is None or known is None or bool(getattr(context, known, 0))


def formless_left_out(stream: Stream) -> str:
    """The warning about a stream that no container takes."""
    return f"{stream.type} stream {stream.index} is left out: it holds nothing that tells its form"


def _refused(info: SourceInfo, stream: Stream, format: str, failure: str) -> str:
    cures = [] if format == "matroska" else ["write .mkv instead"]
    if stream.type == "audio":
        cures.append("encode it with -c:a aac")
    elif stream.type == "subtitle":
        cures.append("leave subtitles out with -sn")
    name = stream.codec_context.codec.canonical_name if stream.codec_context else "unknown codec"
    cure = ", or ".join(cures) or "write .nut instead"
    what = f"{stream.type} stream {stream.index} ({name})"
    return f"{info.path}: {format} cannot hold {what}: {failure.rstrip('.')}; {cure}"


def _made_by_muxer(container: InputContainer, stream: Stream) -> bool:
    """Chapter and timecode tracks of MOV: the muxer writes them anew from the chapters and the metadata."""
    tags = [container.metadata, *(other.metadata for other in container.streams)]
    return bool(container.chapters()) or any("timecode" in tag for tag in tags)


def _first_packets(container: InputContainer, streams: list[Stream]) -> dict[int, "Packet[Any]"]:
    heads: dict[int, Packet[Any]] = {}
    if not streams:
        return heads
    try:
        for count, packet in enumerate(demux(container, *streams)):
            if packet.size:
                heads.setdefault(packet.stream_index, packet)
            if len(heads) == len(streams) or count > _PROBE_PACKETS:
                break
    except MEDIA_ERRORS:
        pass  # the scan of the video meets the same damage and reports it
    return heads


def try_copy(
    stream: Stream, packet: "Packet[Any] | None", format: str, movflags: str | None = None
) -> str | None:
    """Why the stream cannot be copied; None if it can."""
    if movflags is not None:
        # In memory there is no name, by which the muxer opens what it has written.
        movflags = "+".join(flag for flag in movflags.split("+") if flag not in ("", "faststart")) or None
    options = muxer_options(format, {}, movflags)
    with captured_log() as log:
        try:
            with av.open(io.BytesIO(), "w", format=format, container_options=options) as output:
                copy = add_copy(output, stream)
                output.start_encoding()
                if packet is not None:
                    packet.stream = copy
                    packet.dts = packet.pts if packet.dts is None else packet.dts
                    output.mux(packet)
        except MEDIA_ERRORS as error:
            return next(iter(said(log)), reason(error))
    # MPEG-TS takes any sound and picture, under no name.
    lost = [line for line in said(log, av.logging.WARNING) if _UNNAMED in line]
    return lost[0] if lost and stream.type in ("audio", "video") else None


def add_copy(output: OutputContainer, stream: Stream) -> Stream:
    """Add a stream that takes the packets of `stream` as they are, with its tags and dispositions."""
    try:
        copy = output.add_stream_from_template(stream, opaque=True)
    except ValueError:
        copy = add_unlisted_copy(output, stream)
    copy.metadata.update(kept_tags(stream.metadata))
    copy.disposition = stream.disposition
    if output.format.name == "mpegts" and stream.id:
        copy.id = stream.id
    return copy


def named_layout(layout: AudioLayout) -> AudioLayout:
    """`layout`, or where a file tells only the number of channels (PCM in AVI), FFmpeg's usual one for it."""
    if not layout.name.endswith(" channels"):
        return layout
    return AudioLayout(_USUAL_LAYOUTS.get(layout.nb_channels, layout.name))


def add_encoded_audio(output: OutputContainer, stream: AudioStream, codec: str) -> AudioStream:
    """Add a stream for `stream` encoded by `codec`, with its rate, channels, tags and dispositions."""
    encoded = output.add_stream(codec, rate=stream.codec_context.sample_rate)
    assert isinstance(encoded, AudioStream)
    encoded.codec_context.layout = named_layout(stream.codec_context.layout)
    encoded.time_base = Fraction(1, stream.codec_context.sample_rate)
    encoded.metadata.update(without_statistics(kept_tags(stream.metadata)))
    encoded.disposition = stream.disposition
    return encoded
