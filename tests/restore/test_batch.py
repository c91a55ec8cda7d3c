"""Many files: one that fails costs itself, and the end tells the truth about all."""

import io
import json
from pathlib import Path

import faults
import media
import pytest
from rich.console import Console

from carfix.errors import CarfixError, UsageError
from carfix.restore.batch import Outcome, restore_batch
from carfix.restore.run import restore_files
from carfix.restore.state import state_folder
from carfix.restore.tasks import Task
from carfix.restore.telling import Teller
from carfix.video.encoder import EncoderSettings

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


def test_jobs_do_not_change_the_files(tmp_path: Path) -> None:
    tasks = clips(tmp_path, 3)
    assert statuses(batch(tasks)) == ["done"] * 3
    one = [task.output.read_bytes() for task in tasks]
    assert statuses(batch(tasks, jobs=2, overwrite=True)) == ["done"] * 3
    assert [task.output.read_bytes() for task in tasks] == one
    assert len(set(one)) == 3


def test_a_crash_costs_one_file(tmp_path: Path) -> None:
    tasks = clips(tmp_path, 3)
    media.write_clip(tasks[1].source, frames=10, width=96)
    outcomes = batch(tasks, model=faults.Crashing(96))
    assert statuses(outcomes) == ["done", "failed", "done"]
    assert "SIGSEGV" in outcomes[1].reason
    assert not tasks[1].output.exists()


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
