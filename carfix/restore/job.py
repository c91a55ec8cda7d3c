"""One file from input to verified output: plan, restore segment by segment, join, verify, rename."""

import dataclasses
import hashlib
import math
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import av
import numpy as np

from carfix import __version__
from carfix.errors import CarfixError, UsageError
from carfix.restore.findings import break_findings, is_damaged, tally_findings, timeline_findings
from carfix.restore.landing import land
from carfix.restore.looked_at import Look, changed, look_at, replaced
from carfix.restore.models import EngineChoice
from carfix.restore.pipeline import Pipeline, Tally
from carfix.restore.place import RoomLeft, check_place, check_room, make_folder, same_file
from carfix.restore.report import Counter, Progress, Report, Warnings
from carfix.restore.state import State, kept_size, open_state
from carfix.restore.strength import strength_of
from carfix.restore.trim import Trim
from carfix.scratch import scratch
from carfix.video.breaks import first_break
from carfix.video.choice import check_stream
from carfix.video.decode import ReadOtherwiseError, check_size, info_from
from carfix.video.encoder import Encoding, counting, resolve_encoding
from carfix.video.encoder_settings import EncoderSettings, check_settings, settings_for
from carfix.video.hwaccel import NONE, check_hwaccel
from carfix.video.muxer import BARE, check_movflags, output_format, stays_bluray
from carfix.video.opening import reachable
from carfix.video.output import OutputPlan
from carfix.video.rehearsal import rehearse_output
from carfix.video.segments import DEFAULT_SEGMENT_SECONDS, Segment, plan_segments
from carfix.video.sink import JoinedSegments, SegmentFile
from carfix.video.source import SourceInfo, decoded_by, probe
from carfix.video.streams import COPY, check_audio, plan_copy
from carfix.video.timeline import Timeline, is_steady

#: Called often, from any of the job's threads.
ProgressCallback = Callable[[Progress], None]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Job:
    """One file's settings, and the steps that `restore_video` takes."""

    source: Path
    output: Path
    choice: EngineChoice
    encoder: EncoderSettings
    trim: Trim
    progress: ProgressCallback
    say: Callable[[str], None]
    audio_codec: str = COPY
    audio_bitrate: str | None = None
    hwaccel: str = NONE
    format: str | None = None
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
        before = look_at(self.source)
        info, encoding, plan, timeline = self.examine(format)
        segments = self.cut(info, timeline)
        warnings = Warnings(self.say)
        broken = first_break(self.source)
        warnings.add(
            *encoding.warnings, *plan.warnings, *timeline_findings(timeline), *break_findings(broken)
        )
        expected = sum(segment.frames for segment in segments)
        tight = check_room(info, timeline, self.output, frames=expected, kept=kept_size(self.output))
        if tight:
            warnings.add(tight)
        if self.parents:
            make_folder(self.output.parent)
        with open_state(self.output, self.source) as state:
            # Another run may just have ended.
            check_place(self.output, overwrite=self.overwrite, parents=False)
            job = dataclasses.replace(self, choice=self.choice.continuing(state.header().get("model")))
            why = state.load(job.fingerprint(info, encoding, timeline, segments), resume=self.resume)
            if why:
                warnings.add(f"earlier work on {self.output} is not used: {why}")
            earlier = [file for file in state.finished.values() if file]
            resumed = sum(file.frames for file in earlier)
            counter = Counter(self.progress, expected, resumed)
            room = RoomLeft(self.output, frames=expected, earlier=earlier)

            def keep(segment: Segment, file: SegmentFile | None) -> None:
                state.add(segment.index, file)
                if full := room.after(file):
                    warnings.add(full)

            try:
                tally, engine = job._restore(info, timeline, encoding, segments, state, keep, counter)
            except ReadOtherwiseError:
                self._check_unreplaced(before, whole=False)
                raise
            for finished in earlier:
                tally.damage.add(finished.damage)
                tally.unflagged += finished.unflagged
            files = [file for segment in segments if (file := state.finished[segment.index]) is not None]
            if not files:
                raise CarfixError(f"{self.source}: not a single frame of its video could be decoded")
            frames = sum(file.frames for file in files)
            warnings.add(*tally_findings(tally, expected=expected, frames=frames))
            # Sound is copied from what is there now, and pictures may be of both.
            self._check_unreplaced(before, whole=frames >= expected)
            lines, refused = land(
                # What is damaged at its beginning begins later than its packets promise.
                plan.beginning_at(files[0].first),
                JoinedSegments(state.folder, files, info.time_base, timeline.last_duration),
                state,
                self.output,
                overwrite=self.overwrite,
                times_of=self.source if self.keep_times else None,
                joined=counter.joined,
            )
            warnings.add(*lines)
        grown = changed(before, look_at(self.source))
        if grown:
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
            damaged=grown
            or is_damaged(timeline, tally, broken=broken, missing=expected - frames, refused=refused),
        )

    def _check_unreplaced(self, before: Look, *, whole: bool) -> None:
        if replaced(before, look_at(self.source), whole=whole):
            raise CarfixError(
                f"{self.source} was replaced or cut while it was restored; the next run begins anew"
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
        check_audio(self.audio_codec, self.audio_bitrate)
        check_hwaccel(self.hwaccel)
        check_stream(self.stream)
        if not 0 < self.segment_seconds < math.inf:
            raise UsageError(f"--segment takes a positive length, not {self.segment_seconds:g} seconds")

    def examine(self, format: str) -> tuple[SourceInfo, Encoding, OutputPlan, Timeline]:
        """Everything that can go wrong with these files is found here, before anything is computed."""
        info = decoded_by(probe(self.source, self.stream), self.hwaccel, self.say)
        check_place(self.output, overwrite=self.overwrite, parents=self.parents)
        encoding = resolve_encoding(info, settings_for(self.encoder, format), format)
        start, end = self.trim.on_clock_of(info)
        bluray = stays_bluray(self.source, self.output, self.audio_codec)
        plan = OutputPlan(
            info=info,
            format=format,
            movflags=self.movflags,
            bluray=bluray,
            streams=plan_copy(
                info,
                format,
                self.audio_codec,
                self.audio_bitrate,
                subtitles=self.subtitles,
                movflags=self.movflags,
                bluray=bluray,
            ),
            start=start,
            end=end,
            interlaced=encoding.interlaced,
            video_tags={"encoder": f"carfix {__version__} {encoding.codec}"},
        )
        timeline = reachable(info)
        window = self.trim.window(info)
        times = window.cut(timeline.presentation)
        check_size(info, timeline, times)
        seen = dataclasses.replace(
            info_from(info, timeline, window.start), user_data=timeline.user_data, rate=timeline.rate
        )
        if seen != info:
            info, encoding = seen, resolve_encoding(seen, settings_for(self.encoder, format), format)
        outcome = dataclasses.replace(info, colour=encoding.colour)
        plan = dataclasses.replace(
            plan, info=outcome, jumps=timeline.jumps, cut_short=timeline.truncated is not None
        )
        # A bare stream has no times that could differ from the rate.
        steady = format in BARE or is_steady(times, info.rate, info.time_base)
        encoding = counting(encoding, steady=steady)
        plan = plan.beginning_with((int(times[0]) - plan.shift_ticks) * info.time_base)
        with scratch() as folder:
            target = folder / f"output{self.output.suffix}"
            rehearsed = rehearse_output(plan, encoding, times, timeline.last_duration, target)
        for note in plan.streams.notes:
            self.say(note)
        return info, encoding, dataclasses.replace(plan, rehearsed=rehearsed), timeline

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
            # PyAV's, too: x264, x265 and the rest come with its wheel, and do not tell their builds.
            "codec libraries": [av.__version__, *(list(version) for version in av.library_versions.values())],
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
