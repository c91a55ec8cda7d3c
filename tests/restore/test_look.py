"""How coarse pictures look: the small network against torch's convolutions, and what it says of real encodings."""

from pathlib import Path

import av
import numpy as np
import pytest
import torch
from torch.nn import functional

from carfix.net.catalog import load_model
from carfix.quality.reader import read_frames
from carfix.restore import look
from carfix.restore.look import EVERY, FIRST_FRAMES, FIRST_PARTS, PARTS, SIDE, Look, estimator_of, installed
from carfix.restore.strength import DOUBTED, Strength, seen, strength_of

CLIP = Path(__file__).parents[1] / "data" / "highway.mp4"
PRISTINE = CLIP.with_name("highway_pristine.mp4")


def tensors(rng: np.random.Generator) -> dict[str, np.ndarray]:
    inputs, sides, outputs = (3, 4, 5, 6), (4, 3, 3, 3), (4, 5, 6, 7)
    found = {f"kernel{n}": rng.normal(0, 0.3, (outputs[n], inputs[n], sides[n], sides[n])) for n in range(4)}
    found |= {f"bias{n}": rng.normal(0, 0.1, outputs[n]) for n in range(4)}
    found |= {
        "attention": rng.normal(0, 1, 8),
        "hidden": rng.normal(0, 1, (17, 5)),
        "output": rng.normal(0, 1, 6),
    }
    return {name: array.astype(np.float32) for name, array in found.items()}


@pytest.mark.parametrize("told", [None, 31.0])
def test_the_network_is_what_torch_computes(told: float | None) -> None:
    rng = np.random.default_rng(0)
    weights = tensors(rng)
    parts = rng.integers(0, 256, (2, 40, 44)).astype(np.uint8)
    codes = torch.from_numpy(parts)[:, None].double()
    corner = codes[:, :, :-1, :-1]
    across, down = codes[:, :, :-1, 1:] - corner, codes[:, :, 1:, :-1] - corner
    found = torch.cat([across / 4, down / 4, (across + down) / 48], 1).clamp(-1.5, 1.5)
    for n, stride in enumerate((2, 2, 2, 1)):
        kernel, bias = (torch.from_numpy(weights[f"{name}{n}"]).double() for name in ("kernel", "bias"))
        found = functional.leaky_relu(functional.conv2d(found, kernel, bias, stride), 0.1)
    rows = found.permute(0, 2, 3, 1).reshape(-1, 7).numpy()
    attention = np.exp(np.clip(rows @ weights["attention"][:7] + weights["attention"][7], -6, 6))
    attention /= attention.sum()
    mean = attention @ rows
    deviation = np.sqrt(attention @ rows**2 - mean**2 + 1e-4)
    known = [0.0, 0.0] if told is None else [told / 25 - 1, 1.0]
    units = np.concatenate([mean, deviation, known, [1.0]]) @ weights["hidden"]
    units = np.where(units > 0, units, 0.1 * units)
    expected = 28 + 16 * (units @ weights["output"][:5] + weights["output"][5])
    assert estimator_of(weights)(parts, told) == pytest.approx(expected, abs=1e-3)


def test_a_stream_is_believed_unless_its_pictures_look_clearly_coarser() -> None:
    assert seen(None, None) is None
    assert seen(None, 30.0) == 30.0
    assert seen(22.0, None) == 22.0
    for looks in (12.0, 22.0, 22.0 + DOUBTED):
        assert seen(22.0, looks) == 22.0
    assert seen(22.0, 22.0 + 1.5 * DOUBTED) == pytest.approx(22.0 + 0.75 * DOUBTED)
    for looks in (22.0 + 2 * DOUBTED, 40.0):
        assert seen(22.0, looks) == looks


def test_parts_are_looked_at_now_and_then(monkeypatch: pytest.MonkeyPatch) -> None:
    looked: list[int] = []

    def estimate(parts: np.ndarray, told: float | None) -> float:
        assert parts.shape[1:] == (SIDE, SIDE)
        assert parts.dtype == np.uint8
        looked.append(len(parts))
        return float(parts.mean())

    monkeypatch.setattr(look, "installed", lambda: estimate)
    follows, luma = Look(), np.full((SIDE, SIDE + 9), 100, np.uint16)
    values = [follows(luma + 400 * (number > 0), 10, None) for number in range(2 * EVERY + 1)]
    assert looked == [FIRST_PARTS, *[PARTS] * (FIRST_FRAMES - 1), PARTS, PARTS]
    assert values[:2] == [25, 75]  # 8-bit codes; the plain mean of the first looks
    assert values[-1] == pytest.approx((25 + 125 * 5) / 6)
    assert Look()(luma[: SIDE - 1], 10, None) is None, "too small"


def levels(path: Path) -> list[tuple[float | None, float]]:
    """The level that is told and the one that is gone by, of each frame."""
    shares = strength_of(load_model("fast").description.sha256).follow()
    found = []
    for frame in read_frames(path, quantizers=True):
        assert frame.picture is not None
        share = shares(frame.picture, frame.luma, frame.bit_depth)
        found.append((shares.told, share))
    return found


def encode(source: Path, path: Path, codec: str, **options: str) -> Path:
    with av.open(str(source)) as read, av.open(str(path), "w") as written:
        video = read.streams.video[0]
        stream = written.add_stream(codec, rate=25, options=options)
        stream.width, stream.height, stream.pix_fmt = video.width, video.height, "yuv420p"
        for number, frame in enumerate(read.decode(video)):
            frame.pts, frame.time_base, frame.pict_type = number, stream.time_base or frame.time_base, 0
            written.mux(stream.encode(frame))
        written.mux(stream.encode(None))
    return path


def test_video_that_was_encoded_again_takes_the_corrections_of_its_first_life(tmp_path: Path) -> None:
    again = encode(CLIP, tmp_path / "again.mp4", "libx264", crf="17")
    first, second = levels(CLIP), levels(again)
    assert np.mean([told for told, _ in second if told]) < np.mean([told for told, _ in first if told]) - 8
    once = np.mean([share for _, share in first])
    assert once > 0.9
    assert abs(np.mean([share for _, share in second]) - once) < 0.15


def test_without_quantizers_fine_pictures_are_left_alone(tmp_path: Path) -> None:
    """As they come out of a pipe: ffv1 tells nothing."""
    fine = levels(encode(PRISTINE, tmp_path / "fine.mkv", "ffv1"))
    coarse = levels(encode(CLIP, tmp_path / "coarse.mkv", "ffv1"))
    assert all(told is None for told, _ in fine + coarse)
    assert np.mean([share for _, share in fine]) < 0.5
    assert np.mean([share for _, share in coarse]) > 0.8


def test_a_share_that_was_asked_for_needs_no_look(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(look, "installed", lambda: pytest.fail("was looked at"))
    shares = Strength(fixed=0.5).follow()
    frame = next(iter(read_frames(CLIP)))
    assert frame.picture is not None
    assert shares(frame.picture, frame.luma, 8) == 0.5


def test_the_network_that_ships_is_whole() -> None:
    estimate = installed()
    assert [len(bias) for bias in estimate.biases] == [16, 24, 32, 48]
    flat = np.full((3, SIDE, SIDE), 128, np.uint8)
    assert np.isfinite(estimate(flat, None))
    assert np.isfinite(estimate(flat, 30.0))
