"""Progress for people: each file's own, as long as it is under way."""

import io
from pathlib import Path

import pytest
from rich.console import Console

import carfix.restore.progress as progress_module
from carfix.restore.batch import Event
from carfix.restore.progress import Mode
from carfix.restore.report import Outcome, Progress
from carfix.restore.tasks import Task
from carfix.restore.telling import Teller

#: Two cameras give their files the same names.
ONE, OTHER = (Task(Path(camera, "00.mp4"), Path("out", camera, "00.mp4")) for camera in ("cam1", "cam2"))


def restoring(task: Task, done: int) -> Event:
    return Event(task, Progress(phase="restoring", done=done, total=100))


def teller(console: Console, mode: Mode) -> Teller:
    return Teller(console, mode=mode, quiet=False, many=True, log=None)


def test_files_of_one_name_are_told_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress_module, "PLAIN_INTERVAL", 0.0)
    out = io.StringIO()
    tell = teller(Console(file=out), "plain")
    with tell.display():
        tell(restoring(ONE, 10))
        tell(restoring(OTHER, 50))  # which tells no pace: it has not made 40 frames since
    assert out.getvalue().splitlines() == [
        f"{ONE.source}: restoring 10/100 frames",
        f"{OTHER.source}: restoring 50/100 frames",
    ]


def test_the_time_left_follows_a_change_of_pace(monkeypatch: pytest.MonkeyPatch) -> None:
    """A quiet night at 40 frames a second says nothing of the day."""
    now = 0.0
    monkeypatch.setattr(progress_module.time, "monotonic", lambda: now)
    out = io.StringIO()
    tell = teller(Console(file=out), "plain")
    with tell.display():
        done = 0
        for seconds, fps in ((3600, 40), (90, 5)):
            for _ in range(seconds):
                now, done = now + 1, done + fps
                tell(Event(ONE, Progress(phase="restoring", done=done, total=200_000)))
    lines = [line.partition(" frames, ")[2] for line in out.getvalue().splitlines()]
    assert lines[358] == "40 fps, 0:23:30 left"
    assert lines[-1].startswith("5.00 fps, 3:")


def test_the_pace_of_a_slow_network_is_that_of_many_frames(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of those that a minute takes one more or less would be a third of the time."""
    now = 0.0
    monkeypatch.setattr(progress_module.time, "monotonic", lambda: now)
    out = io.StringIO()
    tell = teller(Console(file=out), "plain")
    with tell.display():
        for done in range(500):
            now += 10 if done % 4 else 70  # in batches
            tell(Event(ONE, Progress(phase="restoring", done=done, total=1000)))
    assert {line.split(", ")[1] for line in out.getvalue().splitlines()[50:]} <= {"0.04 fps"}


def test_a_bar_goes_away_with_its_file(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also of one that failed halfway: in days they would fill the screen."""
    next_one = Task(Path("cam1/01.mp4"), Path("out/cam1/01.mp4"))
    bars: list[progress_module.Bar] = []

    class Bar(progress_module.Bar):
        def start(self) -> None:
            bars.append(self)

    monkeypatch.setattr(progress_module, "Bar", Bar)
    tell = teller(Console(file=io.StringIO()), "rich")
    with tell.display():
        tell(restoring(ONE, 10))
        tell(restoring(next_one, 50))
        tell(Event(ONE, Outcome(ONE, "failed", reason="the disk is full")))
        assert [task.completed for task in bars[0].tasks if task.visible] == [50]


def test_a_pipe_has_no_end_that_is_known(monkeypatch: pytest.MonkeyPatch) -> None:
    """All frames were told to be done, nothing to be left, and on a terminal no bar was seen."""
    monkeypatch.setattr(progress_module, "PLAIN_INTERVAL", 0.0)
    event = Event(ONE, Progress(phase="restoring", done=10, total=0))
    plain, bar = io.StringIO(), io.StringIO()
    for out, mode in ((plain, "plain"), (bar, "rich")):
        tell = teller(Console(file=out, force_terminal=mode == "rich", width=120), mode)
        with tell.display():
            tell(event)
    assert plain.getvalue() == f"{ONE.source}: restoring 10 frames\n"
    assert "restoring" in bar.getvalue() and "left" not in bar.getvalue()


def test_the_list_of_failures_holds_whole_names() -> None:
    """In a log, where it is 80 columns wide, as on a narrow terminal."""
    out = io.StringIO()
    name = Path("/archive/camera-entrance-north/2026-11-27/recording_2026-11-27_10-00-00.mp4")
    task = Task(name, Path("out.mp4"))
    teller(Console(file=out, width=80), "none").summary(
        [Outcome(task, "failed", reason=f"cannot read {name}")]
    )
    cells = [line.split("│")[1:3] for line in out.getvalue().splitlines() if "│" in line]
    failed, reason = ("".join(cell.strip() for cell in column) for column in zip(*cells, strict=True))
    assert failed == str(name) and reason.endswith(str(name))
