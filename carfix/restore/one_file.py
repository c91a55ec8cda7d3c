"""The restore of one file as a function."""

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

from carfix.errors import CarfixError
from carfix.net.checkpoint import Model
from carfix.restore.engine import Engine
from carfix.restore.job import Job, ProgressCallback
from carfix.restore.models import EngineChoice
from carfix.restore.report import Report
from carfix.restore.trim import Trim
from carfix.video.choice import check_stream
from carfix.video.encoder_settings import EncoderSettings
from carfix.video.faults import reason
from carfix.video.hwaccel import NONE
from carfix.video.segments import DEFAULT_SEGMENT_SECONDS
from carfix.video.streams import COPY


def restore_video(
    *,
    source: Path | str,
    output: Path | str,
    model: str | Path | Model | Engine = "auto",
    device: str = "auto",
    precision: str = "auto",
    tile: int | None = None,
    batch: int | None = None,
    ensemble: int = 1,
    strength: float | None = None,
    encoder: EncoderSettings | None = None,
    audio_codec: str = COPY,
    audio_bitrate: str | None = None,
    subtitles: bool = True,
    stream: str | int | None = None,
    hwaccel: str = NONE,
    format: str | None = None,
    movflags: str | None = None,
    start: float | None = None,
    duration: float | None = None,
    end: float | None = None,
    overwrite: bool = False,
    segment_seconds: float = DEFAULT_SEGMENT_SECONDS,
    resume: bool = True,
    parents: bool = False,
    keep_times: bool = False,
    progress: ProgressCallback | None = None,
    say: Callable[[str], None] | None = None,
) -> Report:
    """Restore the video of `source` into `output` and keep everything else of the file.

    `model` is the name of installed weights, the path of a weights file, `auto`, a loaded network, or an engine that is
    already open (then `device`, `precision`, `tile`, `batch` and `ensemble` are not used, and the engine stays open).
    `ensemble` is in how many orientations, 1, 2 or 4, the network sees each picture; the result is the mean. `strength`
    is the share of the network's correction that every frame takes; None reads it off each frame's quantizer, where the
    codec tells it and a curve comes with the network (see `carfix.restore.strength`). `encoder` says how the restored
    video is encoded; `audio_codec` is `copy`, `none` or an encoder's name, `audio_bitrate` its bits a
    second ("128k"); without `subtitles` those are left out;
    `stream` says which of several videos is restored, by its number in the file (1) or among the videos ("v:1"),
    None: the one that is flagged as default, of those the largest; the others are copied;
    `hwaccel` names a device that decodes (see `carfix.video.hwaccel`), or `auto` or `none`. `format` names the
    container where the output's name does not, `movflags` are FFmpeg's for MP4 and MOV ("+faststart"). `start`,
    `duration` and `end` are seconds from the input's beginning. Work is kept in a folder beside the output,
    segment by segment of about `segment_seconds`, and an interrupted job goes on from there unless `resume` is
    False. `parents` creates the output's folder. `keep_times` gives the output the input's times of access and
    modification. `progress` is told how far it is, from any thread; `say` gets a line about the engine and one for
    everything that was mended or could not be kept, which the report lists too.

    Nothing is ever under the output's name before it is complete and verified. Raises `UsageError` for settings
    that no file could go with, `CarfixError` for everything that is wrong with these files.
    """
    job = job_of(**locals())  # all of the arguments, and nothing else yet
    try:
        return job.run()
    except OSError as error:  # the disk got full, a folder was taken away, ...
        if error.filename == str(job.source):
            raise CarfixError(f"cannot read {job.source}: {reason(error)}") from error
        raise CarfixError(f"cannot write {job.output}: {reason(error)}") from error


def job_of(
    *,
    source: Path | str,
    output: Path | str,
    encoder: EncoderSettings | None = None,
    stream: str | int | None = None,
    start: float | None = None,
    duration: float | None = None,
    end: float | None = None,
    progress: ProgressCallback | None = None,
    say: Callable[[str], None] | None = None,
    **others: Any,  # noqa: ANN401 - fields of the job and of its choice of an engine, as they are
) -> Job:
    """The job that these arguments of `restore_video` describe.

    Raises `UsageError` for a range that is empty and for what names no stream.
    """
    of_choice = others.keys() & {field.name for field in dataclasses.fields(EngineChoice)}
    choice = EngineChoice(**{name: others.pop(name) for name in of_choice})
    return Job(
        source=Path(source),
        output=Path(output),
        choice=choice,
        encoder=encoder or EncoderSettings(),
        stream=check_stream(stream),
        trim=Trim.of(start, duration, end),
        progress=progress or (lambda _: None),
        say=say or (lambda _: None),
        **others,
    )
