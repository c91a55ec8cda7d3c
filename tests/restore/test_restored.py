"""Frames for a program: those that a restored file would hold."""

import math
import subprocess
import sys
import threading
from collections.abc import Callable, Iterable, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import media
import numpy as np
import pytest
from av.video.frame import VideoFrame
from engines import Adding, Failing
from jobs import LOSSLESS, restore
from networks import save_awake

import carfix
from carfix.errors import CarfixError, UsageError
from carfix.net.checkpoint import Model
from carfix.restore.engine import choose
from carfix.video.timeline import scan

SAMPLE = Path(__file__).parents[1] / "data" / "highway.mp4"


def planes(frame: VideoFrame) -> list[bytes]:
    """The codes of every plane, without the padding that rows may have."""
    return [
        np.frombuffer(plane, np.uint8).reshape(plane.height, plane.line_size)[:, : plane.width].tobytes()
        for plane in frame.planes
    ]


def assert_equal(found: Iterable[VideoFrame], path: Path) -> int:
    """Frame by frame the video that `path` holds, colour and times included. Returns how many."""
    count = 0
    with av.open(str(path)) as container:
        for frame, wanted in zip(found, container.decode(video=0), strict=True):
            assert frame.format.name == wanted.format.name
            assert planes(frame) == planes(wanted)
            assert abs(frame.time - wanted.time) <= 1e-6
            count += 1
    return count


def test_they_are_those_of_a_file_with_shares_and_held_regions(tmp_path: Path) -> None:
    options = {"model": "tiny", "device": "cpu", "precision": "fp32", "start": 0.5, "duration": 0.6}
    output = tmp_path / "out.nut"
    restore(SAMPLE, output, encoder=LOSSLESS, segment_seconds=20, **options)
    said: list[str] = []
    frames = list(carfix.restored_frames(SAMPLE, say=said.append, **options))  # type: ignore[arg-type]
    assert "strength by quantizer" in "".join(said)
    with av.open(str(output)) as container:
        times = [frame.time for frame in container.decode(video=0)]
    assert len(frames) == len(times) == 18
    # The file begins at 0; the frames keep the times of their source.
    assert np.allclose(np.array([frame.time for frame in frames]) - 0.5, times, atol=0.02)
    for frame, wanted in zip(frames, media.planes(output), strict=True):
        assert np.array_equal(frame.to_ndarray()[: frame.height], wanted)


def test_segments_odd_times_and_b_frames(tmp_path: Path) -> None:
    clip = media.write_clip(
        tmp_path / "in.nut",
        frames=50,
        rate=Fraction(1),
        times=[70_000 + i * 12_800 + (i % 3) * 40 for i in range(50)],
    )
    output = tmp_path / "out.nut"
    restore(clip, output, model=Adding(3), encoder=LOSSLESS, segment_seconds=20)
    assert assert_equal(carfix.restored_frames(clip, model=Adding(3)), output) == 50
    for frame, decoded in zip(
        carfix.restored_frames(str(clip), model=Adding(3)), media.planes(clip), strict=True
    ):
        assert np.array_equal(frame.to_ndarray()[: frame.height], decoded + 3)


def test_networks_are_taken_by_path_and_loaded(tmp_path: Path) -> None:
    clip = media.write_clip(tmp_path / "in.mp4", frames=3)
    weights = save_awake(tmp_path / "awake.safetensors")
    options = {"device": "cpu", "precision": "fp32", "strength": 1.0}
    found = [
        [planes(frame) for frame in carfix.restored_frames(clip, model=model, **options)]  # type: ignore[arg-type]
        for model in (str(weights), weights, carfix.load_model(weights))
    ]
    assert (
        found[0]
        == found[1]
        == found[2]
        != [planes(frame) for frame in carfix.restored_frames(clip, model=Adding())]
    )
    for number, model in enumerate((weights, carfix.load_model(weights))):
        restore(clip, tmp_path / f"{number}.nut", model=model, encoder=LOSSLESS, **options)
    assert (tmp_path / "0.nut").read_bytes() == (tmp_path / "1.nut").read_bytes()


def test_a_loop_that_is_left_early_leaves_no_thread(tmp_path: Path) -> None:
    clip = media.write_clip(tmp_path / "in.mp4", frames=60)
    before = threading.active_count()
    for frame in carfix.restored_frames(clip, model=Adding(0)):
        if frame.pts:
            break
    del frame
    assert threading.active_count() == before
    assert next(carfix.restored_frames(clip, model=Adding(0))).pts == 0
    assert threading.active_count() == before


def test_a_program_may_end_with_a_loop_half_way(tmp_path: Path) -> None:
    clip = media.write_clip(tmp_path / "in.mp4", frames=60)
    weights = save_awake(tmp_path / "awake.safetensors")
    program = f"""
import carfix, threading, time
frames = carfix.restored_frames({str(clip)!r}, model={str(weights)!r}, device="cpu", precision="fp32", batch=1)
next(frames)
time.sleep(1)  # all that may wait for the program does
assert threading.active_count() > 1
"""
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60)


def test_what_takes_long_before_the_first_frame_is_done_where_ctrl_c_ends_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The look through a long file, and the timing of engines: another thread would go on to its end."""
    clip = media.write_clip(tmp_path / "in.mp4", frames=10)
    weights = save_awake(tmp_path / "awake.safetensors")
    where: list[str] = []

    def seen(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any) -> Any:  # noqa: ANN401 - as `function`
            if threading.current_thread() is threading.main_thread():
                where.append(name)
            return function(*arguments)

        return call

    def measured(model: Model, kinds: Sequence[str]) -> choose.Choice:
        return choose.Choice(kinds[0])

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(choose, "_chosen", {})
    monkeypatch.setattr(choose, "candidates", lambda _: (choose.TORCH_FP32, choose.TORCH_BF16))
    monkeypatch.setattr(choose, "measure", seen("timing", measured))
    monkeypatch.setattr("carfix.video.opening.scan", seen("look", scan))
    assert sum(1 for _ in carfix.restored_frames(clip, model=weights, device="cpu")) == 10
    assert where == ["look", "timing"]


def test_failures_reach_the_caller(tmp_path: Path) -> None:
    clip = media.write_clip(tmp_path / "in.mp4", frames=24)
    with pytest.raises(CarfixError, match="no such file"):
        next(carfix.restored_frames(tmp_path / "none.mp4", model=Adding(0)))
    before = threading.active_count()
    frames = carfix.restored_frames(clip, model=Failing(20, CarfixError("the engine broke")))
    seen = 0
    with pytest.raises(CarfixError, match="the engine broke"):
        for _ in frames:
            seen += 1
    assert seen <= 20
    assert threading.active_count() == before


def test_what_cannot_be_is_refused_before_any_frame(tmp_path: Path) -> None:
    for options, why in (
        ({"pix_fmt": "yuv419p"}, "unknown pixel format"),
        ({"strength": 3.0}, "from 0 to 2"),
        ({"strength": "auto"}, r"None \(auto\), not 'auto'"),
        ({"start": -1.0}, "negative"),
        ({"duration": math.inf}, "-t takes a number of seconds, not inf"),
        ({"stream": -1}, "not -1"),
        ({"tile": 0}, "--tile must be positive"),
        ({"tile": 8, "model": "tiny"}, "--tile 8 is too small for tiny"),
        ({"device": "toaster"}, "--device is auto"),
    ):
        with pytest.raises(UsageError, match=why):
            carfix.restored_frames(tmp_path / "none.mp4", **options)  # type: ignore[arg-type]
    for options in ({"model": "nosuch"}, {"device": "cuda:97"}):
        with pytest.raises(CarfixError, match=r"nosuch|CUDA"):
            carfix.restored_frames(tmp_path / "none.mp4", **options)  # type: ignore[arg-type]


def colours(index: int) -> VideoFrame:
    return VideoFrame.from_ndarray(np.full((48, 64, 3), 40 * index, np.uint8))


def test_colours_without_luma_ask_for_a_format(tmp_path: Path) -> None:
    clip = media.write_clip(tmp_path / "in.mov", codec="png", pix_fmt="rgb24", frames=3, pictures=colours)
    with pytest.raises(CarfixError, match="has no luma"):
        next(carfix.restored_frames(clip, model=Adding(0)))
    frames = list(carfix.restored_frames(clip, model=Adding(0), pix_fmt="yuv444p"))
    assert [frame.format.name for frame in frames] == ["yuv444p"] * 3
