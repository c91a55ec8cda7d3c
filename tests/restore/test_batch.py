"""Many files: one that fails costs itself, and the end tells the truth about all."""

import io
import json
import os
import re
import shutil
import sys
import time
from pathlib import Path

import faults
import media
import pytest
from batches import OPTIONS, batch, clips, statuses
from rich.console import Console

from carfix.errors import CarfixError, MissingPartError, UsageError
from carfix.restore import batch as batches_of_files
from carfix.restore.engine import Planes, Strengths
from carfix.restore.estimate import estimate_video
from carfix.restore.one_file import restore_video
from carfix.restore.run import restore_files
from carfix.restore.state import open_state, state_folder
from carfix.restore.tasks import Task
from carfix.restore.telling import Teller
from carfix.restore.worker import Failed
from carfix.video.encoder_settings import EncoderSettings


def test_jobs_do_not_change_the_files(tmp_path: Path) -> None:
    tasks = clips(tmp_path, 3)
    assert statuses(batch(tasks)) == ["done"] * 3
    one = [task.output.read_bytes() for task in tasks]
    assert statuses(batch(tasks, jobs=2, overwrite=True)) == ["done"] * 3
    assert [task.output.read_bytes() for task in tasks] == one
    assert len(set(one)) == 3


def test_a_file_that_is_no_video_costs_one_file(tmp_path: Path) -> None:
    tasks = clips(tmp_path, 3)
    tasks[0].source.write_text("words")
    outcomes = batch(tasks)
    assert statuses(outcomes) == ["failed", "done", "done"]
    assert "cannot read" in outcomes[0].reason


def test_fail_fast(tmp_path: Path) -> None:
    tasks = clips(tmp_path, 3)
    tasks[0].source.write_text("words")
    assert statuses(batch(tasks, fail_fast=True)) == ["failed", "not started", "not started"]


def test_finished_outputs_are_verified_not_guessed(tmp_path: Path) -> None:
    tasks = clips(tmp_path, 4)
    batch(tasks[:3])
    state_folder(tasks[0].output).mkdir()  # as a run leaves it that is killed just after the rename
    short = media.write_clip(tmp_path / "short.mp4", frames=7)
    tasks[1].output.write_bytes(short.read_bytes())
    tasks[2].output.write_bytes(tasks[2].output.read_bytes()[:-300])
    outcomes = batch(tasks)
    assert statuses(outcomes) == ["skipped", "failed", "failed", "done"]
    assert "7 frames, not 10" in outcomes[1].reason and "-y overwrites it" in outcomes[1].reason
    assert not state_folder(tasks[0].output).exists()
    assert statuses(batch(tasks, overwrite=True)) == ["done"] * 4


def test_an_input_that_is_younger_than_its_output_is_told(tmp_path: Path) -> None:
    """A camera that uses its names again makes recordings of as many frames at the same times."""
    tasks = clips(tmp_path, 2)
    batch(tasks, keep_times=True)
    shutil.copyfile(tasks[1].source, tasks[0].source)
    os.utime(tasks[0].source, (time.time() + 60,) * 2)
    outcomes = batch(tasks, keep_times=True)
    assert statuses(outcomes) == ["skipped"] * 2
    assert "if it is another recording, remove" in outcomes[0].reason
    assert outcomes[1].reason == "already restored"


def test_an_input_that_cannot_be_compared_with_its_output_costs_one_file(tmp_path: Path) -> None:
    """As one is whose size changes, when a part of it was restored under its name: that ended the whole batch."""
    good, gone = clips(tmp_path, 2)
    batch([gone])
    gone.source.unlink()
    odd = Task(media.write_two_sizes(tmp_path / "in" / "odd.ts"), tmp_path / "out" / "odd.ts")
    restore_video(source=odd.source, output=odd.output, model=faults.Slow(), end=0.5, **OPTIONS)  # type: ignore[arg-type]
    outcomes = batch([odd, gone, good])
    assert statuses(outcomes) == ["failed", "failed", "done"]
    assert "the video changes from" in outcomes[0].reason and "no such file" in outcomes[1].reason
    assert not any("-y overwrites" in outcome.reason for outcome in outcomes)


def test_strict_counts_damage_as_failure_but_keeps_what_there_is(tmp_path: Path) -> None:
    source = media.write_clip(tmp_path / "in.mkv", frames=40)
    source.write_bytes(source.read_bytes()[: source.stat().st_size * 6 // 10])
    task = Task(source, tmp_path / "out.mkv")
    (outcome,) = batch([task], strict=True)
    assert outcome.status == "failed" and "cut short" in outcome.reason
    assert 5 < len(media.frame_times(task.output)) < 40
    (outcome,) = batch([task], overwrite=True)
    assert outcome.status == "done" and outcome.report is not None and outcome.report.damaged


def test_jobs_must_be_positive(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="--jobs must be positive"):
        batch([], jobs=0)


class NoProcess:
    """Stands for a process that fails at once."""

    def __init__(self, task: Task, *others: object) -> None:
        self.task, self.connection, self.turn = task, object(), others[-1]

    def receive(self) -> Failed:
        return Failed("no process")

    def close(self) -> None:
        pass


def test_on_windows_no_more_processes_run_than_python_listens_to(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    at_once: list[int] = []

    def wait(connections: list[object], timeout: float) -> list[object]:
        at_once.append(len(connections))
        return connections if timeout else []

    monkeypatch.setattr(sys, "platform", "win32")
    monkeypatch.setattr(batches_of_files, "Worker", NoProcess)
    monkeypatch.setattr(batches_of_files, "wait", wait)
    tasks = [Task(tmp_path / f"{number}.mp4", tmp_path / f"{number}.mkv") for number in range(70)]
    assert {outcome.reason for outcome in batch(tasks, jobs=70)} == {"no process"}
    assert max(at_once) < 63


def tell(tasks: list[Task], **options: object) -> tuple[list[dict[str, object]], str]:
    """Run as the command does; the JSON lines and what people read."""
    log, screen = io.StringIO(), io.StringIO()
    teller = Teller(Console(file=screen, width=200), mode="auto", quiet=False, many=True, log=log)
    options = {"model": faults.Slow(), **OPTIONS, **options}
    try:
        restore_files(tasks=tasks, teller=teller, many=True, **options)  # type: ignore[arg-type]
    except CarfixError as error:
        screen.write(str(error))
    return [json.loads(line) for line in log.getvalue().splitlines()], screen.getvalue()


def test_events_and_summary(tmp_path: Path) -> None:
    tasks = clips(tmp_path, 3)
    tasks[1].source.write_text("words")
    batch(tasks[2:])
    lines, screen = tell(tasks)
    assert lines[-1] == {
        "event": "summary",
        "done": 1,
        "skipped": 1,
        "failed": 1,
        "not_started": 0,
        "frames": 10,
    }
    events = [
        (line["event"], Path(str(line["input"])).name) for line in lines[:-1] if line["event"] != "progress"
    ]
    assert sorted(events, key=lambda event: event[1]) == [
        ("start", "0.mp4"),
        ("message", "0.mp4"),
        ("done", "0.mp4"),
        ("start", "1.mp4"),
        ("failed", "1.mp4"),
        ("skipped", "2.mp4"),
    ]
    progress = [line for line in lines if line["event"] == "progress"]
    assert progress and progress[-1]["total"] == 10
    (done,) = [line for line in lines if line["event"] == "done"]
    assert (done["frames"], done["damaged"], done["warnings"]) == (10, False, [])
    assert "1 done, 1 skipped, 1 failed; 10 frames" in screen
    assert "1 of 3 files failed" in screen and "cannot read" in screen


@pytest.mark.parametrize("suffix", [".flv", ".avi", ".nut"])
def test_outputs_without_exact_times_are_known_again(suffix: str, tmp_path: Path) -> None:
    """FLV and NUT move everything where sound begins before 0, AVI counts frames."""
    source = media.write_clip(tmp_path / "in.mkv", sounds=[media.Sound(start=-1024 / 48_000)])
    task = Task(source, tmp_path / f"out{suffix}")
    options = {"encoder": EncoderSettings(preset="ultrafast")}
    assert statuses(batch([task], **options)) == ["done"]
    assert statuses(batch([task], **options)) == ["skipped"]


def test_what_many_files_share_is_said_once(tmp_path: Path) -> None:
    tasks = clips(tmp_path, 3)
    media.write_clip(
        tasks[2].source,
        format="avi",
        codec="rawvideo",
        pix_fmt="bgr24",
        pictures=lambda index: media.picture(index).reformat(format="bgr24"),
    )
    lines, screen = tell(tasks)
    assert sum(line["event"] == "message" and str(line["text"]).startswith("model ") for line in lines) == 2
    assert screen.count("model ") == 1
    assert screen.count(f"{tasks[2].source}: the video's pixel format bgr24 has no luma") == 1


def test_dry_run_writes_nothing(tmp_path: Path) -> None:
    tasks = clips(tmp_path, 2)
    tasks[1].source.write_text("words")
    before = sorted(path for path in tmp_path.rglob("*"))
    lines, screen = tell(tasks, dry_run=True)
    assert [line["event"] for line in lines] == ["estimate", "failed"]
    assert (
        lines[0]["frames"] == 10 and float(str(lines[0]["seconds"])) > 0 and int(str(lines[0]["bytes"])) > 500
    )
    assert "10 frames in" in screen and "1 of 2 files failed" in screen
    assert sorted(path for path in tmp_path.rglob("*")) == before


def test_a_dry_run_knows_what_is_half_done(tmp_path: Path) -> None:
    [task] = clips(tmp_path, 1)
    media.write_clip(task.source, frames=30)
    task.output.parent.mkdir()

    class Stopping(faults.Slow):
        planes = 0

        def restore(self, planes: Planes, bit_depth: int, strengths: Strengths | None = None) -> Planes:
            self.planes += len(planes)
            if self.planes > 20:
                raise CarfixError("stopped")
            return super().restore(planes, bit_depth, strengths)

    with pytest.raises(CarfixError, match="stopped"):
        restore_video(source=task.source, output=task.output, model=Stopping(), **OPTIONS)
    estimate = estimate_video(task, model=faults.Slow(), **OPTIONS)
    assert estimate.frames == 30 and 0 < estimate.done <= 20
    _, screen = tell([task], dry_run=True)
    assert f"30 frames ({estimate.done} are done)" in screen
    assert estimate_video(task, model=faults.Slow(), **OPTIONS, resume=False).done == 0
    assert estimate_video(task, model=faults.Slow(), **{**OPTIONS, "segment_seconds": 0.3}).done == 0


class Growing(faults.Slow):
    """Writes to its input's end, as a camera that is still recording."""

    def __init__(self, source: Path) -> None:
        super().__init__()
        self.source = source

    def restore(self, planes: Planes, bit_depth: int, strengths: Strengths | None = None) -> Planes:
        with self.source.open("ab") as file:
            file.write(bytes(188))
        return super().restore(planes, bit_depth, strengths)


def test_a_file_that_grows_meanwhile_counts_as_damaged(tmp_path: Path) -> None:
    source = media.write_clip(tmp_path / "in.ts", frames=10)
    report = restore_video(
        source=source,
        output=tmp_path / "out.mkv",
        model=Growing(source),
        encoder=faults.ENCODER,  # type: ignore[arg-type]
    )
    assert report.damaged and report.frames == 10
    assert any("changed while it was restored" in line for line in report.warnings)


def test_what_may_still_be_recorded_is_left_to_a_later_run(tmp_path: Path) -> None:
    tasks = clips(tmp_path, 4)
    now = time.time()
    for task, age in zip(tasks, (3600, 30, -30, -3600), strict=True):
        os.utime(
            task.source, (now - age, now - age)
        )  # written an hour ago, just now, by a clock that is ahead
    outcomes = batch(tasks, min_age=600)
    assert statuses(outcomes) == ["done", "skipped", "skipped", "done"]
    assert re.fullmatch(r"changed 3\d seconds ago, and may still be recorded", outcomes[1].reason)
    assert [task.output.exists() for task in tasks] == [True, False, False, True]
    events, _ = tell(tasks, dry_run=True, min_age=600)
    assert [event["event"] for event in events] == ["skipped", "skipped", "skipped", "skipped"]
    os.utime(tasks[1].source, (now - 601, now - 601))
    assert statuses(batch(tasks, min_age=600)) == ["skipped", "done", "skipped", "skipped"]


def test_what_another_run_has_made_or_makes_is_no_failure(tmp_path: Path) -> None:
    tasks = clips(tmp_path, 2)
    (tmp_path / "out").mkdir()
    with open_state(tasks[0].output) as state:
        outcomes = batch(tasks)
        assert statuses(outcomes) == ["skipped", "done"]
        assert "another carfix is at work" in outcomes[0].reason
        # Its output is there, as after `-y`: what is complete is left alone, and so is the other's work.
        shutil.copy(tasks[1].output, tasks[0].output)
        shutil.copy(tasks[1].source, tasks[0].source)
        assert statuses(batch(tasks)) == ["skipped", "skipped"]
        assert state.folder.exists()
    assert statuses(batch(tasks)) == ["skipped", "skipped"]
    assert not state_folder(tasks[0].output).exists()


def test_options_that_no_file_could_go_with_fail_once(tmp_path: Path) -> None:
    tasks = clips(tmp_path, 2)
    log = io.StringIO()
    teller = Teller(Console(file=io.StringIO()), mode="none", quiet=True, many=True, log=log)
    for options, why in (
        ({"encoder": EncoderSettings(codec="nosuch")}, UsageError),
        ({"segment_seconds": float("inf")}, UsageError),
        ({"audio_codec": "nosuch"}, UsageError),
        ({"device": "cuda:97"}, MissingPartError),
        ({"model": "nosuch"}, CarfixError),
        ({"model": "tiny", "tile": 8}, UsageError),
        ({"movflags": "nosuch"}, UsageError),
        ({"movflags": "+faststart", "format": "matroska"}, UsageError),
    ):
        for dry_run in (False, True):
            with pytest.raises(why):
                restore_files(tasks=tasks, teller=teller, many=True, dry_run=dry_run, **options)  # type: ignore[arg-type]
    assert not log.getvalue() and not (tmp_path / "out").exists()


def test_a_dry_run_knows_what_is_done(tmp_path: Path) -> None:
    tasks = clips(tmp_path, 2)
    batch(tasks[:1])
    log = io.StringIO()
    teller = Teller(Console(file=io.StringIO()), mode="none", quiet=True, many=True, log=log)
    restore_files(tasks=tasks, teller=teller, many=True, dry_run=True, model=faults.Slow(), **OPTIONS)  # type: ignore[arg-type]
    assert [json.loads(line)["event"] for line in log.getvalue().splitlines()] == ["skipped", "estimate"]


def test_a_log_that_nobody_reads_ends_the_work_with_a_word(tmp_path: Path) -> None:
    class Gone(io.StringIO):
        def write(self, text: str) -> int:
            raise BrokenPipeError

    tasks = clips(tmp_path, 2)
    teller = Teller(Console(file=io.StringIO()), mode="none", quiet=True, many=True, log=Gone())
    with pytest.raises(CarfixError, match="the program that reads it has ended"):
        restore_files(tasks=tasks, teller=teller, many=True, model=faults.Slow(), **OPTIONS)  # type: ignore[arg-type]
