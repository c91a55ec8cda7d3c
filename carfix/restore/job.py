"""One file from input to verified output: plan, restore segment by segment, join, verify, rename."""

import dataclasses
import hashlib
import math
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import av
import numpy as np

from carfix import __version__
from carfix.errors import CarfixError, UsageError
from carfix.net.checkpoint import Model
from carfix.restore.engine import Engine
from carfix.restore.findings import is_damaged, tally_findings, timeline_findings
from carfix.restore.landing import land
from carfix.restore.models import EngineChoice
from carfix.restore.pipeline import Pipeline, Tally
from carfix.restore.place import RoomLeft, check_place, check_room, make_folder, same_file
from carfix.restore.report import Counter, Progress, Report, Warnings
from carfix.restore.state import State, kept_size, open_state
from carfix.restore.strength import strength_of
from carfix.restore.trim import Trim
from carfix.video.choice import check_stream
from carfix.video.decode import info_from
from carfix.video.encoder import EncoderSettings, Encoding, check_settings, resolve_encoding, settings_for
from carfix.video.faults import reason
from carfix.video.hwaccel import NONE, check_hwaccel
from carfix.video.muxer import check_movflags, output_format
from carfix.video.output import OutputPlan
from carfix.video.rehearsal import rehearse_output
from carfix.video.segments import DEFAULT_SEGMENT_SECONDS, Segment, plan_segments
from carfix.video.sink import JoinedSegments, SegmentFile
from carfix.video.source import SourceInfo, decoded_by, probe
from carfix.video.streams import COPY, check_audio_codec, plan_copy
from carfix.video.timeline import Timeline, scan

#: Called often, from any of the job's threads.
ProgressCallback = Callable[[Progress], None]


def restore_video(
    *,
    source: Path | str,
    output: Path | str,
    model: str | Path | Model | Engine = "auto",
    device: str = "auto",
    precision: str = "auto",
    tile: int | None = None,
    batch: int | None = None,
    strength: float | None = None,
    encoder: EncoderSettings | None = None,
    audio_codec: str = COPY,
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
    already open (then `device`, `precision`, `tile` and `batch` are not used, and the engine stays open). `strength` is
    the share of the network's correction that every frame takes; None reads it off each frame's quantizer, where the
    codec tells it and a curve comes with the network (see `carfix.restore.strength`). `encoder` says how the restored
    video is encoded; `audio_codec` is `copy`, `none` or an encoder's name; without `subtitles` those are left out;
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
    job = job_of(
        source=source,
        output=output,
        model=model,
        device=device,
        precision=precision,
        tile=tile,
        batch=batch,
        strength=strength,
        encoder=encoder,
        audio_codec=audio_codec,
        subtitles=subtitles,
        stream=check_stream(stream),
        hwaccel=hwaccel,
        format=format,
        movflags=movflags,
        start=start,
        duration=duration,
        end=end,
        overwrite=overwrite,
        segment_seconds=segment_seconds,
        resume=resume,
        parents=parents,
        keep_times=keep_times,
        progress=progress,
        say=say,
    )
    try:
        return job.run()
    except OSError as error:  # the disk got full, a folder was taken away, ...
        raise CarfixError(f"cannot write {job.output}: {reason(error)}") from error


def job_of(
    *,
    source: Path | str,
    output: Path | str,
    model: str | Path | Model | Engine = "auto",
    device: str = "auto",
    precision: str = "auto",
    tile: int | None = None,
    batch: int | None = None,
    strength: float | None = None,
    encoder: EncoderSettings | None = None,
    audio_codec: str = COPY,
    hwaccel: str = NONE,
    format: str | None = None,
    start: float | None = None,
    duration: float | None = None,
    end: float | None = None,
    progress: ProgressCallback | None = None,
    say: Callable[[str], None] | None = None,
    **rest: Any,  # noqa: ANN401 - goes into the job as it is
) -> "Job":
    """The job that these arguments of `restore_video` describe."""
    return Job(
        source=Path(source),
        output=Path(output),
        choice=EngineChoice(
            model=model, device=device, precision=precision, tile=tile, batch=batch, strength=strength
        ),
        encoder=encoder or EncoderSettings(),
        audio_codec=audio_codec,
        hwaccel=hwaccel,
        format=format,
        trim=Trim.of(start, duration, end),
        progress=progress or (lambda _: None),
        say=say or (lambda _: None),
        **rest,
    )


@dataclasses.dataclass(frozen=True, kw_only=True)
class Job:
    """One file's settings, and the steps that `restore_video` takes."""

    source: Path
    output: Path
    choice: EngineChoice
    encoder: EncoderSettings
    audio_codec: str
    hwaccel: str
    format: str | None
    trim: Trim
    progress: ProgressCallback
    say: Callable[[str], None]
    overwrite: bool = False
    segment_seconds: float = DEFAULT_SEGMENT_SECONDS
    resume: bool = True
    parents: bool = False
    keep_times: bool = False
    movflags: str | None = None
    subtitles: bool = True
    stream: str | None = None

    def run(self) -> Report:
        """Everything, in order."""
        began = time.monotonic()
        format = self.check_settings()
        before = _look_at(self.source)
        info, encoding, plan, timeline = self.examine(format)
        segments = self.cut(info, timeline)
        warnings = Warnings(self.say)
        warnings.add(*encoding.warnings, *plan.warnings, *timeline_findings(timeline))
        expected = sum(segment.frames for segment in segments)
        tight = check_room(info, timeline, self.output, frames=expected, kept=kept_size(self.output))
        if tight:
            warnings.add(tight)
        if self.parents:
            make_folder(self.output.parent)
        with open_state(self.output, self.source) as state:
            check_place(
                self.output, overwrite=self.overwrite, parents=False
            )  # another run may just have ended
            job = dataclasses.replace(self, choice=self.choice.continuing(state.header().get("model")))
            why = state.load(job.fingerprint(info, encoding, timeline, segments), resume=self.resume)
            if why:
                warnings.add(f"earlier work on {self.output} is not used: {why}")
            earlier = [file for file in state.finished.values() if file]
            resumed = sum(file.frames for file in earlier)
            counter = Counter(self.progress, expected, resumed)
            room = RoomLeft(self.output, frames=expected)

            def keep(segment: Segment, file: SegmentFile | None) -> None:
                state.add(segment.index, file)
                if full := room.after(state.finished.values()):
                    warnings.add(full)

            tally, engine = job._restore(info, timeline, encoding, segments, state, keep, counter)
            for finished in earlier:
                tally.damage.add(finished.damage)
            files = [file for segment in segments if (file := state.finished[segment.index]) is not None]
            if not files:
                raise CarfixError(f"{self.source}: not a single frame of its video could be decoded")
            frames = sum(file.frames for file in files)
            warnings.add(*tally_findings(tally, expected=expected, frames=frames))
            if _replaced(before, _look_at(self.source)):
                # Sound is copied from what is there now.
                raise CarfixError(
                    f"{self.source} was replaced while it was restored; the next run begins anew"
                )
            lines, refused = land(
                plan,
                JoinedSegments(state.folder, files, info.time_base, timeline.last_duration),
                state,
                self.output,
                overwrite=self.overwrite,
                times_of=self.source if self.keep_times else None,
                joined=counter.joined,
            )
            warnings.add(*lines)
        changed = _look_at(self.source)[1:] != before[1:]
        if changed:
            warnings.add(
                "the input changed while it was restored, and is not all there; with -y it is done again"
            )
        return Report(
            source=self.source,
            output=self.output,
            frames=frames,
            resumed=resumed,
            repeated=tally.repeated,
            seconds=time.monotonic() - began,
            engine=engine,
            stream=info.stream,
            copied=plan.streams.copied,
            warnings=tuple(warnings.lines),
            damaged=changed or is_damaged(timeline, tally, missing=expected - frames, refused=refused),
        )

    def check_settings(self) -> str:
        """What can be wrong whatever the files hold. Returns the name of the output's container format."""
        self.check_options()
        format = output_format(self.output, self.format)
        check_settings(settings_for(self.encoder, format))
        check_movflags(self.movflags, format)
        if same_file(self.source, self.output):
            raise UsageError(f"input and output are the same file: {self.source}")
        return format

    def check_options(self) -> None:
        """What can be wrong whatever the file, its container and the encoder. Raises `UsageError`."""
        self.choice.check()
        check_audio_codec(self.audio_codec)
        check_hwaccel(self.hwaccel)
        check_stream(self.stream)
        if not 0 < self.segment_seconds < math.inf:
            raise UsageError(f"--segment takes a positive length, not {self.segment_seconds:g} seconds")

    def examine(self, format: str) -> tuple[SourceInfo, Encoding, OutputPlan, Timeline]:
        """Everything that can go wrong with these files is found here, before anything is computed."""
        info = decoded_by(probe(self.source, self.stream), self.hwaccel, self.say)
        check_place(self.output, overwrite=self.overwrite, parents=self.parents)
        encoding = resolve_encoding(info, settings_for(self.encoder, format))
        start, end = self.trim.on_clock_of(info)
        plan = OutputPlan(
            info=info,
            format=format,
            movflags=self.movflags,
            streams=plan_copy(
                info, format, self.audio_codec, subtitles=self.subtitles, movflags=self.movflags
            ),
            start=start,
            end=end,
            interlaced=encoding.interlaced,
            video_tags={"encoder": f"carfix {__version__} {encoding.codec}"},
        )
        timeline = scan(info)
        window = self.trim.window(info)
        times = window.cut(timeline.presentation)
        seen = dataclasses.replace(info_from(info, timeline, window.start), user_data=timeline.user_data)
        if seen != info:
            info, encoding = seen, resolve_encoding(seen, settings_for(self.encoder, format))
            plan = dataclasses.replace(plan, info=info)
        plan = plan.beginning_with((int(times[0]) - plan.shift_ticks) * info.time_base)
        with tempfile.TemporaryDirectory(prefix="carfix-") as folder:
            target = Path(folder, f"output{self.output.suffix}")
            rehearsed = rehearse_output(plan, encoding, times, timeline.last_duration, target)
        for note in plan.streams.notes:
            self.say(note)
        return info, encoding, dataclasses.replace(plan, jumps=timeline.jumps, rehearsed=rehearsed), timeline

    def cut(self, info: SourceInfo, timeline: Timeline) -> list[Segment]:
        """The plan of the wanted part of the input."""
        return plan_segments(
            timeline, info.time_base, seconds=self.segment_seconds, window=self.trim.window(info)
        )

    def fingerprint(
        self, info: SourceInfo, encoding: Encoding, timeline: Timeline, segments: Sequence[Segment]
    ) -> dict[str, Any]:
        """What must be the same for finished segments to be of use, by the name that a person knows it under."""
        stat = info.path.stat()
        model = self.choice.fingerprint()
        digest = hashlib.sha256()
        for array in (timeline.pts, timeline.sizes):
            digest.update(np.ascontiguousarray(array).tobytes())
        return {
            "source": [str(info.path.resolve()), stat.st_size, stat.st_mtime_ns, digest.hexdigest()],
            "model": model,
            "stream": info.stream,
            "decoder": str(info.hwaccel or "cpu"),
            "strength": strength_of(model[0], self.choice.strength).identity(),
            "encoder settings": [encoding.codec, dict(encoding.options), encoding.pix_fmt],
            "segments": [[segment.start, segment.end] for segment in segments],
            "carfix version": __version__,
            "codec libraries": [list(version) for version in av.library_versions.values()],
        }

    def _restore(
        self,
        info: SourceInfo,
        timeline: Timeline,
        encoding: Encoding,
        segments: Sequence[Segment],
        state: State,
        keep: Callable[[Segment, SegmentFile | None], None],
        counter: Counter,
    ) -> tuple[Tally, str]:
        total = Tally()
        missing = [segment for segment in segments if segment.index not in state.finished]
        if not missing:
            return total, ""
        with self.choice.open() as engine:
            self.say(self.choice.describe(engine))
            for neighbours in _runs(missing):
                pipeline = Pipeline(
                    info=info,
                    timeline=timeline,
                    encoding=encoding,
                    engine=engine,
                    strength=self.choice.strength_of(engine),
                    folder=state.folder,
                    on_segment=keep,
                    on_frame=counter.restored,
                )
                pipeline.run(neighbours)
                total.add(pipeline.tally)
            return total, engine.description


class _Look(NamedTuple):
    """What a file was at a moment; all is 0 if it was not there."""

    inode: int = 0
    size: int = 0  # bytes
    time: int = 0  # of the last change, ns


def _look_at(path: Path) -> _Look:
    try:
        found = path.stat()
    except OSError:
        return _Look()
    return _Look(found.st_ino, found.st_size, found.st_mtime_ns)


def _replaced(before: _Look, now: _Look) -> bool:
    """Whether another file is there. Some network disks give the same one another number now and then."""
    return now != _Look() and now.inode != before.inode and now[1:] != before[1:]


def _runs(segments: Sequence[Segment]) -> Iterator[list[Segment]]:
    """Groups of segments that follow each other without a gap."""
    run: list[Segment] = []
    for segment in segments:
        if run and segment.index != run[-1].index + 1:
            yield run
            run = []
        run.append(segment)
    if run:
        yield run
