"""Upload, computation and download: three queues of a GPU that run beside each other, or one thing after another.

All that differs between a CUDA device and the others as far as order and host memory go is here; the same engine
code runs on a CPU, where its results are tested.
"""

import contextlib
import time
from collections.abc import Callable, Iterator
from typing import Protocol

import torch
from torch import Tensor

#: What can run beside each other.
UPLOAD, COMPUTE, DOWNLOAD = "upload", "compute", "download"


class Mark(Protocol):
    """A point in a queue: reached when everything that was queued before it is done."""

    def synchronize(self) -> None:
        """Wait for it."""
        ...


class Queues(Protocol):
    """Where work of the three kinds is put."""

    def host_buffer(self, shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
        """Zeroed host memory that the device copies from and to while the CPU goes on."""
        ...

    def on(self, queue: str, after: Mark | None = None) -> contextlib.AbstractContextManager[None]:
        """What is computed inside goes to `queue`, not before `after` is reached."""
        ...

    def mark(self, queue: str) -> Mark:
        """The present end of `queue`."""
        ...

    def synchronize(self) -> None:
        """Wait until all queues are empty."""
        ...


class InOrder:
    """CPU and MPS: everything happens in the order of the calls, and may be done later on MPS."""

    def __init__(self, device: torch.device) -> None:
        self._device = device

    def host_buffer(self, shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
        """See `Queues.host_buffer`."""
        return torch.zeros(shape, dtype=dtype)

    @contextlib.contextmanager
    def on(self, queue: str, after: Mark | None = None) -> Iterator[None]:
        """See `Queues.on`."""
        yield

    def mark(self, queue: str) -> Mark:
        """See `Queues.mark`; the end of everything that was queued until it is waited for."""
        return self

    def synchronize(self) -> None:
        """See `Queues.synchronize`."""
        if self._device.type == "mps":  # whose copies to the host are under way, too, when the call returns
            torch.mps.synchronize()


class CudaStreams:
    """Three streams, and events between them; pinned host memory, which copies need to run beside anything."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._streams = {
            name: torch.cuda.Stream(device)  # type: ignore[no-untyped-call] # torch's stubs
            for name in (UPLOAD, COMPUTE, DOWNLOAD)
        }

    def host_buffer(self, shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
        """See `Queues.host_buffer`."""
        return torch.zeros(shape, dtype=dtype, pin_memory=True)

    @contextlib.contextmanager
    def on(self, queue: str, after: Mark | None = None) -> Iterator[None]:
        """See `Queues.on`."""
        stream = self._streams[queue]
        if isinstance(after, torch.cuda.Event):
            stream.wait_event(after)
        with torch.cuda.device(self._device), torch.cuda.stream(stream):
            yield

    def mark(self, queue: str) -> Mark:
        """See `Queues.mark`."""
        # Blocking: who waits leaves the core to those who decode and encode.
        event = torch.cuda.Event(blocking=True)  # type: ignore[no-untyped-call] # torch's stubs
        event.record(self._streams[queue])
        return event

    def synchronize(self) -> None:
        """See `Queues.synchronize`."""
        for stream in self._streams.values():
            stream.synchronize()


def queues_of(device: torch.device) -> Queues:
    """The queues that `device` has."""
    return CudaStreams(device) if device.type == "cuda" else InOrder(device)


def seconds_of(work: Callable[[], object], queues: Queues, *, least: float, rounds: int) -> float:
    """Seconds that `work`, which puts things on the compute queue, takes once it is warm: the median round's.

    A round repeats it for about `least` seconds, so that the clock's and the launches' grain does not count.
    """

    def timed(repeats: int) -> float:
        queues.synchronize()
        began = time.perf_counter()
        with queues.on(COMPUTE):
            for _ in range(repeats):
                work()
        queues.synchronize()
        return (time.perf_counter() - began) / repeats

    timed(1)
    repeats = max(1, round(least / max(timed(1), 1e-6)))
    return sorted(timed(repeats) for _ in range(rounds))[rounds // 2]
