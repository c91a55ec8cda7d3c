import os
import platform
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from backends import CAR_CNN, FAST, fused_engine, ncnn_engine, torch_engine, vulkan_engine
from engines import Overlapped
from networks import awake_model, save_awake

from carfix.errors import CarfixError, MissingPartError, UsageError
from carfix.net.arch import CarCnnConfig, Config, FastConfig, margin
from carfix.net.checkpoint import Model
from carfix.restore.engine import Planes, Strengths, open_engine
from carfix.restore.engine.allocator import FROM_HEAP, KEPT, keep_freed_memory
from carfix.restore.engine.cpu_engine import (
    MOST_CELLS_16_BIT,
    WINDOWS_AHEAD,
    FusedEngine,
    Network,
    usual_tile,
)
from carfix.restore.engine.crew import Crew
from carfix.restore.engine.fused import is_fusable
from carfix.restore.engine.overlap import begin, in_order
from carfix.restore.engine.planes import OutOfMemory, WindowedEngine
from carfix.restore.windows import Window, smallest_tile

SIZES = [(97, 141), (64, 200), (33, 35)]


ENGINES: list[Callable[[Model, int | None], WindowedEngine]] = [
    torch_engine,
    ncnn_engine,
    fused_engine,
]


@pytest.fixture(autouse=True)
def one_torch_thread() -> Iterator[None]:
    """Eager PyTorch on all cores stands still as soon as other tests run beside it."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


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


@pytest.mark.skipif(not is_fusable(), reason="this torch has no oneDNN")
@pytest.mark.parametrize("config", [CAR_CNN, FAST, FastConfig(scale=2, features=16), CarCnnConfig()], ids=str)
def test_fused_fp32_is_eager_torch_to_the_code(config: Config) -> None:
    model = awake_model(config)
    codes = picture(60, 76)
    assert np.array_equal(
        fused_engine(model, None).restore(codes, 8), torch_engine(model, None).restore(codes, 8)
    )


@pytest.mark.skipif(not is_fusable(), reason="this torch has no oneDNN")
@pytest.mark.parametrize(("config", "bits"), [(FAST, 8), (CAR_CNN, 8), (FAST, 10)])
def test_no_code_depends_on_threads_batches_or_windows(config: Config, bits: int) -> None:
    """A resumed run on a machine that is busier, or has more cores, gives the same file."""
    model = awake_model(config)
    codes = picture(96, 120, bits, count=5)
    engines = [
        FusedEngine(model, precision="bf16", tile=tile, batch=batch, threads=threads)
        for tile, batch, threads in ((64, 1, 1), (64, 3, 4), (100, 5, 2), (4096, 2, 3))
    ]
    results = [
        np.concatenate([engine.restore(codes[i : i + engine.batch], bits) for i in range(0, 5, engine.batch)])
        for engine in engines
    ]
    assert not np.array_equal(results[0], codes)
    for result in results[1:]:
        assert np.array_equal(result, results[0])


def test_windows_are_large_where_maps_are_small() -> None:
    fast, car_cnn = FastConfig(scale=4, features=64), CarCnnConfig()
    assert usual_tile(fast, 2) > usual_tile(fast, 4) > usual_tile(car_cnn, 4) >= 2 * margin(car_cnn)
    for config in (fast, car_cnn, FastConfig(scale=3, features=1024), CarCnnConfig(blocks=100)):
        for itemsize in (2, 4):
            tile = usual_tile(config, itemsize)
            assert tile % config.scale == 0
            assert tile >= 2 * smallest_tile(margin(config), config.scale)


def test_windows_in_16_bit_are_as_wide_as_amx_is_quick() -> None:
    for config in (
        CarCnnConfig(),
        FastConfig(scale=2, features=32, blocks=15),
        FastConfig(scale=2, features=16),
    ):
        assert usual_tile(config, 2) // config.scale <= MOST_CELLS_16_BIT


def test_crew_takes_every_number_once_and_leaves_torch_its_threads() -> None:
    torch.set_num_threads(2)
    crew = Crew(3)
    taken: list[int] = []
    inside: list[int] = []

    def work(number: int) -> None:
        inside.append(torch.get_num_threads())
        taken.append(number)

    crew.each(work, 100)
    crew.each(work, 1)
    crew.close()
    assert sorted(taken) == sorted([*range(100), 0])
    assert set(inside) == {1}
    assert torch.get_num_threads() == 2


def test_crew_passes_on_what_a_thread_raised_and_stops() -> None:
    crew = Crew(2)
    taken: list[int] = []

    def work(number: int) -> None:
        taken.append(number)
        if number == 3:
            raise OutOfMemory("no room")

    with pytest.raises(OutOfMemory, match="no room"):
        crew.each(work, 10**6)
    assert len(taken) < 10**6
    crew.close()


def test_a_thread_without_work_goes_on_with_what_was_begun_next() -> None:
    """Nothing meets at the end of a batch: the first one's last window is held up until the second one is done."""
    crew = Crew(2)
    second_done = threading.Event()

    def first(number: int) -> None:
        if number == 2:
            assert second_done.wait(timeout=60)

    wait_first = crew.begin(first, 3)
    crew.begin(lambda number: None, 5)()
    second_done.set()
    wait_first()
    crew.close()


def test_closing_does_not_wait_for_what_nobody_waits_for() -> None:
    crew = Crew(1)
    began, go = threading.Event(), threading.Event()
    taken: list[int] = []

    def work(number: int) -> None:
        taken.append(number)
        began.set()
        go.wait(timeout=60)

    crew.begin(work, 1000)
    began.wait(timeout=60)
    closer = threading.Thread(target=crew.close)
    closer.start()
    while not crew._closing.is_set():
        time.sleep(0.001)
    go.set()
    closer.join(timeout=60)
    assert taken == [0]
    crew.each(lambda number: taken.append(number), 2)  # a crew that was closed may begin anew
    assert sorted(taken) == [0, 0, 1]
    crew.close()


def fused(model: Model, **options: int) -> FusedEngine:
    if not is_fusable():
        pytest.skip("this torch has no oneDNN")
    return FusedEngine(model, precision="fp32", **options)


def test_batches_under_way_on_a_cpu_give_what_they_give_alone() -> None:
    model = awake_model(FAST)
    engine = fused(model, tile=64, threads=3)
    codes = picture(90, 118, count=6)
    wanted = engine.restore(codes, 8)
    shares = np.linspace(0, 1, 6, dtype=np.float32)
    moved = engine.restore(codes, 8, shares)
    parts = [slice(0, 1), slice(1, 4), slice(4, 6)]
    under_way = [engine.submit(codes[part], 8) for part in parts]
    with_shares = [engine.submit(codes[part], 8, shares[part]) for part in parts]
    small = engine.submit(codes[:1, :30, :30], 8)  # windows of another size meanwhile
    for part, batch in reversed([*zip(parts, under_way, strict=True)]):
        assert np.array_equal(batch.result(), wanted[part])
    for part, batch in zip(parts, with_shares, strict=True):
        assert np.array_equal(batch.result(), moved[part])
    assert small.result().shape == (1, 30, 30)
    engine.close()


def test_batches_begin_ahead_of_results_which_come_in_order() -> None:
    engine = Overlapped(1, batch=1, depth=3)
    begun: list[int] = []

    def batches() -> Iterator[Callable[[], Planes]]:
        for number in range(5):
            begun.append(number)
            yield begin(engine, np.full((1, 2, 2), number, np.uint8), 8)

    results = in_order(engine, batches())
    assert next(results)[0, 0, 0] == 1
    assert begun == [0, 1, 2]
    assert [int(planes[0, 0, 0]) for planes in results] == [2, 3, 4, 5]
    assert engine.most == 3


@pytest.mark.parametrize(("threads", "frames"), [(1, 1), (2, 2), (16, 4), (64, 4)])
def test_there_are_always_windows_for_all_threads(threads: int, frames: int) -> None:
    """Also behind the batch that is waited for, whatever the size of the video."""
    engine = fused(awake_model(FAST), threads=threads, batch=frames)
    for height, width in ((24, 32), (360, 640)):
        codes = np.zeros((frames, height, width), np.uint8)
        engine.submit(codes, 8).result()
        windows = frames * len(engine.cut(codes).found)
        assert (engine.depth - 1) * windows >= WINDOWS_AHEAD * threads > (engine.depth - 2) * windows
    engine.close()


def test_memory_that_a_thread_lacks_makes_windows_smaller() -> None:
    class Narrow(FusedEngine):
        def network(self, height: int, width: int) -> Network:
            compute = super().network(height, width)

            def narrow(unit: np.ndarray) -> np.ndarray:
                if height > 60:
                    raise MemoryError
                return compute(unit)

            return narrow

    if not is_fusable():
        pytest.skip("this torch has no oneDNN")
    model = awake_model(FAST)
    codes = picture(96, 96, count=2)
    engine = Narrow(model, precision="fp32", threads=2)
    wanted = torch_engine(model, None).restore(codes, 8)
    under_way = [engine.submit(codes, 8) for _ in range(3)]
    assert all(np.array_equal(batch.result(), wanted) for batch in under_way)
    assert engine.tile == 48  # halved once, though all three found no room
    assert np.array_equal(engine.restore(codes, 8), wanted)


@pytest.mark.parametrize("config", [FAST, CarCnnConfig(), FastConfig(scale=2, features=32)], ids=str)
def test_bf16_stays_within_one_code(config: Config) -> None:
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
    assert model.net.config == CAR_CNN


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


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has CUDA")
def test_a_missing_gpu_is_named() -> None:
    with pytest.raises(MissingPartError, match="CUDA"):
        open_engine(awake_model(FAST), device="cuda")
