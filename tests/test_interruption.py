"""Told to end: wound up at once, and ended in any case."""

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from engines import Adding

from carfix.errors import EXIT_INTERRUPTED
from carfix.interruption import undisturbed, unfinished, was_interrupted
from carfix.restore.engine.crew import Crew
from carfix.restore.frames import FramePipeline
from carfix.restore.strength import Strength

#: Is left behind by its first interruption, as by a lock that nobody lets go of.
HANGING = """
import signal, sys, threading, time
from pathlib import Path
from carfix import interruption
interruption.PATIENCE = float(sys.argv[2])
signal.signal(signal.SIGINT, signal.default_int_handler)
with interruption.ending_on(signal.SIGINT, signal.SIGTERM, last=lambda: print("last words", flush=True)):
    with interruption.unfinished(Path(sys.argv[1])) as _:
        Path(sys.argv[1]).write_text("half")
        while True:
            try:
                if sys.argv[-1] == "ready":
                    sys.argv.pop()
                    print("ready", flush=True)
                time.sleep(interruption.A_WHILE)
            except KeyboardInterrupt:
                print("interrupted", flush=True)
"""


def hanging(path: Path, patience: float) -> "subprocess.Popen[str]":
    process = subprocess.Popen(
        [sys.executable, "-c", HANGING, str(path), str(patience), "", "ready"],
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None and process.stdout.readline() == "ready\n"
    return process


def test_a_process_that_hangs_is_ended_and_leaves_nothing(tmp_path: Path) -> None:
    process = hanging(tmp_path / "half", 0.3)
    process.send_signal(signal.SIGTERM)
    out, _ = process.communicate(timeout=30)
    assert process.returncode == EXIT_INTERRUPTED
    assert out == "interrupted\nlast words\n"
    assert not (tmp_path / "half").exists()


def test_the_same_signal_twice_is_one_and_an_impatient_one_ends_at_once(tmp_path: Path) -> None:
    process = hanging(tmp_path / "half", 600)
    process.send_signal(signal.SIGINT)
    assert process.stdout is not None and process.stdout.readline() == "interrupted\n"
    process.send_signal(signal.SIGTERM)
    time.sleep(1.5)
    assert process.poll() is None
    process.send_signal(signal.SIGINT)
    out, _ = process.communicate(timeout=30)
    assert process.returncode == EXIT_INTERRUPTED and out == "last words\n"


def test_an_unfinished_file_is_gone_behind_the_block(tmp_path: Path) -> None:
    with pytest.raises(ValueError), unfinished(tmp_path / "half"):
        (tmp_path / "half").write_text("half")
        raise ValueError
    assert not (tmp_path / "half").exists()


def test_a_signal_that_another_thread_takes_comes_behind_the_block() -> None:
    """Python calls handlers in the main thread, whichever thread the system has given the signal to."""
    if not hasattr(signal, "pthread_sigmask"):
        pytest.skip("Windows gives signals to the process")
    done, inside = threading.Event(), False
    other = threading.Thread(target=done.wait)
    other.start()
    # In the background of a shell it is ignored.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt), undisturbed():
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(0.1)
            inside = True
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    finally:
        signal.signal(signal.SIGINT, before)
        done.set()
        other.join()
    assert inside
    assert not signal.pthread_sigmask(signal.SIG_BLOCK, ())


def test_interrupted_amid_the_start_of_its_threads_a_pipeline_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    start = threading.Thread.start

    def interrupted(thread: threading.Thread) -> None:
        if thread.name == "carfix-encode":
            raise KeyboardInterrupt
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", interrupted)
    before = threading.active_count()
    with pytest.raises(KeyboardInterrupt):
        FramePipeline(Adding(0), "yuv420p", 1, Strength()).run([], lambda items: None)
    assert threading.active_count() == before


def test_interrupted_amid_the_start_of_its_threads_a_crew_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    wait = threading.Barrier.wait

    def interrupted(barrier: threading.Barrier, timeout: float | None = None) -> int:
        if threading.current_thread() is threading.main_thread():
            raise KeyboardInterrupt
        return wait(barrier, timeout)

    monkeypatch.setattr(threading.Barrier, "wait", interrupted)
    before = set(threading.enumerate())  # engines of other tests may wait for the garbage collector
    crew = Crew(2)
    with pytest.raises(KeyboardInterrupt):
        crew.each(lambda number: None, 4)
    deadline = time.monotonic() + 20
    while any(t.name.startswith("carfix-window") for t in set(threading.enumerate()) - before):
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_a_signal_amid_a_lock_is_an_interruption_and_other_errors_are_not() -> None:
    lock = threading.Lock()
    try:
        with lock:
            lock.release()
            raise KeyboardInterrupt
    except RuntimeError as error:
        assert "release" in str(error)
        assert was_interrupted(error)
    assert was_interrupted(KeyboardInterrupt())
    assert not was_interrupted(RuntimeError("another"))


def test_python_m_carfix_ends_with_the_exit_code_wherever_it_is_interrupted(tmp_path: Path) -> None:
    """Amid the imports, too: dataclasses are made from text."""
    (tmp_path / "interrupted.py").write_text(
        "import runpy, sys\n"
        "import carfix.cli\n"
        "def main():\n"
        "    try:\n"
        "        exec('raise KeyboardInterrupt')\n"
        "    except KeyboardInterrupt:\n"
        "        sys.exit(130)\n"
        "carfix.cli.main = main\n"
        "runpy.run_module('carfix', run_name='__main__')\n"
    )
    command = [sys.executable, "-m", "interrupted"]
    path = os.pathsep.join([str(tmp_path), *sys.path])
    assert subprocess.run(command, env={**os.environ, "PYTHONPATH": path}, check=False).returncode == 130
