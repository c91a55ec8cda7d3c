"""Damaged H.264 looks the same in every run: what could not be decoded is concealed, not left to chance."""

from pathlib import Path

import av
import media
import numpy as np
import pytest
from av.codec import Codec
from av.codec.context import CodecContext

from carfix.quality.damage import Damage
from carfix.quality.reader import read_frames
from carfix.restore.restored import restored_frames
from carfix.video.concealment import conceal


def test_one_thread_has_the_whole_frame_where_others_would_not_conceal() -> None:
    for name, threads in (("h264", 1), ("hevc", 0), ("mpeg4", 0)):
        context = CodecContext.create(Codec(name, "r"))
        context.thread_count = 0
        conceal(context)
        assert context.thread_count == threads


@pytest.fixture
def damaged(tmp_path: Path) -> Path:
    """Slices that break off in the middle."""
    options = {"g": "12", "bf": "0", "crf": "24", "slices": "1"}
    clip = media.write_clip(tmp_path / "whole.h264", width=320, height=192, frames=24, options=options)
    data = bytearray(clip.read_bytes())
    starts = [n for n in range(len(data) - 4) if data[n : n + 3] == b"\0\0\1" and data[n + 3] & 31 in (1, 5)]
    for number in (5, 16):
        start, stop = starts[number : number + 2]
        middle = start + (stop - start) // 3
        data[middle : middle + 24] = b"\x55" * 24
    path = tmp_path / "damaged.h264"
    path.write_bytes(data)
    return path


def by_one_thread(path: Path) -> list[np.ndarray]:
    with av.open(str(path)) as container:
        context = container.streams.video[0].codec_context
        context.thread_count = 1
        return [frame.to_ndarray()[: frame.height] for frame in container.decode(video=0)]


def test_damaged_frames_are_those_of_a_decoder_that_conceals(damaged: Path) -> None:
    expected = by_one_thread(damaged)
    measured = [frame.luma for frame in read_frames(damaged, damage=Damage())]
    restored = [
        frame.to_ndarray()[: frame.height]
        for frame in restored_frames(damaged, model="tiny", device="cpu", strength=0.0)
    ]
    assert len(expected) == len(measured) == len(restored)
    for planes in (measured, restored):
        assert all(np.array_equal(*pair) for pair in zip(planes, expected, strict=True))
