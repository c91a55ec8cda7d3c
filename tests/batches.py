"""Batches as tests want them: short clips in a folder, an engine that takes its time."""

from pathlib import Path

import faults
import media

from carfix.restore.batch import restore_batch
from carfix.restore.report import Outcome
from carfix.restore.tasks import Task

OPTIONS = {"encoder": faults.ENCODER, "segment_seconds": faults.SEGMENT}


def clips(folder: Path, count: int) -> list[Task]:
    (folder / "in").mkdir()
    return [
        Task(
            media.write_clip(
                folder / "in" / f"{i}.mp4", frames=10, pictures=lambda n, i=i: media.picture(n + 50 * i)
            ),  # type: ignore[misc]
            folder / "out" / f"{i}.mp4",
        )
        for i in range(count)
    ]


def batch(tasks: list[Task], **options: object) -> list[Outcome]:
    return restore_batch(tasks=tasks, **{"model": faults.Slow(), **OPTIONS, **options})  # type: ignore[arg-type]


def statuses(outcomes: list[Outcome]) -> list[str]:
    return [outcome.status for outcome in outcomes]
