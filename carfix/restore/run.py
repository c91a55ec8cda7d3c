"""The whole of `carfix restore`: one file or many, for real or only estimated."""

import dataclasses
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from carfix.errors import CarfixError
from carfix.restore.batch import Event, Outcome, restore_batch
from carfix.restore.estimate import estimate_video
from carfix.restore.job import restore_video
from carfix.restore.pipe import PIPE, restore_pipe
from carfix.restore.place import check_place
from carfix.restore.tasks import Task
from carfix.restore.telling import Teller
from carfix.restore.worker import Said
from carfix.video.muxer import output_format


def restore_files(
    *,
    tasks: Sequence[Task],
    teller: Teller,
    many: bool,
    dry_run: bool = False,
    jobs: int = 1,
    fail_fast: bool = False,
    strict: bool = False,
    **options: Any,  # noqa: ANN401 - those of `restore_video`
) -> None:
    """Restore `tasks` and tell everything through `teller`.

    A single file (not `many`) is restored in this process. Raises `CarfixError` for the file that failed, or,
    for many files, after all of them, saying how many failed.
    """
    if dry_run:
        _estimate(tasks, teller, many, options)
    elif many:
        with teller.display():
            outcomes = restore_batch(
                tasks=tasks, jobs=jobs, fail_fast=fail_fast, strict=strict, tell=teller, **options
            )
        teller.summary(outcomes)
        _raise_for(sum(outcome.status == "failed" for outcome in outcomes), len(outcomes))
    else:
        _restore_one(tasks[0], teller, strict, options)


def _restore_one(task: Task, teller: Teller, strict: bool, options: dict[str, Any]) -> None:
    teller(Event(task, "start"))
    try:
        with teller.display():
            report = restore_video(
                source=task.source,
                output=task.output,
                progress=lambda progress: teller(Event(task, progress)),
                say=lambda text: teller(Event(task, Said(text))),
                **options,
            )
        teller(Event(task, Outcome(task, "done", report)))
        if strict and report.damaged:
            raise CarfixError(f"{task.source} is damaged; {task.output} holds what could be decoded")
    except CarfixError as error:
        teller.log(
            {"event": "failed", "input": str(task.source), "output": str(task.output), "reason": str(error)}
        )
        raise


def _estimate(tasks: Sequence[Task], teller: Teller, many: bool, options: dict[str, Any]) -> None:
    failed = 0
    seconds, size = 0.0, 0
    for task in tasks:
        try:
            estimate = estimate_video(task, parents=many, **options)
        except CarfixError as error:
            if not many:
                raise
            failed += 1
            teller(Event(task, Outcome(task, "failed", reason=str(error))))
            continue
        seconds, size = seconds + estimate.seconds, size + estimate.size
        teller.estimate(estimate)
    if many:
        teller.total(len(tasks) - failed, seconds, size)
    _raise_for(failed, len(tasks))


def _raise_for(failed: int, total: int) -> None:
    if failed:
        raise CarfixError(f"{failed} of {total} files failed")


def restore_through_pipe(
    source: Path,
    output: Path,
    *,
    teller: Teller,
    overwrite: bool,
    strict: bool,
    **options: Any,  # noqa: ANN401
) -> None:
    """Restore from standard input or to standard output, where `-` stands for either. Raises `CarfixError`.

    A file that is written appears under its name when it is complete.
    """
    task = Task(source, output)
    temporary = output.with_name(f".{output.name}.part")
    if output != PIPE:
        check_place(output, overwrite=overwrite, parents=False)
        options["format"] = output_format(output, options["format"])
    try:
        with teller.display():
            report = restore_pipe(
                source=sys.stdin.buffer if source == PIPE else source,
                output=sys.stdout.buffer if output == PIPE else temporary,
                progress=lambda progress: teller(Event(task, progress)),
                say=lambda text: teller(Event(task, Said(text))),
                **options,
            )
        if output != PIPE:
            temporary.replace(output)
            report = dataclasses.replace(report, output=output)
    finally:
        if output != PIPE:
            temporary.unlink(missing_ok=True)
    teller(Event(task, Outcome(task, "done", report)))
    if strict and report.damaged:
        raise CarfixError(f"{source} is damaged; what could be decoded was restored")
