"""A restore in a process of its own that can be killed at any moment, or at an exact step."""

import atexit
import gc
import multiprocessing
import os
import random
import shutil
import signal
import time
from collections.abc import Callable, Sequence
from multiprocessing.process import BaseProcess
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from carfix.errors import EXIT_INTERRUPTED, CarfixError
from carfix.restore.engine.tune_cache import TuneCache, cache_folder
from carfix.restore.one_file import restore_video
from carfix.restore.report import Progress
from carfix.restore.state import discard_state
from carfix.video.encoder_settings import EncoderSettings

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

    def restore(self, planes: Any, bit_depth: int, strengths: Any = None) -> Any:  # noqa: ANN401
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


class Told(Slow):
    """Is told to end, as `earlyoom` does it, where frames have a certain width."""

    def __init__(self, width: int, *, busy: bool = False) -> None:
        """`busy`: with a window that takes longer than a process that was told to end is there."""
        super().__init__()
        self._width = width
        self._busy = busy

    def restore(self, planes: Any, bit_depth: int, strengths: Any = None) -> Any:  # noqa: ANN401
        if planes.shape[-1] == self._width:
            if self._busy:
                os._exit(EXIT_INTERRUPTED)
            os.kill(os.getpid(), signal.SIGTERM)
        return super().restore(planes, bit_depth, strengths)


class Crashing(Slow):
    """Takes its process down, as a broken codec or the kernel short of memory does."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self._width = width

    def restore(self, planes: Any, bit_depth: int, strengths: Any = None) -> Any:  # noqa: ANN401
        if planes.shape[2] == self._width:
            os.kill(os.getpid(), signal.SIGSEGV)
        return super().restore(planes, bit_depth)


class Timed(Slow):
    """Told by the process that was the first to find something out, as the quickest engine is by timing."""

    def restore(self, planes: Any, bit_depth: int, strengths: Any = None) -> Any:  # noqa: ANN401
        first = TuneCache(cache_folder()).get_or_find({"of": "tests"}, int, os.getpid)
        self.description = f"timed by {first}"
        return super().restore(planes, bit_depth)


class Leaving(Slow):
    """Tells a file how many objects its process, as it ends, is spared to look through for garbage."""

    def __init__(self, told: Path) -> None:
        super().__init__()
        self._told = told

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        atexit.register(lambda: self._told.write_text(str(gc.get_freeze_count())))


#: Ways to harm a file; every one is given the bytes and a source of chance.
def _flip(data: bytearray, chance: random.Random) -> None:
    for _ in range(chance.choice((1, 5, 50))):
        data[chance.randrange(len(data))] ^= 1 << chance.randrange(8)


def _cut(data: bytearray, chance: random.Random) -> None:
    del data[chance.randrange(len(data)) :]


def _blank(data: bytearray, chance: random.Random) -> None:
    start = chance.randrange(len(data))
    end = min(len(data), start + chance.choice((16, 300, 4000)))
    data[start:end] = bytes(end - start)


def _splice(data: bytearray, chance: random.Random) -> None:
    start, end = sorted(chance.randrange(len(data)) for _ in range(2))
    place = chance.randrange(len(data))
    data[place:place] = data[start : min(end, start + 5000)]


def mutated(data: bytes, seed: int) -> bytes:
    """`data` harmed in a way that `seed` decides."""
    chance = random.Random(seed)
    harmed = bytearray(data)
    for harm in chance.sample((_flip, _cut, _blank, _splice), chance.choice((1, 1, 2))):
        harm(harmed, chance)
        if not harmed:
            harmed = bytearray(b"\0")
    return bytes(harmed)


def restore_mutants(source: Path, folder: Path, seeds: Sequence[int], limit: float, log: Path) -> None:
    """Restore mutants of `source`; write a line for each to `log` before and after, and what was wrong."""
    data = source.read_bytes()
    with log.open("w", buffering=1) as lines:
        for seed in seeds:
            lines.write(f"{seed} ")
            victim = folder / f"{seed}{source.suffix}"
            victim.write_bytes(mutated(data, seed))
            output = folder / f"{seed}.out.mkv"
            signal.setitimer(signal.ITIMER_REAL, limit)  # the default action of SIGALRM ends the process
            try:
                restore_video(
                    source=victim, output=output, model=Slow(), encoder=ENCODER, segment_seconds=SEGMENT
                )
            except CarfixError as error:
                good = not output.exists() and "\n" not in str(error)
                lines.write(f"{'refused' if good else 'BAD'}: {' '.join(str(error).split())}\n")
            except BaseException as error:  # noqa: BLE001 - what must not happen is what is looked for
                lines.write(f"BAD: {type(error).__name__}: {error}\n")
            else:
                lines.write("restored\n")
            signal.setitimer(signal.ITIMER_REAL, 0)
            for path in (victim, output):
                path.unlink(missing_ok=True)
            discard_state(output)


def resident(source: Path, output: Path, samples: Path, at: Sequence[int]) -> None:
    """Restore, and write the resident memory in pages after each of these numbers of frames to `samples`."""
    found: list[str] = []

    def sample(progress: Progress) -> None:
        if progress.phase == "restoring" and progress.done in at:
            found.append(Path("/proc/self/statm").read_text().split()[1])

    restore_video(
        source=source, output=output, model=Slow(), encoder=ENCODER, segment_seconds=2, progress=sample
    )
    samples.write_text(" ".join(found))


def sync_as_windows(descriptor: int) -> None:
    """`os.fsync` as Windows has it, which refuses what is open for reading alone."""
    os.write(descriptor, b"")
