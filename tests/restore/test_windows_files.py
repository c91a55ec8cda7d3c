"""Files on Windows, as far as Linux can play it: what is open there can be neither renamed nor removed."""

import errno
import io
import runpy
import sys
from pathlib import Path
from types import SimpleNamespace

import faults
import pytest
from engines import Adding
from rich.console import Console
from windows import refuse_as_windows

from carfix import lock
from carfix.errors import CarfixError
from carfix.restore import state
from carfix.restore.models import EngineChoice
from carfix.restore.one_file import restore_video
from carfix.restore.run import restore_through_pipe
from carfix.restore.state import discard_state, open_state, state_folder
from carfix.restore.telling import Teller
from carfix.video.encoder_settings import EncoderSettings

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="asks Linux which files are open")


def test_a_restore_is_whole_and_leaves_nothing_behind(
    clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    refuse_as_windows(monkeypatch)
    output = tmp_path / "out.mp4"
    for _ in range(2):
        restore_video(
            source=clip,
            output=output,
            model=faults.Slow(),
            encoder=faults.ENCODER,
            segment_seconds=faults.SEGMENT,
            overwrite=True,
        )
        assert sorted(tmp_path.iterdir()) == [clip, output]


def test_what_a_killed_run_left_is_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    refuse_as_windows(monkeypatch)
    folder = state_folder(tmp_path / "out.mp4")
    folder.mkdir()
    (folder / "000000.seg").write_bytes(b"")
    discard_state(tmp_path / "out.mp4")
    assert not folder.exists()


@pytest.mark.parametrize(
    ("suffix", "encoder"),
    [
        (".mxf", EncoderSettings()),
        (".mkv", EncoderSettings(codec="rawvideo", pix_fmt="yuv420p10le")),
    ],
)
def test_a_refusal_is_told_where_the_muxer_holds_its_file(
    suffix: str, encoder: EncoderSettings, clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    refuse_as_windows(monkeypatch)
    for pipe in (False, True):
        with pytest.raises(CarfixError, match=r"cannot (hold|write the output)"):
            refused(clip, tmp_path / f"out{suffix}", encoder, pipe=pipe)


def refused(source: Path, output: Path, encoder: EncoderSettings, *, pipe: bool) -> None:
    if not pipe:
        restore_video(source=source, output=output, model=Adding(), encoder=encoder, audio_codec="none")
        return
    restore_through_pipe(
        source,
        output,
        teller=Teller(Console(file=io.StringIO()), mode="none", quiet=True, many=False, log=None),
        overwrite=False,
        strict=False,
        format=None,
        encoder=encoder,
        audio_codec="none",
        choice=EngineChoice(model=Adding()),
    )


def test_two_runs_for_one_output_are_kept_apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import fcntl

    def locking(descriptor: int, mode: int, count: int) -> None:
        assert (mode, count) == (2, 1)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise PermissionError(errno.EACCES, "Permission denied") from None

    monkeypatch.setitem(sys.modules, "msvcrt", SimpleNamespace(locking=locking, LK_NBLCK=2))  # type: ignore[misc]
    monkeypatch.setattr(sys, "platform", "win32")
    monkeypatch.setattr(state, "lock_file", runpy.run_path(lock.__file__)["lock_file"])
    monkeypatch.setattr(state, "WINDOWS", True)
    output = tmp_path / "out.mp4"
    with open_state(output) as first:
        with pytest.raises(CarfixError, match="another carfix is at work"), open_state(output):
            pass
        discard_state(output)
        assert state_folder(output).is_dir()
        first.discard()
    assert not state_folder(output).exists()
    with open_state(output):
        pass
