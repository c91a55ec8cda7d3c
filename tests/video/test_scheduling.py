"""The scheduling of threads survives an encoder that wants realtime priority."""

import os
import sys
from pathlib import Path

import media
import numpy as np
import pytest
from engines import Adding

from carfix.restore.engine import Planes, Strengths
from carfix.restore.models import EngineChoice
from carfix.restore.one_file import restore_video
from carfix.restore.pipe import restore_pipe
from carfix.training.encoding import Encoding, encode
from carfix.video.encoder_settings import EncoderSettings
from carfix.video.scheduling import kept_scheduling, thread_policies

if sys.platform != "linux":
    pytest.skip("threads are scheduled one by one on Linux alone", allow_module_level=True)

ORDINARY = os.sched_getscheduler(0)
SVT = EncoderSettings(codec="libsvtav1", preset="12")


def can_be_realtime() -> bool:
    try:
        with kept_scheduling():
            os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1))
    except PermissionError:
        return False
    return True


# Realtime priority is root's alone; elsewhere encoders cannot ask for it either, and there is nothing to undo.
needs_privilege = pytest.mark.skipif(not can_be_realtime(), reason="this user may not have realtime threads")


class Watching(Adding):
    """Notes how every thread of the process is scheduled when the last frames go through.

    By then the encoder is open: the queue to it holds fewer frames than the clip has.
    """

    def __init__(self) -> None:
        super().__init__(0)
        self.seen: set[int] = set()

    def restore(self, planes: Planes, bit_depth: int, strengths: Strengths | None = None) -> Planes:
        self.seen = set(thread_policies().values())
        return super().restore(planes, bit_depth)


@needs_privilege
def test_a_thread_made_realtime_comes_back() -> None:
    with pytest.raises(ValueError, match="stop"), kept_scheduling():
        os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(5))
        raise ValueError("stop")
    assert os.sched_getscheduler(0) == ORDINARY


@needs_privilege
def test_a_process_that_was_realtime_stays_so() -> None:
    """Someone ran carfix under `chrt`: not ours to undo."""
    parameters = os.sched_getparam(0)
    os.sched_setscheduler(0, os.SCHED_RR, os.sched_param(3))
    try:
        with kept_scheduling():
            os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(99))
        assert (os.sched_getscheduler(0), os.sched_getparam(0).sched_priority) == (os.SCHED_RR, 3)
    finally:
        os.sched_setscheduler(0, ORDINARY, parameters)


@needs_privilege
def test_restoring_to_av1_leaves_no_realtime_thread(tmp_path: Path) -> None:
    """SVT-AV1 asks for the highest realtime priority when root opens it, for carfix's own thread too."""
    source = media.write_clip(tmp_path / "in.mp4", frames=60)
    for run in ("file", "pipe"):
        engine = Watching()
        if run == "file":
            restore_video(source=source, output=tmp_path / "out.mkv", model=engine, encoder=SVT)
        else:
            restore_pipe(
                source=source, output=tmp_path / "out.nut", choice=EngineChoice(model=engine), encoder=SVT
            )
        assert not engine.seen & {os.SCHED_FIFO, os.SCHED_RR}, run
        assert os.sched_getscheduler(0) == ORDINARY


@needs_privilege
def test_a_dataset_in_av1_leaves_no_realtime_thread(tmp_path: Path) -> None:
    luma = np.zeros((3, 64, 96), np.uint8)
    encode(tmp_path / "out.mp4", luma, media.RATE, Encoding(codec="libsvtav1", crf=40, preset="12", gop=50))
    assert not set(thread_policies().values()) & {os.SCHED_FIFO, os.SCHED_RR}
