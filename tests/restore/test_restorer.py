from pathlib import Path
from typing import get_overloads, get_type_hints

import numpy as np
import pytest
from networks import awake_model, save_awake

import carfix
from carfix.errors import CarfixError, UsageError
from carfix.net.checkpoint import CheckpointError
from carfix.net.config import FastConfig
from carfix.restore.engine.choose import AMX_BF16, EXACT_FIRST, open_kind


def test_frames_alone_or_together_as_bytes_or_words(tmp_path: Path) -> None:
    luma = np.random.default_rng(0).integers(0, 256, (3, 40, 50)).astype(np.uint8)
    with carfix.Restorer(
        save_awake(tmp_path / "awake.safetensors"), device="cpu", precision="fp32"
    ) as restore:
        together = restore(luma)
        assert together.shape == luma.shape
        assert together.dtype == np.uint8
        assert (together != luma).mean() > 0.3
        assert np.array_equal(restore(luma[1]), together[1])
        words = restore(luma.astype(np.uint16) * 4, bit_depth=10)
        assert words.dtype == np.uint16
        assert np.abs(words / 4 - together).max() < 2
        assert "cpu" in restore.description
        for plane in (luma, luma[0]):
            assert np.array_equal(restore(plane, strength=0.0), plane)
            half = restore(plane, strength=0.5).astype(int)
            assert np.abs(half - (restore(plane).astype(int) + plane) / 2).max() <= 1
        with pytest.raises(UsageError, match=r"a number from 0 to 2, not 2\.5"):
            restore(luma, strength=2.5)
        with pytest.raises(CarfixError, match=r"above 1023, .* give luma >> 6"):
            restore(luma.astype(np.uint16) << 8, bit_depth=10)
        # As restored_frames takes it; here it made the picture black.
        with pytest.raises(UsageError, match="do not tell how hard they were compressed"):
            restore(luma, strength=None)  # type: ignore[call-overload]
        with pytest.raises(UsageError, match="strength is a number"):
            restore(luma, strength=np.ones(3))  # type: ignore[call-overload]


@pytest.mark.parametrize(
    ("luma", "depth"),
    [
        (np.zeros((4, 4), np.float32), None),
        (np.zeros((4, 4), np.uint16), None),
        (np.zeros((4, 4), np.uint16), 8),
        (np.zeros((4, 4), np.uint8), 10),
        (np.zeros(4, np.uint8), None),
        (np.zeros((0, 4), np.uint8), None),
        (np.zeros((48, 64, 3), np.uint8), None),
    ],
)
def test_arrays_that_are_no_luma_are_refused(luma: np.ndarray, depth: int | None) -> None:
    restore = carfix.Restorer(awake_model(), device="cpu", precision="fp32")
    with pytest.raises(CarfixError):
        restore(luma, bit_depth=depth)


def test_models_are_found_by_name_or_path(tmp_path: Path) -> None:
    assert carfix.load_model("fast").description.name == "fast"
    assert carfix.load_model("auto", accelerator=False).description.name in ("fast", "medium")
    assert carfix.load_model(str(save_awake(tmp_path / "own.safetensors"))).description.name == "awake"
    with pytest.raises(CheckpointError, match=r"installed are .*fast"):
        carfix.load_model("fats")
    with pytest.raises(AttributeError):
        carfix.nothing  # noqa: B018


@pytest.mark.parametrize("size", [(40, 60), (41, 61)])
@pytest.mark.parametrize("kind", [kind for kind in EXACT_FIRST if kind != AMX_BF16])
def test_planes_may_lie_in_memory_as_they_like(kind: str, size: tuple[int, int]) -> None:
    """A channel of an array of colours, a mirrored or transposed picture: as its copy."""
    try:
        engine = open_kind(kind, awake_model(FastConfig(scale=2, features=32, blocks=1)))
    except CarfixError as error:
        pytest.skip(str(error))
    planes = np.random.default_rng(0).integers(0, 256, (2, *size)).astype(np.uint8)
    wanted = engine.restore(planes, 8)
    for strange in (
        np.stack([planes] * 3, axis=-1)[..., 0],
        np.asfortranarray(planes),
        planes[:, :, ::-1].copy()[:, :, ::-1],
        planes[:, ::-1].copy()[:, ::-1],
    ):
        assert np.array_equal(engine.restore(strange, 8), wanted)
    engine.close()


def test_bit_depth_may_be_numpy_s_and_must_be_whole() -> None:
    luma = np.full((16, 16), 500, np.uint16)
    with carfix.Restorer(awake_model(), device="cpu", precision="fp32") as restore:
        assert np.array_equal(restore(luma, bit_depth=np.uint8(10)), restore(luma, bit_depth=10))  # type: ignore[arg-type]
        with pytest.raises(CarfixError, match="a whole number"):
            restore(luma, bit_depth=10.5)  # type: ignore[arg-type]
        with pytest.raises(CarfixError, match="a numpy array"):
            restore([[1, 2]])  # type: ignore[arg-type]


def test_type_checkers_know_what_comes_back() -> None:
    """Of bytes bytes, of words words."""
    for signature in get_overloads(carfix.Restorer.__call__):
        kinds = get_type_hints(signature)
        assert kinds["luma"] == kinds["return"]
    assert len(get_overloads(carfix.Restorer.__call__)) == 2
