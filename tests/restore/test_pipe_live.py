"""A camera behind a pipe: its frames go out as they come, not when a buffer is full of them."""

import io
import os
import sys
import threading
import time
from pathlib import Path
from typing import Any

import media
import pytest
from engines import Adding, Failing, Overlapped
from jobs import restore
from rich.console import Console

from carfix.errors import CarfixError
from carfix.restore.models import EngineChoice
from carfix.restore.pipe_reader import PIPE
from carfix.restore.run import restore_through_pipe
from carfix.restore.telling import Teller
from carfix.video.encoder_settings import EncoderSettings

#: Frames of which neither buffer of Python's is full.
WIDTH, HEIGHT = 32, 24
#: Seconds in which they have come out, on the busiest machine.
PATIENCE = 10.0


class Live:
    """Standard input and output of a run that takes what a camera sends, and gives raw frames to a detector."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, engine: Adding) -> None:
        stdin, self._camera = os.pipe()
        self._detector, stdout = os.pipe()
        self._stdin, self._stdout = os.fdopen(stdin, "r"), os.fdopen(stdout, "w")
        monkeypatch.setattr(sys, "stdin", self._stdin)
        monkeypatch.setattr(sys, "stdout", self._stdout)
        self._options: dict[str, Any] = {
            "teller": Teller(Console(file=io.StringIO()), mode="none", quiet=True, many=False, log=None),
            "overwrite": False,
            "strict": False,
            "format": "rawvideo",
            "choice": EngineChoice(model=engine),
        }
        self.failure: CarfixError | None = None
        self._run = threading.Thread(target=self._restore)
        self._reading = threading.Thread(target=self._read)
        self._came = 0

    def __enter__(self) -> "Live":
        self._run.start()
        self._reading.start()
        return self

    def send(self, frames: int) -> None:
        """The first frames of a camera."""
        os.write(self._camera, f"YUV4MPEG2 W{WIDTH} H{HEIGHT} F5:1 Ip C420jpeg\n".encode())
        for index in range(frames):
            os.write(self._camera, b"FRAME\n" + media.picture(index, WIDTH, HEIGHT).to_ndarray().tobytes())

    def await_frames(self, wanted: int) -> int:
        """How many frames have come out, while the camera is silent."""
        size = WIDTH * HEIGHT * 3 // 2
        until = time.monotonic() + PATIENCE
        while self._came < wanted * size and time.monotonic() < until:
            time.sleep(0.01)
        return self._came // size

    def has_ended(self) -> bool:
        """Whether the run ends by itself, while the camera is silent."""
        self._run.join(PATIENCE)
        return not self._run.is_alive()

    def _restore(self) -> None:
        try:
            restore_through_pipe(PIPE, PIPE, **self._options)
        except CarfixError as error:
            self.failure = error

    def _read(self) -> None:
        while data := os.read(self._detector, 1 << 16):
            self._came += len(data)

    def __exit__(self, *exc: object) -> None:
        os.close(self._camera)
        self._run.join()
        self._stdout.close()
        self._reading.join()
        self._stdin.close()
        os.close(self._detector)


@pytest.mark.parametrize("engine", [Adding(1, batch=1), Overlapped(1, batch=4, depth=3)])
def test_a_frame_waits_for_the_next_one_alone(engine: Adding, monkeypatch: pytest.MonkeyPatch) -> None:
    """Which tells a clock that was set back; not in buffers of Python's, for a batch, or for B-frames."""
    with Live(monkeypatch, engine) as live:
        live.send(5)
        came = live.await_frames(4)
    assert came == 4


@pytest.mark.skipif(os.name == "nt", reason="there nobody can tell whether a pipe has something to read")
def test_a_silent_camera_does_not_hold_up_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a run that failed or was interrupted: it waited for the next packet, or ended five seconds later in pieces."""
    with Live(monkeypatch, Failing(1, CarfixError("broken down"))) as live:
        live.send(5)
        ended = live.has_ended()
    assert ended and str(live.failure) == "broken down"


def test_zerolatency_leaves_no_frame_in_x264(tmp_path: Path) -> None:
    """As with FFmpeg: a core that has a frame for itself holds it back until the others' are done."""
    clip = media.write_clip(tmp_path / "in.mkv", height=256)
    for tune, slices in (("zerolatency", True), (None, False)):
        output = tmp_path / f"{tune}.mkv"
        restore(clip, output, encoder=EncoderSettings(tune=tune, options={"threads": "2"}))
        assert (b"sliced_threads=1" in output.read_bytes()) is slices
