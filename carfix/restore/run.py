"""The whole of `carfix restore`: one file or many, for real or only estimated."""

import contextlib
import dataclasses
import functools
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import IO, Any

from carfix.errors import CarfixError, UsageError
from carfix.restore.batch import Event, check_jobs, restore_batch
from carfix.restore.estimate import estimate_video
from carfix.restore.existing import too_young, what_is_there
from carfix.restore.one_file import job_of, restore_video
from carfix.restore.pipe import restore_pipe
from carfix.restore.pipe_reader import PIPE
from carfix.restore.place import check_place, part_of
from carfix.restore.report import Outcome
from carfix.restore.state import alone_at
from carfix.restore.tasks import Task
from carfix.restore.telling import Teller
from carfix.restore.worker import Said
from carfix.video.encoder_settings import check_settings
from carfix.video.faults import reason
from carfix.video.muxer import check_movflags, output_format
from carfix.video.on_disk import force_to_disk, sync_folder
from carfix.video.source import probe


def restore_files(
    *,
    tasks: Sequence[Task],
    teller: Teller,
    many: bool,
    dry_run: bool = False,
    jobs: int = 1,
    fail_fast: bool = False,
    strict: bool = False,
    min_age: float = 0.0,
    **options: Any,  # noqa: ANN401 - those of `restore_video`
) -> None:
    """Restore `tasks` and tell everything through `teller`.

    A single file (not `many`) is restored in this process, whatever its age. Raises `CarfixError` for the
    file that failed, or, for many files, after all of them, saying how many failed.
    """
    check_jobs(jobs)
    if many:
        _check_once(tasks[0], options)
    if dry_run:
        _estimate(tasks, teller, many, min_age, options)
    elif many:
        with teller.display():
            outcomes = restore_batch(
                tasks=tasks,
                jobs=jobs,
                fail_fast=fail_fast,
                strict=strict,
                min_age=min_age,
                tell=teller,
                **options,
            )
        teller.summary(outcomes)
        _raise_for(sum(outcome.status == "failed" for outcome in outcomes), len(outcomes))
    else:
        _restore_one(tasks[0], teller, strict, options)


def _check_once(task: Task, options: dict[str, Any]) -> None:
    """What would fail for every file, each in a process of its own, fails once. Raises `CarfixError`."""
    job = job_of(source=task.source, output=task.output, **options)
    job.check_options()
    check_settings(job.encoder)
    # Without -f each file may have another container; which flags there are is asked of one that takes any.
    check_movflags(job.movflags, "mp4" if job.format is None else output_format(job.output, job.format))
    job.choice.check_parts()


def _restore_one(task: Task, teller: Teller, strict: bool, options: dict[str, Any]) -> None:
    teller(Event(task, "start"))
    try:
        with teller.display():
            report = restore_video(
                source=task.source,
                output=task.output,
                progress=lambda progress: teller(Event(task, progress)),
                say=functools.partial(_say, teller, task),
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


def _estimate(
    tasks: Sequence[Task], teller: Teller, many: bool, min_age: float, options: dict[str, Any]
) -> None:
    failed = estimated = 0
    seconds, size = 0.0, 0
    for task in tasks:
        if many and (there := too_young(task, min_age) or what_is_there(task, options)):
            failed += there.status == "failed"
            teller(Event(task, there))
            continue
        try:
            estimate = estimate_video(
                task, parents=many, say=functools.partial(_say, teller, task), **options
            )
        except CarfixError as error:
            if not many:
                raise
            failed += 1
            teller(Event(task, Outcome(task, "failed", reason=str(error))))
            continue
        estimated += 1
        seconds, size = seconds + estimate.seconds, size + estimate.size
        teller.estimate(estimate)
    if many:
        teller.total(estimated, seconds, size)
    _raise_for(failed, len(tasks))


def _say(teller: Teller, task: Task, text: str) -> None:
    teller(Event(task, Said(text)))


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
    temporary = part_of(output)
    with contextlib.ExitStack() as stack:
        if output != PIPE:
            check_place(output, overwrite=overwrite, parents=False)
            options["format"] = output_format(output, options["format"])
            stack.enter_context(alone_at(temporary, output))
        stack.enter_context(teller.display())
        try:
            report = restore_pipe(
                source=_bytes_of(sys.stdin, "input") if source == PIPE else source,
                output=_bytes_of(sys.stdout, "output") if output == PIPE else temporary,
                progress=lambda progress: teller(Event(task, progress)),
                say=functools.partial(_say, teller, task),
                **options,
            )
        except BaseException:
            if output != PIPE and (kept := _kept(temporary, output)) is not None:
                _say(teller, task, f"cut short: what was restored until then is {kept}")
            raise
        if output != PIPE:
            _land(temporary, output, overwrite=overwrite)
            report = dataclasses.replace(report, output=output)
    teller(Event(task, Outcome(task, "done", report)))
    if strict and report.damaged:
        raise CarfixError(f"{source} is damaged; what could be decoded was restored")


def _land(temporary: Path, output: Path, *, overwrite: bool) -> None:
    """A complete file gets its name, which no power cut leaves with less.

    What came through a pipe does not come again: if another file has the name by now, or one that is there cannot be
    replaced, it gets one that is free.
    """
    name, why = output, "was created meanwhile"
    try:
        force_to_disk(temporary)
        if overwrite:
            try:
                temporary.replace(output)
            except OSError as error:  # a player has it open (Windows), or it is another user's
                overwrite, why = False, f"cannot be replaced ({reason(error)})"
        if not overwrite:
            while name.exists():
                name = name.with_stem(f"{name.stem}-new")
            temporary.replace(name)
    except OSError as error:
        raise CarfixError(f"cannot write {name}: {reason(error)}") from error
    sync_folder(output.parent)
    if name != output:
        raise CarfixError(f"{output} {why}, and is left as it is; the restored video is {name}")


def _kept(temporary: Path, output: Path) -> Path | None:
    """Where that stays which a pipe brought before the run ended: it does not come again. None if it cannot be read."""
    try:
        probe(temporary)
        name = output.with_stem(f"{output.stem}-cut")
        while name.exists():
            name = name.with_stem(f"{name.stem}-cut")
        temporary.replace(name)
    except (CarfixError, OSError):
        return None
    return name


def _bytes_of(stream: Any, name: str) -> IO[bytes]:  # noqa: ANN401 - text on top of bytes, which typeshed has no type for
    if getattr(stream, "buffer", None) is None:  # started with `<&-` or `>&-`
        raise UsageError(f"- stands for standard {name}, which is closed")
    return stream.buffer  # type: ignore[no-any-return]
