"""Corrections that no encoder's error asks for are not taken; all others are."""

from pathlib import Path

import media
import numpy as np
import pytest
from av.video.frame import VideoFrame
from networks import awake_model
from PIL import Image, ImageDraw, ImageFont

import carfix
from carfix.net.arch import convolution_layers
from carfix.net.checkpoint import save_checkpoint
from carfix.net.config import FastConfig
from carfix.restore import strength as strength_module
from carfix.restore.strength import installed_curve
from carfix.restore.trust import BLOCK, STEEP, STEEP_STEPS, STEPS, Bounds, Trust, bounds_of, trusted


def test_the_bound_is_a_step_of_the_quantizer() -> None:
    assert bounds_of(4).usual == pytest.approx(STEPS)
    assert bounds_of(34) == Bounds(32 * STEPS, 32 * STEPS)
    assert Bounds(2.5, 2.0).at(10) == Bounds(10.0, 8.0, 10)


def test_where_a_picture_looks_coarser_than_told_what_is_told_counts_at_steep_edges() -> None:
    assert bounds_of(40, 16) == Bounds(64 * STEPS, 4 * STEEP_STEPS)
    assert bounds_of(34, 31) == bounds_of(34), "the two are near: both have errors of that size"
    assert bounds_of(34, 40) == bounds_of(34), "a stream that tells more is no reason to trust more"


def test_the_fields_of_an_interlaced_frame_are_looked_at_one_by_one() -> None:
    """What moves between two fields is no text, however steep the edges are that weaving makes of it."""
    decoded = np.full((65, 160), 60, np.uint8)
    decoded[1::2] += int(STEEP[1])
    bounds = bounds_of(44, 10)
    restored = decoded + np.uint8(2 * bounds.steep)
    assert np.array_equal(Trust()(None, decoded, restored, bounds, interlaced=True), restored)
    assert np.array_equal(Trust()(None, decoded, restored, bounds), decoded)
    one_row = Trust()(None, decoded[:1], restored[:1], bounds, interlaced=True)
    assert np.array_equal(one_row, restored[:1])


@pytest.mark.parametrize("bit_depth", [8, 10])
def test_corrections_at_edges_that_no_coarse_picture_has_are_bounded_more_narrowly(bit_depth: int) -> None:
    """Text was written into the right half after the picture had been compressed."""
    scale = 1 << (bit_depth - 8)
    decoded = np.full((64, 160), 90 * scale, np.uint8 if bit_depth == 8 else np.uint16)
    decoded[:, 120:140:4] += int(STEEP[1]) * scale
    bounds = bounds_of(44, 10).at(bit_depth)
    change = decoded.dtype.type(2 * bounds.steep)
    restored = decoded + change
    shown = trusted(decoded, restored, bounds)
    assert np.array_equal(shown[:, :80], restored[:, :80])
    assert np.array_equal(shown[:, 120:136], decoded[:, 120:136])
    soft = np.where(decoded > 90 * scale, decoded - int(STEEP[1] - STEEP[0] + 1) * scale, decoded)
    soft = soft.astype(decoded.dtype)
    assert np.array_equal(trusted(soft, soft + change, bounds), soft + change)


@pytest.mark.parametrize("shape", [(64, 80), (61, 83), (8, 8), (5, 3), (1, 1)])
def test_small_corrections_are_taken_as_they_are(shape: tuple[int, int]) -> None:
    rng = np.random.default_rng(0)
    decoded = rng.integers(20, 230, shape).astype(np.uint8)
    restored = (decoded + rng.integers(-6, 7, shape)).astype(np.uint8)
    assert trusted(decoded, restored, Bounds(6.0, 6.0)) is restored


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_a_large_correction_is_taken_back_with_what_surrounds_it(dtype: type) -> None:
    decoded = np.full((120, 130), 100, dtype)
    restored = decoded + dtype(3)
    restored[60, 70] = 200
    before = restored.copy()
    shown = trusted(decoded, restored, Bounds(10.0, 10.0))
    assert np.array_equal(restored, before) and shown.dtype == dtype
    block = (
        slice(60 // BLOCK * BLOCK, (60 // BLOCK + 1) * BLOCK),
        slice(70 // BLOCK * BLOCK, (70 // BLOCK + 1) * BLOCK),
    )
    assert (shown[block] == 100).all()
    # Two blocks away the correction fades in, four away it is whole.
    changed = np.argwhere(shown != restored)
    assert (changed.min(axis=0) >= (60 // BLOCK - 3) * BLOCK).all() and (shown[:24] == 103).all()
    assert set(np.unique(shown)) == {100, 101, 102, 103}


def test_nothing_runs_over_at_the_ends_of_the_range() -> None:
    decoded = np.array([[0, 255] * 16] * 16, np.uint8)
    assert np.array_equal(trusted(decoded, 255 - decoded, Bounds(4.0, 4.0)), decoded)


def test_a_clock_in_the_picture_stays_legible(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Networks have been trained on such text; of one that has not, the bounds leave out what would spoil it."""
    font = ImageFont.load_default(size=14)

    def picture(index: int) -> VideoFrame:
        frame = media.picture(index, 320, 96)
        plane = frame.planes[0]
        rows = np.frombuffer(plane, np.uint8).reshape(plane.height, plane.line_size)
        image = Image.fromarray(np.ascontiguousarray(rows[:, : plane.width]))
        draw = ImageDraw.Draw(image)
        draw.text((8, 8), "2026-11-27 08:15:33 CAM 04", font=font, fill=235, stroke_width=1, stroke_fill=16)
        rows[:, : plane.width] = np.asarray(image)
        return frame

    clip = media.write_clip(
        tmp_path / "in.mp4", width=320, height=96, frames=6, pictures=picture, options={"crf": "26", "g": "6"}
    )
    wanted = [
        np.frombuffer(picture(n).planes[0], np.uint8).reshape(96, -1)[4:30, :200].astype(int)
        for n in range(6)
    ]

    def error(planes: list[np.ndarray]) -> float:
        return float(
            np.mean([(plane[4:30, :200] - text) ** 2 for plane, text in zip(planes, wanted, strict=True)])
        )

    def restored(model: str, strength: float | None) -> float:
        frames = carfix.restored_frames(clip, model=model, device="cpu", precision="fp32", strength=strength)
        return error([frame.to_ndarray()[:96] for frame in frames])

    decoded = error(media.planes(clip))
    for name in ("tiny", "fast", "car-cnn-mse"):
        assert restored(name, None) < 1.1 * decoded
        assert restored(name, 1.0) < 1.1 * decoded, "who has been trained on it does not spoil it"
    ignorant = awake_model(FastConfig(scale=2, features=8, blocks=1))
    convolution_layers(ignorant.net)[-1].weight.mul_(5)
    save_checkpoint(tmp_path / "ignorant.safetensors", ignorant.net, ignorant.description)
    curve = installed_curve(carfix.load_model("fast").sha256)
    monkeypatch.setattr(strength_module, "installed_curve", lambda _: curve)
    spoilt = restored(str(tmp_path / "ignorant.safetensors"), 1.0)
    assert spoilt > 3 * decoded
    assert restored(str(tmp_path / "ignorant.safetensors"), None) < 0.5 * spoilt
