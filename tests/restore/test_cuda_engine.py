"""The GPU engine, run on the CPU: the same code without streams, graphs and 16 bit gives the torch engine's codes."""

import contextlib
import time
import weakref
from pathlib import Path

import numpy as np
import pytest
import torch
from networks import awake_model

from carfix.errors import CarfixError, UsageError
from carfix.net.arch import CarCnnConfig, Config, FastConfig, convolution_layers
from carfix.net.checkpoint import Model
from carfix.restore.engine import Planes, open_engine, select
from carfix.restore.engine.autotune import Plan
from carfix.restore.engine.cuda_check import safe_precision
from carfix.restore.engine.cuda_engine import CudaEngine, windows_at_once
from carfix.restore.engine.cuda_open import open_accelerator
from carfix.restore.engine.cuda_program import COMPILED, EAGER, Batch, Builder, Program, align, codes_to_codes
from carfix.restore.engine.cuda_streams import DOWNLOAD, CudaStreams, InOrder, Mark, Queues, seconds_of
from carfix.restore.engine.overlap import begin, depth_of, prepare
from carfix.restore.engine.torch_engine import TorchEngine
from carfix.restore.engine.tune_cache import TuneCache

CPU = torch.device("cpu")
CAR_CNN = CarCnnConfig(features=8, blocks=2)
FAST = FastConfig(scale=4, features=8, blocks=1)


def picture(height: int, width: int, bits: int = 8, count: int = 1) -> Planes:
    rng = np.random.default_rng(height * width + count)
    codes = rng.integers(0, 2**bits, (count, height, width))
    return codes.astype(np.uint8 if bits == 8 else np.uint16)


def engine_of(
    model: Model,
    *,
    tile: int = 4096,
    windows: int = 3,
    precision: str = "fp32",
    queues: Queues | None = None,
    builder: type[Builder] = Builder,
) -> CudaEngine:
    return CudaEngine(
        model,
        builder=builder(model.net, device=CPU, precision=precision, queues=queues or InOrder(CPU)),
        planner=lambda height, width: Plan(tile, windows, EAGER),
        batch=2,
        tile=None,
        description="tested",
    )


def expected_of(model: Model, codes: Planes, bits: int = 8, tile: int = 4096) -> Planes:
    return TorchEngine(model, device=CPU, precision="fp32", tile=tile, batch=None).restore(codes, bits)


@pytest.mark.parametrize("config", [CAR_CNN, FAST, FastConfig(scale=2, features=8, blocks=1)], ids=str)
@pytest.mark.parametrize("bits", [8, 10])
@pytest.mark.parametrize("size", [(97, 141), (64, 200), (33, 35)])
def test_codes_are_those_of_the_torch_engine(config: Config, bits: int, size: tuple[int, int]) -> None:
    model = awake_model(config)
    for tile in (48, 64, 4096):
        engine = engine_of(model, tile=tile)
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
    restored = engine_of(model, precision=precision).restore(codes, bits)
    assert np.abs(restored.astype(int) - expected_of(model, codes, bits)).max() <= most


class Late(InOrder):
    """Copies arrive only when they are waited for: until then, host memory holds rubbish."""

    def __init__(self) -> None:
        super().__init__(CPU)
        self.buffers: list[torch.Tensor] = []
        self.on_the_way: set[int] = set()
        self.waits = 0

    def host_buffer(self, shape: tuple[int, ...], dtype: torch.dtype) -> torch.Tensor:
        self.buffers.append(super().host_buffer(shape, dtype))
        return self.buffers[-1]

    def mark(self, queue: str) -> Mark:
        if queue != DOWNLOAD:
            return super().mark(queue)
        filled = {n: b.clone() for n, b in enumerate(self.buffers) if n not in self.on_the_way}
        for n in filled:
            self.buffers[n].fill_(77)
        self.on_the_way |= filled.keys()
        return Arriving(self, filled)


class Arriving:
    def __init__(self, queues: Late, filled: dict[int, torch.Tensor]) -> None:
        self._queues, self._filled = queues, filled

    def synchronize(self) -> None:
        self._queues.waits += 1
        for n, contents in self._filled.items():
            self._queues.buffers[n].copy_(contents)
            self._queues.on_the_way.discard(n)


def test_batches_under_way_keep_their_results_apart() -> None:
    model = awake_model(FAST)
    engine = engine_of(model, queues=Late())
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


def test_results_are_not_there_before_they_are_waited_for() -> None:
    """The test above would miss an engine that never waits if `Late` did not hide anything."""
    queues = Late()
    engine_of(awake_model(FAST), queues=queues).submit(picture(40, 56), 8)
    assert all((buffer == 77).all() for buffer in queues.buffers)


def test_a_third_batch_waits_for_the_first_and_no_other() -> None:
    queues = Late()
    engine = engine_of(awake_model(FAST), queues=queues)
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
    prepare(TorchEngine(model, device=CPU, precision="fp32", tile=None, batch=None), 70, 90)


def test_any_engine_can_be_asked_to_begin() -> None:
    codes = picture(40, 56)
    model = awake_model(FAST)
    expected = expected_of(model, codes)
    plain = TorchEngine(model, device=CPU, precision="fp32", tile=None, batch=None)
    late = engine_of(model, queues=Late())
    assert (depth_of(plain), depth_of(late)) == (1, 2)
    for engine in (plain, late):
        mine = codes.copy()
        finish = begin(engine, mine, 8)
        mine[:] = 0
        assert np.array_equal(finish(), expected)


def test_sizes_and_depths_may_change_between_batches() -> None:
    model = awake_model(FAST)
    engine = engine_of(model)
    for bits, size in ((8, (40, 56)), (10, (40, 56)), (8, (20, 56)), (8, (40, 56)), (8, (41, 55))):
        codes = picture(*size, bits, count=2)
        assert np.array_equal(engine.restore(codes, bits), expected_of(model, codes, bits))
    engine.close()


class Cramped(Builder):
    """A device that holds windows of at most 48 pixels."""

    def build(self, variant: str, batch: Batch) -> Program:
        if batch.height > 48:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return super().build(variant, batch)


def test_out_of_memory_repeats_the_frames_in_smaller_windows_and_remembers() -> None:
    model = awake_model(FAST)
    engine = engine_of(model, builder=Cramped, queues=Late())
    small = engine.submit(picture(40, 40), 8)
    large = engine.submit(picture(150, 96), 8)
    assert np.array_equal(large.result(), expected_of(model, picture(150, 96)))
    assert np.array_equal(small.result(), expected_of(model, picture(40, 40)))
    assert engine.plan(150, 96).tile <= 48
    assert engine.plan(40, 40).tile == 4096  # whole frames of that size fit
    assert np.array_equal(engine.restore(picture(150, 96), 8), expected_of(model, picture(150, 96)))


class Full(Builder):
    def build(self, variant: str, batch: Batch) -> Program:
        raise RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED")


def test_out_of_memory_below_the_smallest_window_is_an_error() -> None:
    with pytest.raises(CarfixError, match="smallest window"):
        engine_of(awake_model(FAST), builder=Full).restore(picture(64, 64), 8)


def test_a_variant_that_cannot_be_built_any_more_is_replaced() -> None:
    class NoCompiler(Builder):
        def build(self, variant: str, batch: Batch) -> Program:
            if variant == COMPILED:
                raise FileNotFoundError("gcc")
            return super().build(variant, batch)

    model = awake_model(FAST)
    engine = CudaEngine(
        model,
        builder=NoCompiler(model.net, device=CPU, precision="fp32", queues=InOrder(CPU)),
        planner=lambda height, width: Plan(64, 2, COMPILED),
        batch=2,
        tile=None,
        description="tested",
    )
    codes = picture(100, 70)
    assert np.array_equal(engine.restore(codes, 8), expected_of(model, codes, tile=64))


class Streams(CudaStreams):
    """Streams as a builder of graphs sees them, on a machine that has none."""

    def __init__(self) -> None:
        pass

    def on(self, queue: str, after: Mark | None = None) -> contextlib.AbstractContextManager[None]:
        return contextlib.nullcontext()

    def synchronize(self) -> None:
        pass


@pytest.mark.parametrize("error", [RuntimeError("operation not permitted when stream is capturing"), None])
def test_a_capture_that_fails_leaves_the_program_as_it_is(
    monkeypatch: pytest.MonkeyPatch, error: RuntimeError | None
) -> None:
    class Captured(Program):
        def __init__(self, restore: object, batch: Batch, device: torch.device) -> None:
            raise error or torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr("carfix.restore.engine.cuda_program.CapturedProgram", Captured)
    builder = Builder(awake_model(FAST).net, device=CPU, precision="fp32", queues=Streams())
    if error is None:
        with pytest.raises(torch.OutOfMemoryError):
            builder.build(EAGER, Batch(1, 32, 32, 8))
        return
    program = builder.build(EAGER, Batch(1, 32, 32, 8))
    codes = picture(32, 32)
    program.input.copy_(torch.from_numpy(codes))
    program()
    assert np.array_equal(program.output.numpy(), expected_of(awake_model(FAST), codes))
    assert not program.captured


def test_programs_for_other_batches_make_room_before_windows_shrink() -> None:
    alive: weakref.WeakSet[Program] = weakref.WeakSet()

    class RoomForOne(Builder):
        def build(self, variant: str, batch: Batch) -> Program:
            if alive:
                raise torch.OutOfMemoryError("CUDA out of memory")
            program = super().build(variant, batch)
            alive.add(program)
            return program

    model = awake_model(FAST)
    engine = engine_of(model, windows=2, builder=RoomForOne)
    for count in (2, 1, 2):
        codes = picture(60, 44, count=count)
        assert np.array_equal(engine.restore(codes, 8), expected_of(model, codes))
    assert engine.plan(60, 44) == Plan(4096, 2, EAGER)


def test_few_windows_do_not_pay_for_a_full_batch() -> None:
    plan = Plan(1920, 6, EAGER)
    assert [windows_at_once(plan, count) for count in (1, 2, 3, 4, 5, 6, 60)] == [1, 2, 4, 4, 6, 6, 6]
    assert windows_at_once(Plan(1920, 6, COMPILED), 1) == 6


def test_many_planes_go_through_in_parts() -> None:
    model = awake_model(FAST)
    engine = engine_of(model, queues=Late())  # two frames a batch
    codes = picture(40, 40, count=7)
    assert np.array_equal(engine.restore(codes, 8), expected_of(model, codes))
    assert max(len(slot.source) for slot in engine._slots if slot is not None) == 2
    assert engine.restore(codes[:0], 8).shape == (0, 40, 40)


def test_other_errors_of_the_device_are_not_taken_for_a_lack_of_memory() -> None:
    class Broken(Builder):
        def build(self, variant: str, batch: Batch) -> Program:
            raise RuntimeError("an illegal memory access was encountered")

    with pytest.raises(RuntimeError, match="illegal"):
        engine_of(awake_model(FAST), builder=Broken).restore(picture(64, 64), 8)


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
