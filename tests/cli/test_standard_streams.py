import io
import os
import subprocess
import sys
from pathlib import Path
from typing import IO

import pytest
from quality.clips import moving_picture, write_clip

from carfix.cli.standard_streams import spell_unknown_letters


@pytest.mark.parametrize("encoding", ["cp1252", "ascii"])
def test_a_name_that_the_code_page_of_stdout_lacks(encoding: str, tmp_path: Path) -> None:
    write_clip(tmp_path / "\u65e5.mp4", moving_picture(4), options={"crf": "33", "threads": "1"})
    done = subprocess.run(
        [sys.executable, "-m", "carfix", "compare", "\u65e5.mp4", "\u65e5.mp4", "--metric", "psnr", "--csv"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONIOENCODING": encoding},
        capture_output=True,
        check=True,
        timeout=60,
    )
    assert b"\n\\u65e5.mp4,0,0.0" in done.stdout


def test_handlers_that_were_asked_for_stay(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = io.TextIOWrapper(io.BytesIO(), encoding="cp1252", errors="replace")
    monkeypatch.setattr(sys, "stdout", asked)
    spell_unknown_letters()
    assert asked.errors == "replace"


def test_the_c_locale_shows_what_it_has_no_letters_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """A table's plus-minus sign ended `inspect` there; odd bytes of names come out as they are."""
    written = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(written, "ascii", errors="surrogateescape"))
    spell_unknown_letters()
    sys.stdout.write("\u00b1 b\udcffd")
    sys.stdout.flush()
    assert written.getvalue() == b"\\xb1 b\xffd"


@pytest.mark.skipif(os.name == "nt", reason="there pipes always wait")
def test_a_pipe_that_does_not_wait_is_made_to() -> None:
    """Whoever shares it may leave it so. What a slow reader of a video had no room for was lost, with exit code 0."""
    told_last = "atexit.register(lambda: sys.stderr.write(str(os.get_blocking(1))))"
    program = f"import atexit, os, sys; from carfix.cli import main; {told_last}; main()"
    reader, stdout = os.pipe()
    os.set_blocking(stdout, False)
    command = [sys.executable, "-c", program, "--version"]
    done = subprocess.run(command, stdout=stdout, stderr=subprocess.PIPE, check=True, timeout=60)
    os.close(stdout)
    os.close(reader)
    assert done.stderr == b"True"


FULL = Path("/dev/full")
needs_full = pytest.mark.skipif(not FULL.exists(), reason="no device that is always full")


def told(*command: str, stdout: IO[bytes] | int, unbuffered: bool) -> tuple[int, bytes]:
    """Exit code and stderr of `carfix`, by itself or as containers start Python."""
    done = subprocess.run(
        [sys.executable, *(["-u"] if unbuffered else []), "-m", "carfix", *command],
        stdout=stdout,
        stderr=subprocess.PIPE,
        check=False,
        timeout=60,
    )
    return done.returncode, done.stderr


@needs_full
@pytest.mark.parametrize("unbuffered", [False, True])
@pytest.mark.parametrize("command", [["models"], ["models", "--json"], ["--version"]])
def test_what_a_full_disk_takes_is_an_error_in_one_line(command: list[str], unbuffered: bool) -> None:
    with FULL.open("wb") as full:
        code, line = told(*command, stdout=full, unbuffered=unbuffered)
    assert code == 1
    assert line.startswith(b"carfix: ") and b"No space left" in line and line.count(b"\n") == 1


@pytest.mark.parametrize("unbuffered", [False, True])
@pytest.mark.parametrize("command", [["models"], ["models", "--json"], ["models", "nobody"]])
def test_a_reader_that_has_seen_enough(command: list[str], unbuffered: bool) -> None:
    """As of `carfix models | head -1`; what was wrong before is still told."""
    reading, writing = os.pipe()
    os.close(reading)
    try:
        code, line = told(*command, stdout=writing, unbuffered=unbuffered)
    finally:
        os.close(writing)
    assert code == 1
    assert (
        (b"nobody" in line) == ("nobody" in command) and b"Exception" not in line and line.count(b"\n") <= 1
    )


@pytest.mark.parametrize("target", ["full", "closed"])
def test_a_pipe_that_is_not_read_to_its_end(target: str, tmp_path: Path) -> None:
    source = write_clip(tmp_path / "in.mp4", moving_picture(4), options={"crf": "33", "threads": "1"})
    reading, writing = os.pipe()
    os.close(reading)
    if target == "full":
        if not FULL.exists():
            pytest.skip("no device that is always full")
        os.close(writing)
        writing = os.open(FULL, os.O_WRONLY)
    try:
        code, line = told(
            *("restore", str(source), "-", "-f", "nut", "-m", "tiny", "-q"), stdout=writing, unbuffered=False
        )
    finally:
        os.close(writing)
    assert code == 1
    assert line.startswith(b"carfix: ") and line.count(b"\n") == 1
