"""A restore in a process of its own that can be killed at any moment, or at an exact step."""

import multiprocessing
import os
import shutil
import signal
import time
from collections.abc import Callable
from multiprocessing.process import BaseProcess
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from carfix.restore.job import restore_video
from carfix.video.encoder import EncoderSettings

#: One thread, so that a killed and resumed run is compared with the same encoder.
ENCODER = EncoderSettings(preset="ultrafast", options={"bf": "2", "b_strategy": "0", "threads": "1"})
SEGMENT = 0.2


class Slow:
    """An engine without torch, whose processes start at once: it inverts, in a time that lets a kill arrive."""

    description = "inverts"
    batch = 1
    model = SimpleNamespace(description=SimpleNamespace(name="slow", sha256="0" * 64))

    def __init__(self, delay: float = 0.0) -> None:
        self._delay = delay

    def restore(self, planes: Any, bit_depth: int) -> Any:  # noqa: ANN401
        time.sleep(self._delay * len(planes))
        return (1 << bit_depth) - 1 - planes

    def close(self) -> None:
        pass


def run(source: Path, output: Path, delay: float = 0.0, kill_at: int | None = None) -> None:
    """Restore; with `kill_at`, die without warning just before that one of the steps that make work durable."""
    if kill_at is not None:
        _kill_at(kill_at)
    restore_video(
        source=source,
        output=output,
        model=Slow(delay),
        encoder=ENCODER,
        segment_seconds=SEGMENT,
        overwrite=True,
    )


def _kill_at(step: int) -> None:
    count = 0

    def counted(function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:  # noqa: ANN401
            nonlocal count
            if count == step:
                os.kill(os.getpid(), signal.SIGKILL)
            count += 1
            return function(*args, **kwargs)

        return call

    os.fsync = counted(os.fsync)
    Path.replace = counted(Path.replace)  # type: ignore[method-assign]
    Path.unlink = counted(Path.unlink)  # type: ignore[method-assign]
    Path.mkdir = counted(Path.mkdir)  # type: ignore[method-assign]
    shutil.rmtree = counted(shutil.rmtree)


def start(function: Callable[..., None], *args: Any) -> BaseProcess:  # noqa: ANN401
    """Run `function` in a process that starts in milliseconds."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["faults"])
    process = context.Process(target=function, args=args)
    process.start()
    return process


class Crashing(Slow):
    """Takes its process down, as a broken codec or the kernel short of memory does."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self._width = width

    def restore(self, planes: Any, bit_depth: int) -> Any:  # noqa: ANN401
        if planes.shape[2] == self._width:
            os.kill(os.getpid(), signal.SIGSEGV)
        return super().restore(planes, bit_depth)
