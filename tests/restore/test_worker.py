"""Processes for the files of a batch: what becomes of one that ends, hangs or does not begin."""

import errno
import multiprocessing
import os
import signal
import threading
from pathlib import Path
from typing import Any

import faults
import media
import pytest
from batches import OPTIONS, batch, clips, statuses

import carfix.restore.batch as batch_module
import carfix.restore.worker as worker_module
from carfix.errors import EXIT_INTERRUPTED
from carfix.restore.report import Report
from carfix.restore.tasks import Task
from carfix.restore.worker import Worker


def test_a_crash_costs_one_file(tmp_path: Path) -> None:
    tasks = clips(tmp_path, 3)
    media.write_clip(tasks[1].source, frames=10, width=96)
    outcomes = batch(tasks, model=faults.Crashing(96))
    assert statuses(outcomes) == ["done", "failed", "done"]
    assert "SIGSEGV" in outcomes[1].reason
    assert not tasks[1].output.exists()


def test_none_looks_for_garbage_as_it_ends(tmp_path: Path) -> None:
    """Of tens of thousands of objects, three times: a fifth of what a short recording costs."""
    told = tmp_path / "told"
    assert statuses(batch(clips(tmp_path, 1), model=faults.Leaving(told))) == ["done"]
    assert int(told.read_text()) > 10_000


@pytest.mark.skipif(os.name != "posix", reason="Windows ends processes without asking")
@pytest.mark.parametrize("busy", [False, True])
def test_a_process_that_is_told_to_end_costs_one_file(busy: bool, tmp_path: Path) -> None:
    tasks = clips(tmp_path, 3)
    media.write_clip(tasks[1].source, frames=10, width=96)
    outcomes = batch(tasks, model=faults.Told(96, busy=busy))
    assert statuses(outcomes) == ["done", "failed", "done"]
    assert "was told to end" in outcomes[1].reason


def test_one_that_hangs_is_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker_module, "PATIENCE", 0.2)
    tasks = clips(tmp_path, 1)
    worker = Worker(tasks[0], {"model": faults.Slow(), **OPTIONS}, None)
    pid = worker.process.pid
    assert pid is not None
    os.kill(pid, signal.SIGSTOP)
    worker.stop()
    worker.close()
    assert (
        worker.process.exitcode is not None and worker.process.exitcode < 0
    )  # a stopped process takes SIGKILL alone


def test_processes_share_a_cache_where_the_user_s_cannot_be_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else each would time the engines anew, which takes longer than a short clip."""
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    tasks = clips(tmp_path, 2)
    outcomes = batch(tasks, model=faults.Timed())
    assert len({outcome.report.engine for outcome in outcomes if outcome.report}) == 1


def test_work_does_not_wait_for_a_parent_that_does_not_listen(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It looks at what earlier runs have left, minutes for a day of video, while a pipe of progress gets full."""
    fcntl = pytest.importorskip("fcntl")
    if not hasattr(fcntl, "F_SETPIPE_SZ"):
        pytest.skip("pipes have one size here")
    monkeypatch.setattr(worker_module, "_PROGRESS_INTERVAL", 0.0)
    task = Task(media.write_clip(tmp_path / "in.mp4", frames=60), tmp_path / "out.mp4")
    ours, theirs = multiprocessing.Pipe(duplex=False)
    fcntl.fcntl(theirs.fileno(), fcntl.F_SETPIPE_SZ, 4096)
    options = {"model": faults.Slow(), "encoder": faults.ENCODER}
    work = threading.Thread(target=worker_module._restore, args=(task, options, None, theirs), daemon=True)
    work.start()
    work.join(20)
    assert task.output.exists()
    while not isinstance(ours.recv(), Report):
        pass
    work.join()


@pytest.mark.parametrize(("times", "first"), [(1, "done"), (2, "failed")])
def test_a_process_that_cannot_be_started_costs_one_file_at_most(
    times: int, first: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    refusals = [OSError(errno.EAGAIN, os.strerror(errno.EAGAIN))] * times
    monkeypatch.setattr(batch_module, "_BREATH", 0.01)

    def start(*args: Any) -> Worker:  # noqa: ANN401 - as `Worker`
        if refusals:
            raise refusals.pop()
        return Worker(*args)

    monkeypatch.setattr(batch_module, "Worker", start)
    outcomes = batch(clips(tmp_path, 2))
    assert statuses(outcomes) == [first, "done"]
    assert ("cannot start a process for it: " in outcomes[0].reason) == (first == "failed")


@pytest.mark.skipif(os.name != "posix", reason="Windows keeps a folder that is a process's")
def test_a_current_folder_that_was_removed_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    (tmp_path / "here").rmdir()
    [outcome] = batch(clips(tmp_path, 1))
    assert outcome.status == "failed" and "the current folder was removed" in outcome.reason


def test_a_worker_tells_an_interruption_from_an_error() -> None:
    amid_a_lock = RuntimeError("cannot release un-acquired lock")
    amid_a_lock.__context__ = KeyboardInterrupt()
    assert worker_module._failure(amid_a_lock).exit_code == EXIT_INTERRUPTED
    with pytest.raises(RuntimeError) as other:
        raise RuntimeError("another")
    assert "internal error: RuntimeError: another" in worker_module._failure(other.value).reason
