"""FFmpeg's and the system's errors, told in words that say what to do."""

import contextlib
import errno
import threading
from collections.abc import Iterator, Sequence
from typing import Any

import av
import av.error
import av.logging

from carfix.scratch import FULL

#: What PyAV raises when a container, codec or file does not do what was asked. PyAV reports a codec or format
#: that it refuses as a plain ValueError.
MEDIA_ERRORS = (av.error.FFmpegError, OSError, ValueError)

#: What the system's own words do not tell: what to do about it.
_TOLD = {errno.EFBIG: "the file would get larger than its disk takes (FAT: 4 GB) or than `ulimit -f` allows"}

#: FFmpeg's log level is one per process, so only one place may turn it up at a time.
_log_lock = threading.Lock()


def reason(error: BaseException) -> str:
    """What went wrong, as one line without FFmpeg's call names."""
    if isinstance(error, av.error.FFmpegError):
        if error.errno in FULL:
            return "the disk is full"
        line: Any = error.log  # level, who logged, and what: PyAV's stubs say otherwise
        log = " ".join(line[-1].split()) if line else ""
        if isinstance(error, av.error.InvalidDataError):
            return log or "it is not a video that FFmpeg can read, or it is damaged"
        if isinstance(error, av.error.EOFError):
            return log or "there is neither picture nor sound in it"
        if error.errno == errno.EAGAIN:  # a decoder could not start its threads
            return log or "there is no more memory, or no more threads, for this process"
        if isinstance(error, av.error.ExternalError):
            return log or "one of FFmpeg's libraries failed and does not say why; memory may have run out"
        return _TOLD.get(error.errno or 0) or log or error.strerror or str(error)
    if isinstance(error, OSError):
        if error.errno in FULL:
            return "the disk is full"
        return _TOLD.get(error.errno or 0) or error.strerror or str(error)
    return str(error) or type(error).__name__


def unread(error: BaseException) -> str:
    """`reason`, of an error that ended the reading of packets."""
    if isinstance(error, av.error.FFmpegError) and error.errno == errno.ENOMEM:
        return "a packet states an impossible size"  # one that is as large as it says fits into any memory
    return reason(error)


@contextlib.contextmanager
def captured_log(level: int = av.logging.WARNING) -> Iterator[list[tuple[int, str, str]]]:
    """FFmpeg's log lines of this thread while the block runs, as (level, origin, text).

    Only for short calls that start no work in other threads: FFmpeg's log callback needs Python's lock, and a
    codec that logs from its own threads while one of PyAV's calls holds it would wait for ever.
    """
    with _log_lock:
        previous = av.logging.get_level()
        av.logging.set_level(level)
        av.logging.set_libav_level(level)
        try:
            with av.logging.Capture() as lines:
                yield lines
        finally:
            av.logging.set_libav_level(av.logging.INFO)
            av.logging.set_level(previous)


def said(lines: Sequence[tuple[int, str, str]], level: int = av.logging.ERROR) -> list[str]:
    """The lines of a captured log that are at least as grave as `level`.

    FFmpeg's log comes in pieces; what is too short to be a word is the rest of a line that was cut up.
    """
    return [" ".join(text.split()) for grade, _, text in lines if grade <= level and len(text.strip()) > 2]
