"""What a job would do, without doing it: plan and findings, and time and size from a short sample."""

import dataclasses
import time
from collections.abc import Sequence
from typing import Any

from carfix.restore.fields import prepare_pictures
from carfix.restore.findings import timeline_findings
from carfix.restore.job import Job
from carfix.restore.one_file import job_of
from carfix.restore.pipeline import Pipeline
from carfix.restore.state import difference, earlier_work
from carfix.restore.tasks import Task
from carfix.scratch import scratch
from carfix.video.encoder import Encoding
from carfix.video.segments import Segment
from carfix.video.sink import SegmentFile
from carfix.video.source import SourceInfo
from carfix.video.timeline import Timeline

#: Frames that are restored to measure speed and size: enough for the pipeline to fill, few enough to wait for.
SAMPLE_FRAMES = 12


@dataclasses.dataclass(frozen=True, kw_only=True)
class Estimate:
    """What restoring one file would take."""

    task: Task
    frames: int
    segments: int
    done: int  # of the frames, by an earlier run
    seconds: float  # for the others, on this machine, model and encoder as they are now
    size: int  # bytes of the output
    engine: str
    warnings: tuple[str, ...]


def estimate_video(task: Task, **options: Any) -> Estimate:  # noqa: ANN401 - those of `restore_video`
    """Examine one file as `restore_video` does before it computes, and restore a few frames of its middle.

    Nothing is written beside the output. Raises what `restore_video` would raise before computing.
    """
    job = job_of(source=task.source, output=task.output, **options)
    info, encoding, plan, timeline = job.examine(job.check_settings())
    segments = job.cut(info, timeline)
    times = job.trim.window(info).cut(timeline.presentation)
    middle = times[len(times) // 2 :][:SAMPLE_FRAMES]
    sample = Segment(index=0, start=int(middle[0]), end=int(middle[-1]) + 1, frames=len(middle))
    files: list[SegmentFile | None] = []
    with scratch() as folder, job.choice.open() as engine:
        pipeline = Pipeline(
            info=info,
            timeline=timeline,
            encoding=encoding,
            engine=engine,
            strength=job.choice.strength_of(engine),
            folder=folder,
            on_segment=lambda _, file: files.append(file),
            on_frame=lambda: None,
        )
        prepare_pictures(engine, info.height, info.width, interlaced=info.interlaced)
        began = time.monotonic()
        pipeline.run([sample])
        elapsed = time.monotonic() - began
        name = f"{engine.model.description.name}: {engine.description}"
    done = _done(job, info, encoding, timeline, segments)
    written = max(1, pipeline.tally.frames)
    size = sum(file.size for file in files if file is not None)
    others = info.path.stat().st_size - int(timeline.sizes.sum())
    return Estimate(
        task=task,
        frames=len(times),
        segments=len(segments),
        done=done,
        seconds=elapsed / written * max(0, len(times) - done),
        size=max(0, others) + round(size / written * len(times)),
        engine=name,
        warnings=(*encoding.warnings, *plan.warnings, *timeline_findings(timeline)),
    )


def _done(
    job: Job, info: SourceInfo, encoding: Encoding, timeline: Timeline, segments: Sequence[Segment]
) -> int:
    """Frames that `job` would find finished. Raises `CarfixError`."""
    header, frames = earlier_work(job.output)
    if not frames or not job.resume:
        return 0
    job = dataclasses.replace(job, choice=job.choice.continuing(header.get("model")))
    return 0 if difference(header, job.fingerprint(info, encoding, timeline, segments)) else frames
