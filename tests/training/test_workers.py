"""Work in processes ends when it should: with an interruption, with its parent, and with a clear error."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from scenes import write_scene

from carfix.errors import CarfixError
from carfix.training.dataset import build_dataset
from carfix.training.encoding import Encoding
from carfix.training.recipe import Recipe
from carfix.training.workers import workers
from carfix.video.manifest import read_manifest

ONE = Recipe(encodings=[Encoding(crf=45)])

SLEEPERS = """
import time
from carfix.training.workers import workers
if __name__ == "__main__":
    with workers(2) as run:
        list(run(abs, {"ready": (1,)}))
        print("ready", flush=True)
        list(run(time.sleep, {n: (600,) for n in range(6)}))
"""


@pytest.mark.parametrize("jobs", [1, 2])
def test_an_interrupted_build_stops_and_keeps_what_is_finished(jobs: int, tmp_path: Path) -> None:
    sources = [write_scene(tmp_path / f"{name}.mkv", seed=ord(name)) for name in "abcdefgh"]

    def interrupt(done: int, total: int, name: str) -> None:
        if done == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        build_dataset(sources=sources, output=tmp_path / "data", recipe=ONE, jobs=jobs, progress=interrupt)
    finished = set(read_manifest(tmp_path / "data").clips)
    assert len(finished) == 2
    assert {path.name for path in (tmp_path / "data" / "clips").iterdir()} == finished
    report = build_dataset(sources=sources[:4], output=tmp_path / "data", recipe=ONE)
    assert len(report.built) + len(report.kept) == 4


def test_an_interruption_does_not_wait_for_what_runs() -> None:
    began = time.monotonic()
    with pytest.raises(KeyboardInterrupt), workers(2) as run:
        for key, outcome in run(time.sleep, {n: (0 if n == 0 else 600,) for n in range(6)}):
            assert (key, outcome()) == (0, None)
            raise KeyboardInterrupt
    assert time.monotonic() - began < 60


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_processes_end_with_the_one_that_started_them(number: signal.Signals, tmp_path: Path) -> None:
    script = tmp_path / "sleepers.py"
    script.write_text(SLEEPERS)
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parents[2])}
    parent = subprocess.Popen([sys.executable, str(script)], stdout=subprocess.PIPE, env=environment)
    assert parent.stdout is not None
    assert parent.stdout.readline() == b"ready\n"
    time.sleep(0.5)
    parent.send_signal(number)
    # Its processes have its stdout, too: this ends when the last of them does.
    parent.communicate(timeout=30)
    assert parent.returncode == -number


def test_a_process_that_is_ended_from_outside_is_one_clear_error() -> None:
    with pytest.raises(CarfixError, match="ended from outside"), workers(2) as run:
        for _, outcome in run(os._exit, {n: (1,) for n in range(3)}):
            outcome()


def test_windows_takes_no_more_processes_than_python_does_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "win32")
    with workers(128):
        pass
