"""The GPU engine, run on the CPU: the same code without streams, graphs and 16 bit gives the torch engine's codes."""

import contextlib
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
from backends import CAR_CNN, CPU, FAST, Late, cuda_engine, expected_of, picture, torch_engine
from networks import awake_model

from carfix.errors import UsageError
from carfix.net.arch import convolution_layers
from carfix.net.checkpoint import Model
from carfix.net.config import CarCnnConfig, Config, FastConfig
from carfix.restore.engine import open_engine, select
from carfix.restore.engine.autotune import Plan
from carfix.restore.engine.cuda_check import safe_precision
from carfix.restore.engine.cuda_engine import CudaEngine
from carfix.restore.engine.cuda_open import open_accelerator
from carfix.restore.engine.cuda_program import COMPILED, EAGER, Batch, Builder, Program, align, codes_to_codes
from carfix.restore.engine.cuda_streams import DOWNLOAD, InOrder, Mark, seconds_of
from carfix.restore.engine.overlap import begin, depth_of, prepare
from carfix.restore.engine.tune_cache import TuneCache


@pytest.mark.parametrize("config", [CAR_CNN, FAST, FastConfig(scale=2, features=8, blocks=1)], ids=str)
@pytest.mark.parametrize("bits", [8, 10])
@pytest.mark.parametrize("size", [(97, 141), (64, 200), (33, 35)])
def test_codes_are_those_of_the_torch_engine(config: Config, bits: int, size: tuple[int, int]) -> None:
    model = awake_model(config)
    for tile in (48, 64, 4096):
        engine = cuda_engine(model, tile=tile)
        for count in (1, 2, 3):
            codes = picture(*size, bits, count)
            restored = engine.restore(codes, bits)
            assert restored.dtype == codes.dtype
            assert np.array_equal(restored, expected_of(model, codes, bits, tile))
            assert np.abs(restored.astype(int) - codes).mean() > 1  # the network did something


def test_sixteen_bit_codes_survive_the_signed_type_that_they_travel_in() -> None:
    restore = codes_to_codes(torch.zeros_like, bit_depth=16, dtype=torch.float32, global_residual=True)
    codes = np.arange(65536, dtype=np.uint16).reshape(1, 256, 256)
    restored = restore(torch.from_numpy(codes.view(np.int16)), torch.ones(1)).numpy().view(np.uint16)
    assert np.abs(restored.astype(int) - codes).max() <= 1  # fp32 has 24 bits, and [-1, 1] takes its share
    assert restored[0, -1, -1] == 65535 and restored[0, 0, 0] == 0


@pytest.mark.parametrize("precision", ["fp16", "bf16"])
@pytest.mark.parametrize("bits", [8, 10])
def test_half_precision_stays_within_one_code(precision: str, bits: int) -> None:
    model = awake_model(FAST)
    codes = picture(60, 76, bits)
    most = 1 if bits == 8 or precision == "fp16" else 2  # bf16's eight bits are quarters of an 8-bit code
    restored = cuda_engine(model, precision=precision).restore(codes, bits)
    assert np.abs(restored.astype(int) - expected_of(model, codes, bits)).max() <= most


def test_batches_under_way_keep_their_results_apart() -> None:
    model = awake_model(FAST)
    engine = cuda_engine(model, queues=Late())
    batches = [picture(40, 56, count=count) for count in (2, 1, 2, 2, 1)]
    pending = []
    for codes in batches:  # more than may be under way
        mine = codes.copy()
        pending.append(engine.submit(mine, 8))
        mine[:] = 0
    results = [each.result() for each in reversed(pending)][::-1]
    for codes, restored in zip(batches, results, strict=True):
        assert np.array_equal(restored, expected_of(model, codes))
    assert np.array_equal(pending[0].result(), results[0])  # asked again


class Dawdling(InOrder):
    """Lets other threads come in between."""

    @contextlib.contextmanager
    def on(self, queue: str, after: Mark | None = None) -> Iterator[None]:
        time.sleep(0.001)
        yield


def test_threads_that_share_an_engine_get_their_own_pictures() -> None:
    model = awake_model(FAST)
    engine = cuda_engine(model, queues=Dawdling(CPU))
    codes = [np.roll(picture(72, 96, count=2), 7 * n, axis=2) for n in range(4)]
    expected = [expected_of(model, each) for each in codes]

    def wrong(n: int) -> int:
        return sum(not np.array_equal(engine.restore(codes[n], 8), expected[n]) for _ in range(10))

    with ThreadPoolExecutor(4) as threads:
        assert list(threads.map(wrong, range(4))) == [0] * 4


def test_results_are_not_there_before_they_are_waited_for() -> None:
    """The test above would miss an engine that never waits if `Late` did not hide anything."""
    queues = Late()
    cuda_engine(awake_model(FAST), queues=queues).submit(picture(40, 56), 8)
    assert all((buffer == 77).all() for buffer in queues.buffers)


def test_a_third_batch_waits_for_the_first_and_no_other() -> None:
    queues = Late()
    engine = cuda_engine(awake_model(FAST), queues=queues)
    waits = []
    for _ in range(5):
        engine.submit(picture(40, 56), 8)
        waits.append(queues.waits)
    assert waits == [0, 0, 1, 2, 3]


def test_a_plan_can_be_found_ahead_of_time() -> None:
    sizes = []

    def planner(height: int, width: int) -> Plan:
        sizes.append((height, width))
        return Plan(64, 2, EAGER)

    model = awake_model(FAST)
    engine = CudaEngine(
        model,
        builder=Builder(model.net, device=CPU, precision="fp32", queues=InOrder(CPU)),
        planner=planner,
        batch=2,
        tile=None,
        description="tested",
    )
    prepare(engine, 70, 90)
    assert sizes == [(72, 92)]  # in whole cells
    engine.restore(picture(70, 90), 8)
    assert sizes == [(72, 92)]
    prepare(torch_engine(model, None), 70, 90)


def test_any_engine_can_be_asked_to_begin() -> None:
    codes = picture(40, 56)
    model = awake_model(FAST)
    expected = expected_of(model, codes)
    plain = torch_engine(model, None)
    late = cuda_engine(model, queues=Late())
    assert (depth_of(plain), depth_of(late)) == (1, 2)
    for engine in (plain, late):
        mine = codes.copy()
        finish = begin(engine, mine, 8)
        mine[:] = 0
        assert np.array_equal(finish(), expected)


def test_sizes_and_depths_may_change_between_batches() -> None:
    model = awake_model(FAST)
    engine = cuda_engine(model)
    for bits, size in ((8, (40, 56)), (10, (40, 56)), (8, (20, 56)), (8, (40, 56)), (8, (41, 55))):
        codes = picture(*size, bits, count=2)
        assert np.array_equal(engine.restore(codes, bits), expected_of(model, codes, bits))
    engine.close()


@pytest.mark.parametrize("config", [CAR_CNN, FAST, FastConfig(scale=2, features=8, blocks=1)], ids=str)
def test_channels_filled_with_zeros_change_nothing(config: Config) -> None:
    net, wide = awake_model(config).net, awake_model(config).net
    align(wide)
    x = torch.rand(2, 1, 24, 36) * 2 - 1
    assert float((net(x) - wide(x)).abs().max()) < 1e-6
    for layer in convolution_layers(wide):
        assert layer.in_channels % 8 == 0 and layer.out_channels % 8 == 0


def overflowing() -> Model:
    """Maps far beyond fp16's 65504, and the same small residual."""
    model = awake_model(FAST)
    first, *_, last = convolution_layers(model.net)
    first.weight.mul_(1e6)
    last.weight.div_(1e6)
    return model


def test_a_precision_that_breaks_the_picture_is_replaced(tmp_path: Path) -> None:
    def open_(model: Model, precision: str) -> CudaEngine:
        return open_accelerator(model, device=CPU, precision=precision, cache=TuneCache(tmp_path))

    codes = picture(64, 64)
    for _ in range(2):  # found, then remembered
        engine = open_(overflowing(), "auto")
        assert "bf16 because fp16 changed a trial picture by more than one code" in engine.description
        off = np.abs(engine.restore(codes, 8).astype(int) - expected_of(overflowing(), codes))
        assert off.max() <= 1
    assert open_(awake_model(FAST), "auto").description == "torch on cpu, fp16"
    assert open_(awake_model(FAST), "bf16").description == "torch on cpu, bf16"
    assert open_(overflowing(), "fp32").description == "torch on cpu, fp32"


def test_fp32_is_the_last_resort() -> None:
    class Coarse(Builder):
        """No 16 bit is good enough."""

        def build(self, variant: str, batch: Batch) -> Program:
            program = super().build(variant, batch)
            if self.precision != "fp32":
                program.output += 9
                program._restore = lambda codes, _: codes + 9
            return program

    net = awake_model(FAST).net

    def builder(precision: str) -> Builder:
        return Coarse(net, device=CPU, precision=precision, queues=InOrder(CPU))

    assert [safe_precision(wanted, builder) for wanted in ("fp16", "bf16", "fp32")] == ["fp32"] * 3


def test_a_tile_too_small_for_the_network_is_refused() -> None:
    with pytest.raises(UsageError, match="--tile 8 is too small"):
        open_accelerator(awake_model(FAST), device=CPU, tile=8, precision="fp32", cache=TuneCache(None))


def test_a_users_tile_and_batch_are_taken() -> None:
    engine = open_accelerator(
        awake_model(FAST), device=CPU, tile=64, batch=3, precision="fp32", cache=TuneCache(None)
    )
    assert engine.batch == 3 and engine.plan(300, 400).tile == 64
    codes = picture(100, 130, count=4)
    assert np.array_equal(engine.restore(codes, 8), expected_of(awake_model(FAST), codes, tile=64))


def test_accelerators_get_this_engine(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[dict[str, object]] = []

    def recorded(model: Model, **options: object) -> str:
        asked.append(options)
        return "opened"

    monkeypatch.setattr(select, "_place", torch.device)
    monkeypatch.setattr("carfix.restore.engine.cuda_open.open_accelerator", recorded)
    assert open_engine(awake_model(FAST), device="cuda:1", precision="bf16", tile=512) == "opened"  # type: ignore[comparison-overlap]
    assert asked == [{"device": torch.device("cuda:1"), "precision": "bf16", "tile": 512, "batch": None}]


def test_the_compiled_variant_gives_the_same_codes(monkeypatch: pytest.MonkeyPatch) -> None:
    # The search for the fastest kernels is the GPU's; what is compiled is the same here.
    monkeypatch.setattr("carfix.restore.engine.cuda_program.COMPILE_MODE", "default")
    builder = Builder(awake_model(FAST).net, device=CPU, precision="fp32", queues=InOrder(CPU))
    codes = torch.from_numpy(picture(32, 48, count=2))
    results = []
    for variant in (EAGER, COMPILED):
        try:
            program = builder.build(variant, Batch(2, 32, 48, 8))
        except torch._inductor.exc.InductorError as error:
            pytest.skip(f"nothing can be compiled here: {error}")
        program.input.copy_(codes)
        program()
        results.append(program.output.int())
    assert int((results[0] - results[1]).abs().max()) <= 1
    assert float((results[0] != results[1]).float().mean()) < 0.001


def test_timing_repeats_short_work_and_gives_seconds_for_one(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 0.0
    calls = 0

    def work() -> None:
        nonlocal now, calls
        calls += 1
        now += 5.0 if calls == 1 else 0.001  # the first builds something

    monkeypatch.setattr(time, "perf_counter", lambda: now)
    assert seconds_of(work, InOrder(CPU), least=0.1, rounds=3) == pytest.approx(0.001)
    assert calls == 2 + 3 * 100


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("config", [CarCnnConfig(), FastConfig()], ids=str)
@pytest.mark.parametrize("bits", [8, 10])
def test_on_a_gpu_every_batch_is_within_one_code(config: Config, bits: int, tmp_path: Path) -> None:
    model = awake_model(config)
    engine = open_accelerator(model, device=torch.device("cuda"), cache=TuneCache(tmp_path))
    batches = [picture(270, 481, bits, count=count) for count in (4, 4, 1)]
    pending = [engine.submit(codes, bits) for codes in batches]
    for codes, each in zip(batches, pending, strict=True):
        assert np.abs(each.result().astype(int) - expected_of(model, codes, bits)).max() <= 1
    again = open_accelerator(model, device=torch.device("cuda"), cache=TuneCache(tmp_path))
    assert np.array_equal(again.restore(batches[0], bits), pending[0].result())  # as a resumed run computes


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_on_a_gpu_full_hd_runs_in_four_gigabytes(tmp_path: Path) -> None:
    total = torch.cuda.get_device_properties(0).total_memory
    torch.cuda.set_per_process_memory_fraction(min(1.0, (4 << 30) / total))
    try:
        engine = open_accelerator(
            awake_model(CarCnnConfig()), device=torch.device("cuda"), cache=TuneCache(tmp_path)
        )
        assert engine.restore(picture(1080, 1920, count=2), 8).shape == (2, 1080, 1920)
        engine.close()
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)


def test_what_is_under_way_on_mps_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """A copy to the host that does not block is none yet when the call returns: frames were read before they came."""
    waited: list[bool] = []
    monkeypatch.setattr(torch.mps, "synchronize", lambda: waited.append(True))
    done = InOrder(torch.device("mps")).mark(DOWNLOAD)
    assert not waited
    done.synchronize()
    assert waited
