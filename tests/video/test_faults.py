"""Errors in words that say what to do."""

import errno
import os

import av.error
import pytest

from carfix.video.faults import reason


def of_ffmpeg(code: int) -> BaseException:
    with pytest.raises(av.error.FFmpegError) as raised:
        av.error.err_check(-code)
    return raised.value


@pytest.mark.parametrize(("code", "words"), [(errno.ENOSPC, "disk is full"), (errno.EFBIG, "FAT")])
def test_a_disk_that_takes_no_more_is_told_alike_by_all(code: int, words: str) -> None:
    for error in (OSError(code, os.strerror(code)), of_ffmpeg(code)):
        assert words in reason(error)


def test_a_library_that_gives_no_reason_may_lack_memory() -> None:
    assert "memory" in reason(of_ffmpeg(av.error.tag_to_code(b"EXT ")))
