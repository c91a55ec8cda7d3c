"""`carfix restore` as a user runs it: a process, its exit code, and what it says."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import av
import media
import pytest
from media import Sound
from networks import save_awake

from carfix.cli import main
from carfix.restore.state import state_folder

PROGRAM = "from carfix.cli import main; main()"
# A shell starts what it puts into the background with SIGINT ignored, and children inherit that.
LISTENING = f"import signal; signal.signal(signal.SIGINT, signal.default_int_handler); {PROGRAM}"


def carfix(*arguments: object, check: int | None = 0, **options: object) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=120,
        env={**os.environ, "OMP_NUM_THREADS": "1", "COLUMNS": "120"},
        **options,  # type: ignore[call-overload]
    )
    if check is not None:
        assert done.returncode == check, done.stderr
    return done


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_awake(tmp_path_factory.mktemp("weights") / "awake.safetensors")


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    return media.write_clip(tmp_path / "in.mp4", frames=30, sounds=[Sound(seconds=1.2)])


def test_ffmpeg_spelling(clip: Path, model: Path, tmp_path: Path) -> None:
    output = tmp_path / "out.mkv"
    output.write_bytes(b"old")
    done = carfix(
        *("restore", "-y", clip, "-c:v", "libx264", "-crf", 30, "-preset", "ultrafast", "-tune", "psnr"),
        *("-g", 5, "-maxrate", "2M", "-bufsize", "4M", "-pix_fmt", "yuv444p", "-x", "bf=0", "-x", "refs=1"),
        *("-c:a", "copy", "-f", "matroska", "-ss", "0:00.2", "-t", "800ms", "-m", model, output),
    )
    assert done.stdout == ""
    assert "model awake" in done.stderr and "20 frames" in done.stderr
    with av.open(str(output)) as container:
        video = container.streams.video[0]
        assert video.codec_context.pix_fmt == "yuv444p"
        assert sum(packet.is_keyframe for packet in container.demux(video) if packet.size) >= 4


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such names")
def test_a_name_with_its_folder_before_it_is_a_file(clip: Path, model: Path, tmp_path: Path) -> None:
    clip.rename(tmp_path / "-")
    carfix("restore", "-q", "-m", model, "./-", "./file:out.mkv", cwd=tmp_path)
    carfix("restore", "-q", "-m", model, "-f", "nut", "./file:out.mkv", "./-", "-y", cwd=tmp_path)
    assert len(media.frame_times(tmp_path / "-")) == 30


def test_long_spelling(clip: Path, model: Path, tmp_path: Path) -> None:
    carfix(
        *(
            "restore",
            clip,
            tmp_path / "out.mp4",
            "--video-codec",
            "libx265",
            "--crf",
            30,
            "--preset",
            "ultrafast",
        ),
        *(
            "--encoder-option",
            "x265-params=bframes=0",
            "--audio-codec",
            "none",
            "--model",
            model,
            "--device",
            "cpu",
        ),
        *("--tile", 40, "--batch", 2, "--precision", "fp32", "--segment", 0.5, "--no-resume", "--overwrite"),
        *("--start", 0.4, "--end", 1.0, "--progress", "none", "--quiet"),
    )
    assert media.frame_times(tmp_path / "out.mp4") == [media.Fraction(i, 25) for i in range(15)]


def test_restored_frames_differ_but_little(clip: Path, model: Path, tmp_path: Path) -> None:
    carfix("restore", clip, tmp_path / "out.mkv", "-c:v", "ffv1", "-m", model)
    changes = [
        abs(a.astype(int) - b).mean()
        for a, b in zip(media.planes(tmp_path / "out.mkv"), media.planes(clip), strict=True)
    ]
    assert len(changes) == 30
    assert min(changes) > 0.2 and max(changes) < 12


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["absent.mp4", "out.mp4"], 1, "no such file: absent.mp4"),
        (["text.mp4", "out.mp4"], 1, "cannot read text.mp4"),
        ([".", "out.mp4"], 2, "is a folder"),
        (["in.mp4", "in.mp4"], 2, "same file"),
        (["in.mp4", "exists.mp4"], 1, "exists already; -y overwrites it"),
        (["in.mp4", "exists.mp4", "-n"], 1, "exists already; -y overwrites it"),
        (["in.mp4", "out.mp4", "-c:v", "libx26"], 2, "unknown encoder"),
        (["in.mp4", "out.mp4", "-x", "crv=3"], 2, "no option 'crv'"),
        (["in.mp4", "out.mp4", "-x", "crf"], 2, "-x takes KEY=VALUE"),
        (["in.mp4", "out.mp4", "--tile", "-8"], 2, "--tile must be positive"),
        (["in.mp4", "out.mp4", "--strength", "3"], 2, "--strength is auto or a number from 0 to 2, not 3"),
        (["in.mp4", "out.mp4", "-ss", "soon"], 2, "-ss takes seconds"),
        (["in.mp4", "out.mp4", "--progress", "much"], 2, "--progress is"),
        (["in.mp4", "out.mp4", "-m", "absent"], 1, "no model called 'absent'"),
        (["in.mp4", "out.mp4", "--device", "toaster"], 2, "--device"),
        (["in.mp4", "out.mp4", "-crf", "high"], 2, "Invalid value for"),
        (["in.mp4"], 2, ""),
        (["file:in.mp4", "out.mp4"], 1, "no such file: file:in.mp4; carfix takes paths"),
        (["in.mp4", "file:out.mp4"], 2, "leave file: out (or write ./file:out.mp4 for such a name)"),
        (["./-", "out.mp4"], 1, "/-"),
        (["in.mp4", "out.mp4", "--jobs", "0"], 2, "--jobs must be positive, not 0"),
        (["-", "out.mp4", "-r", "--jobs", "2"], 2, "leave -r, --jobs out"),
        (["-", "out.mp4", "--include", "*.ts", "--exclude", "x"], 2, "leave --include, --exclude out"),
        (["in.mp4", "-", "-f", "nut", "--segment", "5"], 2, "leave --segment out"),
        (["in.mp4", "-", "-f", "nut", "--no-resume", "--fail-fast"], 2, "leave --fail-fast, --no-resume out"),
    ],
)
def test_mistakes(
    arguments: list[str],
    code: int,
    message: str,
    clip: Path,
    model: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / "text.mp4").write_text("words\n" * 50)
    (tmp_path / "exists.mp4").write_bytes(b"precious")
    if "-m" not in arguments:
        arguments = [*arguments, "-m", str(model)]
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir() if path.is_file()}
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["carfix", "restore", *arguments])
    with pytest.raises(SystemExit) as end:
        main()
    told = capsys.readouterr()
    assert end.value.code == code
    assert message in " ".join(told.err.split())
    assert "Traceback" not in told.err
    assert told.out == ""
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signals_keep_the_work(number: signal.Signals, model: Path, tmp_path: Path) -> None:
    # (The run that goes on has one thread, for which another engine may be the fastest.)
    source = media.write_clip(tmp_path / "in.mp4", frames=400, width=160, height=128)
    output = tmp_path / "out.mp4"
    command = ["restore", str(source), str(output), "-m", str(model), "--segment", "0.2", "--batch", "1"]
    process = subprocess.Popen([sys.executable, "-c", LISTENING, *command], stderr=subprocess.PIPE, text=True)
    state = state_folder(output)
    deadline = time.monotonic() + 60
    while not (state / "000002.seg").exists() and time.monotonic() < deadline:
        time.sleep(0.01)
    process.send_signal(number)
    _, stderr = process.communicate(timeout=60)
    assert process.returncode == 130, stderr
    assert "goes on after the last finished segment" in stderr and "Traceback" not in stderr
    assert not output.exists()
    done = carfix(*command)
    assert "from an earlier run" in done.stderr
    assert len(media.frame_times(output)) == 400
    assert not state.exists()


def test_a_tree_of_files(model: Path, tmp_path: Path) -> None:
    for name in ("a.mp4", "sub/b.mkv"):
        path = tmp_path / "in" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        media.write_clip(path, frames=5)
    (tmp_path / "in" / "c.mp4").write_text("words")
    done = carfix(
        *("restore", "-r", tmp_path / "in", tmp_path / "out", "-m", model, "--jobs", 2, "--log-json"), check=1
    )
    events = [json.loads(line) for line in done.stdout.splitlines()]
    assert {event["event"] for event in events} >= {"start", "done", "failed", "summary"}
    assert events[-1]["done"] == 2 and events[-1]["failed"] == 1
    assert "1 of 3 files failed" in done.stderr and "Traceback" not in done.stderr
    for name in ("a.mp4", "sub/b.mkv"):
        assert len(media.frame_times(tmp_path / "out" / name)) == 5
    assert not (tmp_path / "out" / "c.mp4").exists()


def test_help_is_quick_and_shows_examples() -> None:
    done = carfix("restore", "--help")
    assert "carfix restore in.mp4 out.mp4" in " ".join(done.stdout.split())
    for option in ("-c:v", "-crf", "-pix_fmt", "-c:a", "--tile", "--segment", "--progress"):
        assert option in done.stdout
    imported = subprocess.run(
        [
            sys.executable,
            "-c",
            "import sys, carfix.cli.restore; print([m for m in ('torch', 'av') if m in sys.modules])",
        ],
        capture_output=True,
        text=True,
        check=True,
    )
    assert imported.stdout.strip() == "[]"


def test_a_restored_archive_keeps_its_times(clip: Path, model: Path, tmp_path: Path) -> None:
    os.utime(clip, (1_000_000_000, 1_234_567_890))
    carfix(
        "restore", "-r", "-q", "--keep-times", "-preset", "ultrafast", "-m", model, tmp_path, tmp_path / "out"
    )
    assert (tmp_path / "out" / clip.name).stat().st_mtime == 1_234_567_890
    done = carfix("restore", "--keep-times", "-f", "nut", "-m", model, clip, "-", check=2)
    assert "a pipe has no times" in done.stderr


def test_the_work_does_not_depend_on_who_reads_of_it(clip: Path, model: Path, tmp_path: Path) -> None:
    """A terminal that was closed, a full disk under a log: what is said is lost, and nothing else."""
    if not Path("/dev/full").exists():
        pytest.skip("no device that is always full")
    arguments = [*("restore", "-m", str(model), "-preset", "ultrafast"), str(clip)]
    command = [sys.executable, "-c", PROGRAM, *arguments]
    for name, more in (("single.mkv", []), ("many", [str(media.write_clip(tmp_path / "b.mkv"))])):
        with Path("/dev/full").open("w") as full:
            done = subprocess.run(
                [*command, *more, str(tmp_path / name)], stderr=full, timeout=120, check=False
            )
        assert done.returncode == 0
    assert (tmp_path / "single.mkv").exists() and len(list((tmp_path / "many").iterdir())) == 2
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [*command, str(tmp_path / "log.mkv"), "--log-json"],
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            timeout=120,
            check=False,
        )
    assert done.returncode == 1
    assert (
        "cannot write the log (--log-json): the disk is full" in done.stderr and "internal" not in done.stderr
    )


@pytest.mark.skipif(sys.platform == "win32", reason="signals are POSIX's")
def test_a_pipe_that_never_speaks_can_be_interrupted(model: Path, tmp_path: Path) -> None:
    data = media.write_clip(tmp_path / "in.nut", frames=200).read_bytes()
    output = tmp_path / "out.mkv"
    process = subprocess.Popen(
        [sys.executable, "-c", LISTENING, "restore", "-", str(output), "-m", str(model)],
        stdin=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert process.stdin is not None and process.stderr is not None
    process.stdin.write(data[: len(data) // 2])
    process.stdin.flush()
    deadline = time.monotonic() + 60
    while not (tmp_path / ".out.mkv.part").exists() and time.monotonic() < deadline:
        time.sleep(0.01)
    process.send_signal(signal.SIGTERM)
    status, told = process.wait(60), process.stderr.read()
    process.stdin.close()
    process.stderr.close()
    assert status == 130 and b"Traceback" not in told, told
    assert {path.name for path in tmp_path.iterdir()} == {"in.nut"}


def in_shell(command: str) -> "subprocess.CompletedProcess[str]":
    """`carfix` with streams closed, as a shell does it."""
    line = f'"{sys.executable}" -c "{PROGRAM}" {command}'
    return subprocess.run(["sh", "-c", line], capture_output=True, text=True, timeout=60, check=False)


def test_closed_standard_streams_are_told(clip: Path, model: Path) -> None:
    done = in_shell(f'restore - out.mkv -m "{model}" <&-')
    assert done.returncode == 2 and "standard input, which is closed" in done.stderr


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
def test_closed_standard_streams_stop_no_restore(
    clip: Path, model: Path, closed: str, tmp_path: Path
) -> None:
    """A job that a crontab starts with `2>&-`: no file may get the number of a standard stream."""
    output = tmp_path / "out.mkv"
    assert in_shell(f'restore "{clip}" "{output}" -m "{model}" {closed}').returncode == 0
    assert media.frame_times(output) == media.frame_times(clip)


@pytest.mark.parametrize("command", ["models --json", "models", "--version", "restore in.mkv - -f nut"])
def test_what_a_closed_standard_output_loses_is_an_error(command: str, clip: Path, model: Path) -> None:
    done = in_shell(command.replace("in.mkv", f'-m "{model}" "{clip}"') + " >&-")
    assert done.returncode == (2 if " - " in command else 1)
    assert done.stderr.startswith("carfix: ") and "standard output" in done.stderr
    assert "closed" in done.stderr and done.stderr.count("\n") == 1


def test_names_as_long_as_a_file_system_takes(model: Path, tmp_path: Path) -> None:
    source = media.write_clip(tmp_path / "in.mkv", frames=3)
    output = tmp_path / ("x" * 251 + ".mkv")
    carfix("restore", "-m", model, source, output)
    piped = tmp_path / ("y" * 251 + ".mkv")
    with source.open("rb") as pipe:
        carfix("restore", "-m", model, "-", piped, stdin=pipe)
    assert {path.name for path in tmp_path.iterdir()} == {"in.mkv", output.name, piped.name}
