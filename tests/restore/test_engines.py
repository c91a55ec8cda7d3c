import dataclasses
import os
import platform
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from backends import (
    CAR_CNN,
    FAST,
    fused_engine,
    ncnn_engine,
    needs_bf16,
    torch_engine,
    vulkan_engine,
    winograd_engine,
)
from networks import awake_model, save_awake

from carfix.errors import CarfixError, MissingPartError, UsageError
from carfix.net.checkpoint import Model
from carfix.net.config import CarCnnConfig, Config, FastConfig, margin
from carfix.restore.engine import Planes, Strengths, choose, open_engine
from carfix.restore.engine.allocator import FROM_HEAP, KEPT, keep_freed_memory
from carfix.restore.engine.fused import is_fusable
from carfix.restore.engine.fused_engine import FusedEngine
from carfix.restore.engine.planes import OutOfMemory, WindowedEngine
from carfix.restore.windows import Window, smallest_tile

SIZES = [(97, 141), (64, 200), (33, 35)]


ENGINES: list[Callable[[Model, int | None], WindowedEngine]] = [
    torch_engine,
    ncnn_engine,
    fused_engine,
    winograd_engine,
]

pytestmark = pytest.mark.usefixtures("one_torch_thread")


def picture(height: int, width: int, bits: int = 8, count: int = 1) -> Planes:
    rng = np.random.default_rng(height * width)
    codes = rng.integers(0, 2**bits, (count, height, width))
    return codes.astype(np.uint8 if bits == 8 else np.uint16)


def whole_frame(model: Model, codes: Planes, bits: int = 8) -> np.ndarray:
    """The network run on the whole frame in float64, as [-1, 1], with no engine between."""
    height, width = codes.shape[1:]
    cell = model.config.scale
    padded = np.pad(codes, ((0, 0), (0, -height % cell), (0, -width % cell)), mode="edge")
    x = torch.from_numpy(padded.astype(np.float64))[:, None] * (2 / (2**bits - 1)) - 1
    net = awake_model(model.config).net
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


@pytest.mark.parametrize("engine_of", ENGINES)
@pytest.mark.parametrize("config", [CAR_CNN, FAST], ids=str)
def test_a_network_may_predict_the_picture_itself(
    engine_of: Callable[[Model, int | None], WindowedEngine], config: CarCnnConfig | FastConfig
) -> None:
    model = awake_model(dataclasses.replace(config, global_residual=False))
    codes = picture(33, 35)
    expected = whole_frame(model, codes)
    assert np.abs(expected - codes).mean() > 10  # of random weights: nothing of the picture is left
    assert np.abs(engine_of(model, None).restore(codes, 8) - expected.clip(0, 255)).max() <= 0.51


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
@pytest.mark.parametrize("engine_of", [ncnn_engine, winograd_engine])
def test_winograd_convolutions_agree_with_torchs(
    engine_of: Callable[[Model, int | None], WindowedEngine], config: Config
) -> None:
    model = awake_model(config)
    codes = picture(60, 76)
    difference = engine_of(model, None).restore(codes, 8).astype(int) - torch_engine(model, None).restore(
        codes, 8
    )
    assert np.abs(difference).max() <= 1
    assert (difference != 0).mean() < 0.001


@pytest.mark.skipif(not is_fusable(), reason="this torch has no oneDNN")
@pytest.mark.parametrize("config", [CAR_CNN, FAST, FastConfig(scale=2, features=16), CarCnnConfig()], ids=str)
def test_fused_fp32_is_eager_torch_to_the_code(config: Config) -> None:
    model = awake_model(config)
    codes = picture(60, 76)
    assert np.array_equal(
        fused_engine(model, None).restore(codes, 8), torch_engine(model, None).restore(codes, 8)
    )


@pytest.mark.skipif(not is_fusable(), reason="this torch has no oneDNN")
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize(("config", "bits"), [(FAST, 8), (CAR_CNN, 8), (FAST, 10)])
def test_no_code_depends_on_threads_batches_or_windows(config: Config, bits: int, precision: str) -> None:
    """A resumed run on a machine that is busier, or has more cores, gives the same file."""
    if precision == "bf16":
        needs_bf16()
    model = awake_model(config)
    codes = picture(96, 120, bits, count=5)
    engines = [
        FusedEngine(model, precision=precision, tile=tile, batch=batch, threads=threads)
        for tile, batch, threads in ((64, 1, 1), (64, 3, 4), (100, 5, 2), (4096, 2, 3))
    ]
    results = [
        np.concatenate([engine.restore(codes[i : i + engine.batch], bits) for i in range(0, 5, engine.batch)])
        for engine in engines
    ]
    assert not np.array_equal(results[0], codes)
    for result in results[1:]:
        assert np.array_equal(result, results[0])


@pytest.mark.parametrize("config", [FAST, CarCnnConfig(), FastConfig(scale=2, features=32)], ids=str)
def test_bf16_stays_within_one_code(config: Config) -> None:
    needs_bf16()
    model = awake_model(config)
    codes = picture(60, 76)
    engine = open_engine(model, device="cpu", precision="bf16")
    difference = engine.restore(codes, 8).astype(int) - torch_engine(model, None).restore(codes, 8)
    assert np.abs(difference).max() <= 1
    assert difference.any()  # it is bf16


@pytest.mark.parametrize("config", [FAST, FastConfig(scale=2, features=8, blocks=1)], ids=str)
def test_windows_on_vulkan_give_the_whole_frame(config: Config) -> None:
    model = awake_model(config)
    codes = picture(60, 92, 10, count=2)
    expected = whole_frame(model, codes, 10).clip(0, 1023)
    for tile in (50, 4096):
        assert np.abs(vulkan_engine(model, tile).restore(codes, 10) - expected).max() <= 0.51


@pytest.mark.parametrize("config", [CAR_CNN, FAST], ids=str)
def test_fp16_on_vulkan_stays_within_one_code(config: Config) -> None:
    model = awake_model(config)
    vulkan_engine(model, None).close()  # skips where there is none
    codes = picture(60, 76)
    engine = open_engine(model, device="vulkan", precision="fp16")
    difference = engine.restore(codes, 8).astype(int) - torch_engine(model, None).restore(codes, 8)
    assert np.abs(difference).max() <= 1
    assert difference.any()  # it is fp16


@pytest.mark.skipif(
    not sys.platform.startswith("linux"), reason="the variable names drivers of Linux's loader"
)
def test_a_missing_vulkan_driver_is_named_with_exit_code_3(tmp_path: Path) -> None:
    none = {"VK_ICD_FILENAMES": str(tmp_path / "none"), "VK_DRIVER_FILES": str(tmp_path / "none")}
    run = _python("carfix.restore.engine.open_engine(model, device='vulkan')", tmp_path, none)
    assert run.returncode != 0
    assert "MissingPartError: no Vulkan device" in run.stderr
    assert MissingPartError.exit_code == 3


def test_a_process_that_used_vulkan_ends_cleanly(tmp_path: Path) -> None:
    vulkan_engine(awake_model(FAST), None).close()  # skips where there is none
    run = _python(
        "kept = carfix.restore.engine.open_engine(model, device='vulkan')\n"
        "print(kept.restore(np.zeros((1, 64, 64), np.uint8), 8).shape)",
        tmp_path,
        {},
    )
    assert run.returncode == 0, run.stderr
    assert run.stdout.strip() == "(1, 64, 64)"


def _python(code: str, folder: Path, environment: dict[str, str]) -> "subprocess.CompletedProcess[str]":
    """`code` in a process of its own, with small weights as `model`."""
    weights = save_awake(folder / "awake.safetensors", FAST)
    start = (
        f"import numpy as np, carfix, carfix.restore.engine\nmodel = carfix.load_model({str(weights)!r})\n"
    )
    return subprocess.run(
        [sys.executable, "-c", start + code],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
    )


class Cramped(WindowedEngine):
    """An engine whose memory holds windows of at most 40 pixels, and that fails halfway."""

    description = "cramped"

    def run(self, codes: Planes, found: list[Window], bit_depth: int, strengths: Strengths | None) -> Planes:
        if any(window.rows.stop - window.rows.start > 40 for window in found):
            raise OutOfMemory("too large")
        return torch_engine(self.model, None).restore(codes, bit_depth, strengths)


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
    assert model.config == CAR_CNN


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"device": "toaster"}, UsageError),
        ({"device": "cpu", "precision": "fp8"}, UsageError),
        ({"device": "cpu", "precision": "fp16"}, UsageError),
        ({"device": "vulkan", "precision": "bf16"}, UsageError),
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


def test_a_precision_that_the_cpu_lacks_is_a_plain_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(choose, "can_bf16", lambda: False)
    with pytest.raises(UsageError, match=r"bf16: this CPU .* use --precision fp32"):
        open_engine(awake_model(FAST), device="cpu", precision="bf16")


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has CUDA")
def test_a_missing_gpu_is_named() -> None:
    with pytest.raises(MissingPartError, match="CUDA"):
        open_engine(awake_model(FAST), device="cuda")


def test_threads_that_share_an_engine_keep_the_weights_of_few_sizes() -> None:
    """Packed at the same moment, those of two sizes were one too many, and from then on all were kept."""
    engine = fused_engine(awake_model(FAST), None)
    net = engine._net  # type: ignore[attr-defined]
    together = threading.Barrier(2)
    for number in range(8):

        def pack(side: int) -> None:
            together.wait()
            net.packed_for(side, 64)

        threads = [threading.Thread(target=pack, args=(64 + 32 * number + 16 * n,)) for n in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert len(net._packed) <= 4
