"""The streams that are copied: what goes along, and whether the output's container can hold it."""

import dataclasses
import io
import itertools
import re
from collections.abc import Mapping
from fractions import Fraction
from typing import Any

import av
from av.audio.stream import AudioStream
from av.codec import Codec
from av.codec.codec import UnknownCodecError
from av.container import InputContainer, OutputContainer
from av.packet import Packet
from av.stream import Stream
from av.video.codeccontext import VideoCodecContext
from av.video.stream import VideoStream

from carfix.errors import CarfixError, UsageError
from carfix.video.avi import add_counted_copy, avi_refusal
from carfix.video.choice import UNKNOWN_CODEC, choice_note, codec_of, has_form
from carfix.video.covers import WITHOUT_COVERS, is_attached, is_cover
from carfix.video.demux import demux
from carfix.video.faults import MEDIA_ERRORS, captured_log, reason, said
from carfix.video.flash import FLV, flash_refusal
from carfix.video.muxer import AVI, BARE, PROGRAM_STREAMS, kept_tags, muxer_options
from carfix.video.pixel_tags import keep_letters
from carfix.video.sound import encoder_for, is_known, named_layout, rate_for, try_encoded
from carfix.video.source import SourceInfo, open_input
from carfix.video.text import MOV_TEXT, add_text, font_left_out, is_font, kind_in, text_note
from carfix.video.unlisted import add_unlisted_copy
from carfix.video.unnamed import ask, unnamed

#: Words of `-c:a` that are not encoders.
COPY, NONE = "copy", "none"

#: How it goes on about sound in MP4 that few players know (TrueHD): carfix has no such option.
_FFMPEGS_CURE = ", add '-strict"

#: Sound that muxers take and no one decodes again: of G.722 MOV writes samples of no size, and neither it nor NUT keeps
#: the size of blocks, or the bits of a sample, without which these decoders do not open.
_LOST: Mapping[str, tuple[str, ...]] = {
    "mov": ("adpcm_g722", "wmav1", "wmav2"),
    "nut": ("wmav1", "wmav2", "adpcm_g726", "adpcm_ima_wav"),
}

#: Containers that hold what others do not, by suffix, the better first.
_OTHERS = {".mkv": "matroska", ".ts": "mpegts"}

#: How many packets are read to find the first one of every stream; a subtitle may come much later, and is
#: then judged by its header alone.
_PROBE_PACKETS = 5000
#: Bits a second as FFmpeg spells them.
_BITRATE = re.compile(r"\d+(\.\d+)?[kKmM]?")


@dataclasses.dataclass(frozen=True)
class CopyPlan:
    """What becomes of the input's streams other than the restored one."""

    copied: tuple[int, ...]  # indices of streams that go along packet for packet
    encoded: tuple[int, ...]  # of audio streams that `-c:a ENCODER` encodes anew
    audio_codec: str  # that encoder; COPY or NONE
    audio_bitrate: str | None  # its bits a second; None: its own choice
    warnings: tuple[str, ...]  # streams that no one can copy
    notes: tuple[str, ...] = ()  # which of several videos is restored, and what becomes of encoded sound
    starts: tuple[Fraction, ...] = ()  # seconds on the input's clock: when the copied streams begin
    heard: tuple[Fraction, ...] = ()  # the same of all sound, copied and encoded
    covers: Mapping[int, bytes] = dataclasses.field(default_factory=dict)  # of `copied`: pictures to attach


def check_audio(name: str, bitrate: str | None) -> None:
    """Raises `UsageError` unless `name` is `copy`, `none` or an audio encoder, and `bitrate` one for that."""
    if bitrate is not None and name in (COPY, NONE):
        raise UsageError("-b:a is for sound that is encoded: name an encoder, such as -c:a aac")
    if bitrate is not None and not _BITRATE.fullmatch(bitrate):
        raise UsageError(f"-b:a takes bits a second, such as 128k, not {bitrate!r}")
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
    audio_bitrate: str | None = None,
    *,
    subtitles: bool = True,
    movflags: str | None = None,
    bluray: bool = False,
) -> CopyPlan:
    """Decide for every stream, trying each that is copied by muxing its first packet into memory.

    Subtitles are left out unless they are wanted, and, with a warning, data streams that FFmpeg has no way to write
    anywhere (cameras' own telemetry). Raises `CarfixError` naming the cure for a stream that the container cannot
    hold.
    """
    copied: list[int] = []
    encoded: list[int] = []
    warnings: list[str] = []
    notes: list[str] = []
    covers: dict[int, bytes] = {}
    with open_input(info.path) as container:
        streams = [stream for stream in container.streams if stream.index != info.stream]
        # As they are when the output is written: what a stream's own packets tell is known only behind them.
        formless = {stream.index for stream in streams if not has_form(stream)}
        heads = _first_packets(container, streams)
        kept = {"audio": audio_codec != NONE, "subtitle": subtitles}
        for stream in (stream for stream in streams if kept.get(stream.type, True)):
            head = heads.get(stream.index)
            encodes = stream.type == "audio" and audio_codec != COPY
            if format in BARE:
                warnings.append(left_out(stream, format))
            elif is_attached(stream, format):
                if head is not None:
                    covers[stream.index] = bytes(head)
                    copied.append(stream.index)
            elif encodes and has_form(stream):
                notes += _check_encoded(info, stream, format, audio_codec, audio_bitrate)
                encoded.append(stream.index)
            elif encodes or stream.index in formless:
                warnings.append(formless_left_out(stream))
            elif (failure := try_copy(stream, head, format, movflags, bluray=bluray)) is None:
                copied.append(stream.index)
                notes += [note] if (note := text_note(format, stream)) else []
            elif is_cover(stream):
                warnings.append(cover_left_out(stream, format))
            elif is_font(stream):
                warnings.append(font_left_out(stream, format))
            elif stream.type not in ("data", "unknown"):
                raise CarfixError(_refused(info, stream, head, format, failure))
            elif not _made_by_muxer(container, stream):
                warnings.append(f"data stream {stream.index} cannot be copied to {format}: {failure}")
        notes += choice_note(container.streams, info.stream, copied)
        sound = [stream.index for stream in streams if stream.type == "audio"]
    starts = [_start(heads[index]) for index in copied if index in heads]
    heard = [_start(heads[index]) for index in sound if index in heads and index in (*copied, *encoded)]
    return CopyPlan(
        copied=tuple(copied),
        encoded=tuple(encoded),
        audio_codec=audio_codec,
        audio_bitrate=audio_bitrate,
        warnings=tuple(warnings),
        notes=tuple(notes),
        starts=tuple(starts),
        heard=tuple(heard),
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


def formless_left_out(stream: Stream) -> str:
    """The warning about a stream that no container takes."""
    return f"{stream.type} stream {stream.index} is left out: nothing was found that tells its form"


def _refused(info: SourceInfo, stream: Stream, head: "Packet[Any] | None", format: str, failure: str) -> str:
    # Teletext goes into transport streams alone.
    others = (
        name for name, other in _OTHERS.items() if other != format and not try_copy(stream, head, other)
    )
    cures = [f"write {name} instead" for name in itertools.islice(others, 1)]
    if isinstance(stream, AudioStream):
        encoder = encoder_for(stream, format)
        cures.append(f"encode it with -c:a {encoder}" if encoder else "leave sound out with -c:a none")
    elif stream.type == "subtitle":
        cures.append("leave subtitles out with -sn")
    cure = ", or ".join(cures) or "write .nut instead"
    what = f"{stream.type} stream {stream.index} ({codec_of(stream) or UNKNOWN_CODEC})"
    return f"{info.path}: {format} cannot hold {what}: {failure.rstrip(' .')}; {cure}"


def _check_encoded(
    info: SourceInfo, stream: Stream, format: str, encoder: str, bitrate: str | None
) -> list[str]:
    """What is to be said of sound that is encoded anew. Raises `CarfixError` where that cannot be."""
    assert isinstance(stream, AudioStream)
    failure = try_encoded(stream, encoder, format, bitrate)
    if failure is not None:
        other = encoder_for(stream, format)
        cures = ["write .mkv instead"] if try_encoded(stream, encoder, "matroska", bitrate) is None else []
        cures.append(f"use -c:a {other}" if other else "leave sound out with -c:a none")
        raise CarfixError(
            f"{info.path}: audio stream {stream.index} cannot be encoded by {encoder} for {format}: "
            f"{failure.rstrip(' .')}; {', or '.join(cures)}"
        )
    rate = stream.codec_context.sample_rate
    taken = rate_for(encoder, rate)
    if taken == rate:
        return []
    return [
        f"audio stream {stream.index} is resampled from {rate} to {taken} Hz: {encoder} does not take {rate}"
    ]


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
    stream: Stream,
    packet: "Packet[Any] | None",
    format: str,
    movflags: str | None = None,
    *,
    bluray: bool = False,
) -> str | None:
    """Why the stream cannot be copied; None if it can."""
    if movflags is not None:
        # In memory there is no name, by which the muxer opens what it has written.
        movflags = "+".join(flag for flag in movflags.split("+") if flag not in ("", "faststart")) or None
    if format == FLV and isinstance(stream, AudioStream) and is_known(stream):
        refusal = flash_refusal(stream.codec_context)
        if refusal:
            return refusal
    if (
        format == AVI
        and isinstance(stream, AudioStream)
        and is_known(stream)
        and (why := avi_refusal(stream))
    ):
        return why
    if format in WITHOUT_COVERS and is_cover(stream):
        return "it would be lost, or data without a name"  # the muxer takes it
    if codec_of(stream) in _LOST.get(format, ()):
        return "nobody could decode it again"
    if format == "nut" and codec_of(stream) == MOV_TEXT:
        return "readers would not know what it is"  # the muxer takes it under MP4's name
    if format in PROGRAM_STREAMS and stream.type == "subtitle" and codec_of(stream) != "dvd_subtitle":
        return "it would pass for DVD's pictures"  # the muxer takes any
    options = muxer_options(format, {}, movflags, bluray=bluray)
    with captured_log() as log:
        try:
            with av.open(io.BytesIO(), "w", format=format, container_options=options) as output:
                copy = add_copy(output, stream)
                output.start_encoding()
                if packet is not None:
                    packet.stream = copy
                    packet.dts = packet.pts if packet.dts is None else packet.dts
                    output.mux(packet)
                else:
                    ask(output, copy)
        except MEDIA_ERRORS as error:
            return next(iter(said(log)), reason(error)).partition(_FFMPEGS_CURE)[0]
    return unnamed(log) if stream.type in ("audio", "video", "subtitle") else None


def add_copy(output: OutputContainer, stream: Stream) -> Stream:
    """Add a stream that takes the packets of `stream` as they are, with its tags and dispositions."""
    kind = kind_in(output.format.name, stream)
    copy = add_counted_copy(output, stream) if kind is None else add_text(output, stream, kind)
    try:
        copy = copy or output.add_stream_from_template(stream, opaque=True)
    except ValueError:
        copy = add_unlisted_copy(output, stream)
    copy.metadata.update(kept_tags(stream.metadata))
    copy.disposition = stream.disposition
    keep_letters(copy, stream)
    if (
        output.format.name == FLV
        and isinstance(copy, AudioStream)
        and is_known(copy)
        and copy.codec_context.layout.nb_channels
    ):
        # Of a number of channels and no layout (Matroska's sound) the muxer ends the whole process.
        copy.codec_context.layout = named_layout(copy.codec_context.layout)
    if (
        isinstance(stream, VideoStream)
        and stream.sample_aspect_ratio
        and isinstance(copy.codec_context, VideoCodecContext)
    ):
        copy.codec_context.sample_aspect_ratio = stream.sample_aspect_ratio  # which MP4 has beside its codecs
    if output.format.name == "mpegts" and stream.id:
        copy.id = stream.id
    return copy
