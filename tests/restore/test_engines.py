import platform
from collections.abc import Callable

import numpy as np
import pytest
import torch
from networks import awake_model

from carfix.errors import CarfixError, MissingPartError, UsageError
from carfix.net.arch import CarCnnConfig, Config, FastConfig, margin
from carfix.net.checkpoint import Model
from carfix.restore.engine import Planes, open_engine
from carfix.restore.engine.allocator import FROM_HEAP, KEPT, keep_freed_memory
from carfix.restore.engine.ncnn_engine import NcnnEngine
from carfix.restore.engine.planes import OutOfMemory, WindowedEngine
from carfix.restore.engine.torch_engine import TorchEngine
from carfix.restore.windows import Window, smallest_tile

CAR_CNN = CarCnnConfig(features=8, blocks=2)
FAST = FastConfig(scale=4, features=8, blocks=1)
SIZES = [(97, 141), (64, 200), (33, 35)]


def torch_engine(model: Model, tile: int | None) -> WindowedEngine:
    return TorchEngine(model, device=torch.device("cpu"), precision="fp32", tile=tile, batch=None)


def ncnn_engine(model: Model, tile: int | None) -> WindowedEngine:
    return NcnnEngine(model, tile=tile, batch=None, threads=1)


ENGINES: list[Callable[[Model, int | None], WindowedEngine]] = [torch_engine, ncnn_engine]


def picture(height: int, width: int, bits: int = 8, count: int = 1) -> Planes:
    rng = np.random.default_rng(height * width)
    codes = rng.integers(0, 2**bits, (count, height, width))
    return codes.astype(np.uint8 if bits == 8 else np.uint16)


def whole_frame(model: Model, codes: Planes, bits: int = 8) -> np.ndarray:
    """The network run on the whole frame in float64, as [-1, 1], with no engine between."""
    height, width = codes.shape[1:]
    cell = model.net.config.scale
    padded = np.pad(codes, ((0, 0), (0, -height % cell), (0, -width % cell)), mode="edge")
    x = torch.from_numpy(padded.astype(np.float64))[:, None] * (2 / (2**bits - 1)) - 1
    net = awake_model(model.net.config).net
    y = net(x.float())[:, 0, :height, :width].numpy()
    result: np.ndarray = (y + 1) * ((2**bits - 1) / 2)
    return result


@pytest.mark.parametrize("engine_of", ENGINES)
@pytest.mark.parametrize("config", [CAR_CNN, FAST, FastConfig(scale=2, features=8, blocks=1)], ids=str)
@pytest.mark.parametrize("size", SIZES)
def test_tiles_of_every_size_give_the_whole_frame(
    engine_of: Callable[[Model, int | None], WindowedEngine], config: Config, size: tuple[int, int]
) -> None:
    model = awake_model(config)
    codes = picture(*size)
    expected = whole_frame(model, codes)
    least = smallest_tile(margin(config), config.scale)
    assert np.abs(expected - codes).mean() > 1  # the network does something
    for tile in (least, least + 5, 64, 100, 4096):
        restored = engine_of(model, tile).restore(codes, 8)
        assert restored.dtype == np.uint8
        # Rounding moves a value by half a code; the sums behind it differ by far less than a hundredth.
        assert np.abs(restored - expected.clip(0, 255)).max() <= 0.51


@pytest.mark.parametrize("config", [CAR_CNN, FAST, CarCnnConfig(), FastConfig()], ids=str)
def test_tiled_floats_equal_whole_frame_floats(config: Config) -> None:
    """The geometry itself, before any rounding: 1e-5 in fp32, at the design's odd frame size."""
    from torch.nn import functional

    from carfix.restore.windows import windows

    model = awake_model(config)
    cell = config.scale
    side = (241, 161) if config == CarCnnConfig() else (853, 481)
    width, height = (-(-length // cell) * cell for length in side)
    x = torch.rand(1, 1, height, width) * 2 - 1
    expected = model.net(x)
    for tile in {smallest_tile(margin(config), cell) + cell * 24, 160, 256, max(width, height)}:
        tiled = torch.full_like(x, float("nan"))
        for w in windows(height, width, tile, margin=margin(config), cell=cell):
            part = model.net(x[..., w.rows.start : w.rows.stop, w.columns.start : w.columns.stop])
            part = functional.pad(
                part, (w.columns.start, width - w.columns.stop, w.rows.start, height - w.rows.stop)
            )
            keep = (
                ...,
                slice(w.rows.keep_start, w.rows.keep_stop),
                slice(w.columns.keep_start, w.columns.keep_stop),
            )
            tiled[keep] = part[keep]
        assert float((tiled - expected).abs().max()) <= 1e-5


@pytest.mark.parametrize("engine_of", ENGINES)
@pytest.mark.parametrize("bits", [9, 10, 12, 16])
def test_deep_codes_keep_their_depth(
    engine_of: Callable[[Model, int | None], WindowedEngine], bits: int
) -> None:
    model = awake_model(FAST)
    codes = picture(48, 64, bits, count=2)
    restored = engine_of(model, None).restore(codes, bits)
    assert restored.dtype == np.uint16
    tolerance = 0.51 + 2**bits * 1e-6
    assert np.abs(restored - whole_frame(model, codes, bits).clip(0, 2**bits - 1)).max() <= tolerance


@pytest.mark.parametrize("config", [CarCnnConfig(), FastConfig(), FastConfig(scale=2, features=32)], ids=str)
def test_ncnn_agrees_with_torch(config: Config) -> None:
    model = awake_model(config)
    codes = picture(60, 76)
    difference = ncnn_engine(model, None).restore(codes, 8).astype(int) - torch_engine(model, None).restore(
        codes, 8
    )
    assert np.abs(difference).max() <= 1
    assert (difference != 0).mean() < 0.001


def test_bf16_stays_within_one_code() -> None:
    model = awake_model(FAST)
    codes = picture(60, 76)
    engine = open_engine(model, device="cpu", precision="bf16")
    difference = engine.restore(codes, 8).astype(int) - torch_engine(model, None).restore(codes, 8)
    assert np.abs(difference).max() <= 1


class Cramped(WindowedEngine):
    """An engine whose memory holds windows of at most 40 pixels, and that fails halfway."""

    description = "cramped"

    def run(self, codes: Planes, found: list[Window], bit_depth: int) -> Planes:
        if any(window.rows.stop - window.rows.start > 40 for window in found):
            raise OutOfMemory("too large")
        return torch_engine(self.model, None).restore(codes, bit_depth)


def test_out_of_memory_shrinks_the_window_and_repeats_the_frames() -> None:
    model = awake_model(FAST)
    codes = picture(96, 96)
    engine = Cramped(model, tile=4096, batch=1)
    assert np.array_equal(engine.restore(codes, 8), torch_engine(model, None).restore(codes, 8))
    assert engine.tile <= 48


def test_out_of_memory_below_the_smallest_window_is_an_error() -> None:
    model = awake_model(CAR_CNN)  # its smallest window does not fit into the cramped engine either
    large = awake_model(FastConfig(scale=4, features=8, blocks=4))
    with pytest.raises(CarfixError, match="smallest window"):
        Cramped(large, tile=512, batch=1).restore(picture(256, 256), 8)
    assert model.net.config == CAR_CNN


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"device": "toaster"}, UsageError),
        ({"device": "cpu", "precision": "fp8"}, UsageError),
        ({"device": "cpu", "precision": "fp16"}, UsageError),
        ({"device": "cpu", "tile": -1}, UsageError),
        ({"device": "cpu", "tile": 8}, UsageError),
        ({"device": "cpu", "batch": 0}, UsageError),
    ],
)
def test_options_that_cannot_be_right(options: dict[str, object], error: type[CarfixError]) -> None:
    with pytest.raises(error):
        open_engine(awake_model(FAST), **options)  # type: ignore[arg-type]


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc has the knob")
def test_glibc_accepts_the_bounds_for_freed_memory() -> None:
    assert FROM_HEAP < KEPT
    assert keep_freed_memory()


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has CUDA")
def test_a_missing_gpu_is_named() -> None:
    with pytest.raises(MissingPartError, match="CUDA"):
        open_engine(awake_model(FAST), device="cuda")
