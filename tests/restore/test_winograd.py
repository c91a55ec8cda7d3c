"""The winograd engine: its convolutions against torch's, its codes against numpy's."""

import dataclasses
from fractions import Fraction

import numpy as np
import pytest
from backends import CAR_CNN, FAST, exact, picture, restored, torch_engine
from networks import awake_model

from carfix.errors import CarfixError
from carfix.net.config import CarCnnConfig, Config, FastConfig
from carfix.restore.engine import choose

pytest.importorskip("llvmlite", reason="llvmlite has no wheels for this machine")

from carfix.restore.engine.choose import NCNN_FP32, TORCH_FP32, WINOGRAD_FP32, open_kind
from carfix.restore.engine.llvm import linking
from carfix.restore.engine.winograd import net as winograd_net
from carfix.restore.engine.winograd import program
from carfix.restore.engine.winograd.kernels import Blocking
from carfix.restore.engine.winograd.net import WinogradNet, blocking_for
from carfix.restore.engine.winograd.transforms import F4, Transform
from carfix.restore.engine.winograd_engine import WinogradEngine

pytestmark = pytest.mark.usefixtures("one_torch_thread")

#: What an error in [-1, 1] may be: a five-hundredth of an 8-bit code.
SMALL = 2e-5


@pytest.mark.parametrize(
    "config",
    [
        CAR_CNN,
        FAST,
        CarCnnConfig(features=64, blocks=1),
        FastConfig(scale=1, features=8, blocks=1),
        FastConfig(scale=2, features=16, blocks=2),
        FastConfig(scale=2, features=32, blocks=1, negative_slope=0.0),
        FastConfig(scale=4, features=24, blocks=1, negative_slope=1.0),
        FastConfig(scale=4, features=10, blocks=1),
        FastConfig(scale=8, features=5, blocks=1),
    ],
    ids=str,
)
@pytest.mark.parametrize("cells", [(1, 1), (1, 9), (4, 4), (5, 13), (16, 7), (31, 34)], ids=str)
def test_a_window_is_torchs(config: Config, cells: tuple[int, int]) -> None:
    """16-bit codes show errors of 3e-5; whole tiles, parts of tiles, fewer cells than registers take at once."""
    model = awake_model(config)
    codes = picture(cells[0] * config.scale, cells[1] * config.scale, 16)[0]
    difference = restored(WinogradNet(model), codes, 16) - exact(model, codes).clip(0, 65535)
    assert np.abs(difference).max() <= 0.5 + SMALL * 32768


@pytest.mark.parametrize(("lanes", "registers"), [(4, 16), (4, 32), (8, 16), (16, 32)])
@pytest.mark.parametrize("features", [16, 24])
def test_the_code_of_every_kind_of_cpu_computes_the_same(
    lanes: int, registers: int, features: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """To the bit: sums are taken in one order. LLVM takes vectors apart where the CPU has none so long."""
    model = awake_model(FastConfig(scale=2, features=features, blocks=1))
    codes = picture(50, 62, 16)[0]
    expected = restored(WinogradNet(model), codes, 16)
    monkeypatch.setattr(winograd_net, "blocking_for", lambda *_, **__: Blocking(lanes, registers, 24))
    net = WinogradNet(model)
    assert net.shape.blocking.lanes == lanes
    assert np.array_equal(restored(net, codes, 16), expected)
    assert np.abs(expected - exact(model, codes).clip(0, 65535)).max() <= 0.5 + SMALL * 32768


def test_cpus_use_the_widest_vectors_that_the_features_fill() -> None:
    def lanes(features: int, *names: str) -> int:
        return blocking_for(features, frozenset(names)).lanes

    assert lanes(64, "avx512f", "avx2", "avx") == 16
    assert lanes(24, "avx512f", "avx2", "avx") == 8
    assert lanes(32, "avx2", "avx") == 8
    assert lanes(20, "avx2", "avx") == 4
    assert lanes(10, "avx2", "avx") == 8  # filled up with zeros
    assert lanes(32, "neon") == lanes(32) == 4
    for features in (5, 16, 24, 32, 64, 80):
        for names in (("avx512f", "avx"), ("avx",), ("neon",), ()):
            blocking = blocking_for(features, frozenset(names))
            channels = -(-features // blocking.lanes) * blocking.lanes
            tiles, vectors = blocking.shape(channels)
            assert channels % (vectors * blocking.lanes) == 0
            assert blocking.block % tiles == 0
            assert tiles * vectors + vectors < blocking.registers
            assert tiles * vectors >= blocking.registers / 2  # sums enough to hide a multiplication's latency


def test_weights_of_f4_are_those_of_the_textbook() -> None:
    """Lavin and Gray's G, up to the scale of a row that B^T has the inverse of: a constant gives sums of rows."""
    ones = F4.weights(np.ones((1, 1, 3, 3), np.float32))[:, 0, 0].reshape(6, 6)
    sums = np.array([1 / 4, -3 / 6, -1 / 6, 7 / 24, 3 / 24, 1])
    assert np.abs(np.abs(ones) - np.abs(np.outer(sums, sums))).max() < 1e-6
    assert (F4.size, F4.outputs, F4.products) == (6, 4, 36)


@pytest.mark.parametrize("pairs", [(1,), (1, 2), (1, 2, Fraction(1, 2))], ids=str)
def test_any_number_of_points_gives_the_convolution(pairs: tuple[Fraction, ...]) -> None:
    model = awake_model(FastConfig(scale=2, features=8, blocks=1))
    shape = winograd_net.shape_of(model.config)
    transform = Transform(tuple(Fraction(a) for a in pairs))
    net = WinogradNet(model)
    net.shape = dataclasses.replace(shape, transform=transform)
    net._code, net._weights = program.compiled(net.shape), winograd_net.packed(model, net.shape)
    codes = picture(44, 38, 16)[0]
    assert np.abs(restored(net, codes, 16) - exact(model, codes).clip(0, 65535)).max() <= 0.5 + SMALL * 32768


@pytest.mark.parametrize("blocks", [1, 2, 3, 5])
@pytest.mark.parametrize("config", [CAR_CNN, FastConfig(scale=2, features=8)], ids=str)
def test_layers_in_groups_of_any_number_give_the_same_bits(
    config: CarCnnConfig | FastConfig, blocks: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where a group is the whole network, and where there are fewer rows of tiles than layers."""
    model = awake_model(dataclasses.replace(config, blocks=blocks))
    net = WinogradNet(model)
    for height in (2, 10, 66):
        codes = picture(height, 38, 16)[0]
        results = []
        for layers in (2, 4, 6, 12):
            monkeypatch.setattr(winograd_net, "GROUP", layers)
            results.append(restored(net, codes, 16))
        assert np.abs(results[0] - exact(model, codes).clip(0, 65535)).max() <= 0.5 + SMALL * 32768
        assert all(np.array_equal(result, results[0]) for result in results[1:])


def test_no_code_depends_on_threads_or_batches() -> None:
    model = awake_model(FastConfig(scale=2, features=16, blocks=1))
    codes = picture(96, 120, count=5)
    results = []
    for threads, batch in ((1, 1), (3, 2), (2, 5)):
        engine = WinogradEngine(model, tile=64, batch=batch, threads=threads)
        results.append(np.concatenate([engine.restore(codes[i : i + batch], 8) for i in range(0, 5, batch)]))
        engine.close()
    assert all(np.array_equal(result, results[0]) for result in results[1:])
    assert not np.array_equal(results[0], codes)


def test_frames_stay_whole_in_a_video_and_are_shared_out_alone() -> None:
    """Threads take a frame each where there are many; one that a program waits for is every thread's work."""
    model = awake_model(FastConfig(scale=2, features=16, blocks=1))
    engine = WinogradEngine(model, threads=3)
    codes = picture(240, 320)
    assert len(engine.cut(codes).found) == 1
    assert len(engine.cut(codes, alone=True).found) == 3
    assert len(engine.cut(codes.repeat(2, 0), alone=True).found) in (2, 3)
    assert len(engine.cut(codes.repeat(3, 0), alone=True).found) == 1
    difference = engine.submit(codes, 8).result().astype(int) - engine.restore(codes, 8)
    assert np.abs(difference).max() <= 1
    assert (difference != 0).mean() < 0.001
    engine.close()


def test_windows_of_several_sizes_take_turns() -> None:
    """Frames and fields, and a third size: more than memory is kept for."""
    model = awake_model(FAST)
    engine = WinogradEngine(model, threads=2)
    for height, width in ((48, 64), (24, 64), (52, 44), (48, 64)):
        codes = picture(height, width)
        difference = engine.restore(codes, 8).astype(int) - torch_engine(model, None).restore(codes, 8)
        assert np.abs(difference).max() <= 1
        assert (difference != 0).mean() < 0.001
    engine.close()


def test_where_no_machine_code_may_run_another_engine_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    """Hardened systems do not let a process execute what it has written."""

    def forbidden() -> None:
        raise OSError("cannot allocate executable memory")

    model = awake_model(FastConfig(scale=2, features=40, blocks=1))  # of no other test: not compiled yet
    monkeypatch.setattr(linking.binding, "check_jit_execution", forbidden)
    with pytest.raises(CarfixError, match="no machine code can be made here"):
        WinogradEngine(model)
    choice = choose.measure(model, [TORCH_FP32, WINOGRAD_FP32, NCNN_FP32])
    assert choice.kind != WINOGRAD_FP32
    assert WINOGRAD_FP32 not in choice.speeds


def test_it_is_a_candidate_and_opened_by_its_name() -> None:
    assert WINOGRAD_FP32 in choose.candidates("auto")
    assert WINOGRAD_FP32 in choose.candidates("fp32")
    engine = open_kind(WINOGRAD_FP32, awake_model(FAST), tile=64, batch=3)
    assert isinstance(engine, WinogradEngine)
    assert engine.description.startswith("winograd on cpu")
    assert engine.batch == 3
    engine.close()
