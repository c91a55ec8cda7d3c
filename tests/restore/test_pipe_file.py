"""A pipe into a file: what stands under its name, and when."""

import errno
import io
import os
import subprocess
import sys
from fractions import Fraction
from pathlib import Path
from typing import Any

import media
import pytest
from engines import Adding, Failing
from networks import save_awake
from rich.console import Console

from carfix.errors import CarfixError
from carfix.restore.models import EngineChoice
from carfix.restore.run import restore_through_pipe
from carfix.restore.telling import Teller
from carfix.video.encoder_settings import EncoderSettings


@pytest.fixture
def clip(nut: Path) -> Path:
    return nut


def into(
    output: Path,
    clip: Path,
    engine: Adding,
    encoder: EncoderSettings | None = None,
    *,
    overwrite: bool = False,
) -> None:
    restore_through_pipe(
        clip,
        output,
        teller=Teller(Console(file=io.StringIO()), mode="none", quiet=True, many=False, log=None),
        overwrite=overwrite,
        strict=False,
        format=None,
        choice=EngineChoice(model=engine),
        encoder=encoder,
    )


def test_a_second_run_leaves_what_the_first_one_writes(clip: Path, tmp_path: Path) -> None:
    fcntl = pytest.importorskip("fcntl", reason="there are no locks on Windows")
    part = tmp_path / ".out.mkv.part"
    with part.open("wb") as first, clip.open("rb") as source:
        first.write(b"half a video")
        fcntl.flock(first, fcntl.LOCK_EX)
        command = [
            sys.executable,
            "-m",
            "carfix",
            "restore",
            "-y",
            "-",
            str(tmp_path / "out.mkv"),
            "-m",
            "tiny",
        ]
        done = subprocess.run(command, stdin=source, capture_output=True, text=True, check=False)
    assert done.returncode == 1 and "another carfix is at work on" in done.stderr
    assert part.read_bytes() == b"half a video"


def test_a_file_is_on_the_disk_before_it_gets_its_name(
    clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    output, sync = tmp_path / "out.mkv", os.fsync
    forced: list[tuple[int, bool]] = []

    def seen(descriptor: int) -> None:
        forced.append((os.fstat(descriptor).st_ino, output.exists()))
        sync(descriptor)

    monkeypatch.setattr(os, "fsync", seen)
    into(output, clip, Adding(0))
    assert (output.stat().st_ino, False) in forced


def test_a_file_that_was_created_meanwhile_stays(clip: Path, tmp_path: Path) -> None:
    output = tmp_path / "out.mkv"

    class Late(Adding):
        def restore(self, *arguments: Any, **options: Any) -> Any:  # noqa: ANN401
            output.write_bytes(b"another's")
            return super().restore(*arguments, **options)

    with pytest.raises(CarfixError, match="created meanwhile"):
        into(output, clip, Late(1))
    assert output.read_bytes() == b"another's"
    assert len(media.frame_times(tmp_path / "out-new.mkv")) == 30
    assert not (tmp_path / ".out.mkv.part").exists()


@pytest.mark.parametrize("error", [CarfixError("broken down"), KeyboardInterrupt()])
def test_what_came_before_a_failure_is_kept(error: BaseException, clip: Path, tmp_path: Path) -> None:
    """A camera does not send it again. The output's own name is for what is complete."""
    encoder = EncoderSettings(codec="ffv1")
    for name in ("out-cut.mkv", "out-cut-cut.mkv"):
        with pytest.raises(type(error)):
            into(tmp_path / "out.mkv", clip, Failing(20, error), encoder=encoder)
        assert 10 <= len(media.frame_times(tmp_path / name)) <= 20
    with pytest.raises(type(error)):
        into(tmp_path / "out.mkv", clip, Failing(0, error), encoder=encoder)
    names = ["in.nut", "out-cut-cut.mkv", "out-cut.mkv"]
    assert sorted(path.name for path in tmp_path.iterdir()) == names


def test_a_file_that_cannot_be_replaced_costs_nothing(
    clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A player has it open (Windows), or it is another user's in a folder such as /tmp."""
    output, replace = tmp_path / "out.mkv", Path.replace
    output.write_bytes(b"another's")

    def held(self: Path, target: Path) -> Path:
        if target == output:
            raise PermissionError(errno.EPERM, os.strerror(errno.EPERM))
        return replace(self, target)

    monkeypatch.setattr(Path, "replace", held)
    with pytest.raises(CarfixError, match=r"out\.mkv cannot be replaced .*out-new\.mkv"):
        into(output, clip, Adding(0), overwrite=True)
    assert output.read_bytes() == b"another's"
    assert len(media.frame_times(tmp_path / "out-new.mkv")) == 30


def test_the_command(clip: Path, tmp_path: Path) -> None:
    model = save_awake(tmp_path / "awake.safetensors")
    program = [sys.executable, "-c", "from carfix.cli import main; main()", "restore", "-m", str(model)]
    done = subprocess.run(
        [*program, "-", "-", "-f", "y4m"], input=clip.read_bytes(), capture_output=True, check=True
    )
    assert done.stdout.startswith(b"YUV4MPEG2 W64 H48")
    assert b"30 frames" in done.stderr
    output = tmp_path / "out.mp4"
    subprocess.run([*program, "-", str(output)], input=done.stdout, capture_output=True, check=True)
    assert len(media.frame_times(output)) == 30
    assert sorted(path.name for path in tmp_path.iterdir()) == ["awake.safetensors", "in.nut", "out.mp4"]


@pytest.mark.parametrize("suffix", [".mp4", ".mov"])
def test_times_are_exact_where_a_stream_begins_between_milliseconds(suffix: str, tmp_path: Path) -> None:
    """As transport streams of 29.97 frames a second do."""
    source = media.write_clip(
        tmp_path / "in.ts",
        frames=6,
        time_base=Fraction(1, 90_000),
        times=[132_006 + 3003 * i for i in range(6)],
        sounds=[media.Sound(seconds=0.3)],
    )
    into(tmp_path / f"out{suffix}", source, Adding())
    assert media.frame_times(tmp_path / f"out{suffix}") == media.frame_times(source)


@pytest.mark.parametrize("suffix", [".mp4", ".avi"])
def test_a_pause_that_the_container_has_no_room_for_is_named(suffix: str, tmp_path: Path) -> None:
    """It was told as "Invalid argument", or as not yet implemented in FFmpeg."""
    times = [3600 * n + (0 if n < 8 else 7 * 3600 * 90_000) for n in range(24)]
    source = media.write_clip(tmp_path / "in.ts", time_base=Fraction(1, 90_000), times=times)
    with pytest.raises(
        CarfixError, match=r"cannot hold the pause of 25\d\d\d\.\d s at .*; use a name in \.mkv"
    ):
        into(tmp_path / f"out{suffix}", source, Adding(0))
    assert not (tmp_path / f"out{suffix}").exists()
    into(tmp_path / "out.mkv", source, Adding(0))
