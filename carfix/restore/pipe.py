"""Restoring through pipes: frames as they come, nothing planned, nothing kept on a disk."""

import contextlib
import time
from collections.abc import Callable
from pathlib import Path
from typing import IO, cast

from carfix.errors import CarfixError, UsageError
from carfix.restore.arriving import Arriving
from carfix.restore.findings import (
    damage_findings,
    end_findings,
    moved_findings,
    packet_findings,
    refused_findings,
    unflagged_findings,
)
from carfix.restore.frames import FramePipeline
from carfix.restore.models import EngineChoice
from carfix.restore.pipe_reader import PIPE, PipeReader
from carfix.restore.pipe_writer import PipeWriter
from carfix.restore.report import Progress, Report
from carfix.video.choice import check_stream
from carfix.video.encoder import counting, resolve_encoding
from carfix.video.encoder_settings import EncoderSettings, check_settings, settings_for
from carfix.video.faults import MEDIA_ERRORS, reason
from carfix.video.muxer import BARE, WITH_AN_INDEX, output_format
from carfix.video.source import open_container
from carfix.video.streams import COPY, NONE

#: FFmpeg reads other times from these than it wrote. Whether a file comes out right is tried before the work, and what
#: passes is written; here nothing is read back.
_NOT_AS_WRITTEN = ("asf", "asf_stream", "ogg", "ogv")


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
    choice = choice or EngineChoice()
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
            arriving = None if isinstance(source, Path) else Arriving(source)
            container = stack.enter_context(open_container(cast(IO[bytes], arriving) if arriving else source))
            reader = PipeReader(container, name, stream)
            # What comes through a pipe may not keep to its rate; a bare stream has no times that could differ from it.
            encoding = counting(resolve_encoding(reader.info, settings, format), steady=format in BARE)
            for line in encoding.warnings:
                say(line)
            # What cannot be written is said before a network is loaded.
            writer = PipeWriter(output, format, reader, encoding, left, say, progress or (lambda _: None))
            stack.callback(writer.close)
            engine = stack.enter_context(choice.open())
            say(choice.describe(engine))
            with writer:
                threads = FramePipeline(
                    engine, encoding.pix_fmt, reader.info.colour.range, choice.strength_of(engine), live=True
                )
                if arriving is not None:
                    arriving.wanted = threads.goes_on
                try:
                    threads.run(reader.frames(), lambda items: writer.write(items, threads))
                    writer.finish()
                finally:  # a camera's run comes to no other end than an interruption
                    findings = _findings(reader, writer)
                    for line in findings:
                        say(line)
                if reader.changed is not None:  # once all that came before is written
                    raise CarfixError(reader.changed)
            description = engine.description
    except BrokenPipeError:
        raise CarfixError("the program that reads the output has ended") from None
    except MEDIA_ERRORS as error:
        raise CarfixError(f"cannot write the output: {reason(error)}") from error
    damage = (
        reader.clock.strays,
        reader.corrupt,
        reader.damage.packets,
        reader.damage.frames,
        writer.refused,
        reader.cut_short,
    )
    return Report(
        source=name,
        output=output if isinstance(output, Path) else PIPE,
        frames=writer.count,
        resumed=0,
        repeated=threads.repeated,
        seconds=time.monotonic() - began,
        engine=description,
        stream=reader.info.stream,
        copied=writer.copied,
        warnings=(*encoding.warnings, *findings),
        damaged=any(damage),
    )


def _findings(reader: PipeReader, writer: PipeWriter) -> list[str]:
    clock = reader.clock
    return [
        *packet_findings(clock.found, clock.standing.count, clock.strays, reader.corrupt),
        *moved_findings(clock.moved),
        *end_findings(reader.cut_short),
        *damage_findings(reader.damage),
        *unflagged_findings(writer.unflagged),
        *refused_findings(writer.refused),
    ]


def _format(output: Path | IO[bytes], format: str | None) -> str:
    if format is None and not isinstance(output, Path):
        raise UsageError("a pipe has no name that says the container: add -f nut, -f matroska or -f y4m")
    format = output_format(output if isinstance(output, Path) else PIPE, format)
    if format in WITH_AN_INDEX and not isinstance(output, Path) and not output.seekable():
        raise UsageError(
            f"{format} cannot be written to a pipe, in which nobody can go back: take -f nut or -f matroska"
        )
    if format in _NOT_AS_WRITTEN:
        other = "write .mkv instead" if isinstance(output, Path) else "take -f nut or -f matroska"
        raise UsageError(f"FFmpeg reads other times from {format} than were written: {other}")
    return format
