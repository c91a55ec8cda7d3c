"""What is said where no error of carfix's own was raised."""

import errno

import av.error
import pytest

from carfix.errors import internal
from carfix.video.faults import reason


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        RuntimeError("can't start new thread"),
        RuntimeError("[enforce fail at alloc_cpu.cpp:117] DefaultCPUAllocator: can't allocate memory"),
        RuntimeError("std::bad_alloc"),
        ImportError("libx265.so.216: failed to map segment from shared object"),
    ],
)
def test_a_want_of_memory_is_called_so(error: Exception) -> None:
    said = internal(error, "here")
    assert "no more memory" in said and str(error) in said
    assert "internal error" not in said


def test_other_errors_are_to_be_reported() -> None:
    said = internal(KeyError("shape"), "run.py:12")
    assert said == "internal error: KeyError: 'shape' (run.py:12)"


def test_ffmpeg_without_memory_is_called_so() -> None:
    """As it tells them, neither says what is wanting."""
    threads = av.error.BlockingIOError(errno.EAGAIN, "Resource temporarily unavailable")
    library = av.error.ExternalError(0, "Generic error in an external library")
    for error in (threads, library):
        assert "memory" in reason(error)
