"""Winograd convolutions with products of 16-bit integers: near fp32, alike on every CPU, within their range."""

import dataclasses

import numpy as np
import pytest
import torch
from backends import CAR_CNN, FAST, exact, integer_engine, needs_integers, picture, restored, winograd_engine
from networks import awake_model

from carfix.errors import CarfixError
from carfix.net.checkpoint import Model
from carfix.net.config import CarCnnConfig, Config, FastConfig
from carfix.restore.engine import choose

pytest.importorskip("llvmlite", reason="llvmlite has no wheels for this machine")

from carfix.net.catalog import load_model
from carfix.restore.engine.choose import TORCH_FP32, WINOGRAD_FP32, WINOGRAD_INT16, open_kind
from carfix.restore.engine.llvm import linking
from carfix.restore.engine.llvm.integers import narrowed_order
from carfix.restore.engine.winograd import net as winograd_net
from carfix.restore.engine.winograd import scales
from carfix.restore.engine.winograd.net import WinogradNet, blocking_for
from carfix.restore.engine.winograd.products import Blocking
from carfix.restore.engine.winograd.transforms import F4, F4_BALANCED
from carfix.restore.engine.winograd_engine import IntegerEngine

pytestmark = [pytest.mark.usefixtures("one_torch_thread")]

CODE = 257  # an 8-bit code in 16-bit ones


@pytest.fixture(autouse=True)
def _integers() -> None:
    needs_integers()


@pytest.mark.parametrize(
    "config",
    [
        CAR_CNN,
        FAST,
        CarCnnConfig(features=64, blocks=2),
        FastConfig(scale=1, features=8, blocks=1),
        FastConfig(scale=2, features=16, blocks=2),
        FastConfig(scale=2, features=32, blocks=6),
        FastConfig(scale=4, features=24, blocks=1, negative_slope=0.0),
        FastConfig(scale=8, features=40, blocks=1, negative_slope=1.0),
    ],
    ids=str,
)
@pytest.mark.parametrize("cells", [(1, 1), (5, 13), (31, 34)], ids=str)
def test_a_window_is_near_torchs(config: Config, cells: tuple[int, int]) -> None:
    """Noise of full contrast is the hardest that there is."""
    model = awake_model(config)
    codes = picture(cells[0] * config.scale, cells[1] * config.scale, 16)[0]
    expected = exact(model, codes).clip(0, 65535)
    difference = restored(WinogradNet(model, integers=True), codes) - expected
    assert np.abs(difference).max() <= 0.5 * CODE
    assert np.sqrt((difference**2).mean()) <= 0.05 * CODE
    if codes.size > 1000:
        assert np.abs(codes - expected).mean() > CODE  # the network does something


@pytest.mark.parametrize("name", ["tiny", "fast", "medium", "car-cnn-mse"])
def test_shipped_networks_stay_within_one_code(name: str) -> None:
    model = load_model(name)
    side = 64 if name == "car-cnn-mse" else 160
    codes = choose._picture(side, 1)
    difference = integer_engine(model, None).restore(codes, 8).astype(int)
    difference -= winograd_engine(model, None).restore(codes, 8)
    assert np.abs(difference).max() <= 1
    assert 0 < (difference != 0).mean() < 0.05


def test_the_code_of_every_kind_of_cpu_computes_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    """To the bit: sums of integers are exact, and the rest is computed in one order."""
    model = awake_model(FastConfig(scale=2, features=32, blocks=2))
    codes = picture(50, 62, 16)[0]
    expected = restored(WinogradNet(model, integers=True), codes)
    kinds = [(4, 16), (8, 16), (8, 32)]
    if "avx512bw" in linking.host_features():
        kinds.append((16, 32))
    for lanes, registers in kinds:
        monkeypatch.setattr(
            winograd_net, "blocking_for", lambda *_, kind=(lanes, registers), **__: Blocking(*kind, 24)
        )
        net = WinogradNet(model, integers=True)
        assert net.shape.blocking.lanes == lanes
        assert np.array_equal(restored(net, codes), expected)


def test_vectors_are_as_wide_as_pairs_of_them_fill() -> None:
    def lanes(features: int, *names: str) -> int:
        return blocking_for(features, frozenset(names), vectors=2).lanes

    assert lanes(64, "avx512f", "avx512bw", "avx2", "avx") == 16
    assert lanes(32, "avx512f", "avx512bw", "avx2", "avx") == 16
    assert lanes(16, "avx512f", "avx512bw", "avx2", "avx") == 8
    assert lanes(64, "avx512f", "avx2", "avx") == 8  # the first with AVX-512 multiply no integers so wide
    assert lanes(32, "avx2", "avx") == 8


def test_no_input_makes_sums_run_over() -> None:
    """Every input the largest, with its weight's own sign: the sum of products is below 2^31 for each product."""
    for name in ("tiny", "fast", "medium"):
        model = load_model(name)
        largest = scales.ranges(model, F4_BALANCED)
        for layer, of_layer in zip(model.convolutions[1:], largest, strict=True):
            integers, _, _ = scales.integer_weights(F4_BALANCED.weights(layer.weight), of_layer)
            sums = np.abs(integers.astype(np.int64)).sum(axis=1)
            assert sums.max() * 32768 < 2**31
            assert sums.max() > 60000  # and the range is used
            assert integers.min() > -32768  # twice -32768 * -32768 is more than a pair's sum can be


@pytest.mark.parametrize("name", ["tiny", "fast", "medium"])
def test_a_picture_of_which_numbers_were_cut_down_is_computed_in_fp32(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Chequers and bits of noise in black and white wake more than ranges without room have integers for."""
    monkeypatch.setattr(scales, "_ROOM", 0.5)
    model = load_model(name)
    y, x = np.mgrid[:96, :96]
    noise = np.random.default_rng(0).integers(0, 2, (96, 96))
    hard = [(x + y + 1) % 2, ((y + 2) // 4 + (x + 1) // 4) % 2, noise]
    planes = np.stack([255 * picture for picture in hard]).astype(np.uint8)
    engine, exactly = integer_engine(model, None), winograd_engine(model, None)
    wanted = exactly.restore(planes, 8)
    # The numbers of one picture are not those of the next.
    camera = choose._picture(96, 1)
    before = engine.restore(camera, 8)
    assert np.abs(engine.restore(planes, 8).astype(int) - wanted).max() <= 1
    assert np.array_equal(engine.restore(camera, 8), before)
    monkeypatch.setattr(WinogradNet, "instead", lambda *_: None)
    assert np.abs(engine.restore(planes, 8).astype(int) - wanted).max() > 10


def test_what_is_out_of_range_is_cut_down_to_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is many times too large for its scale keeps its sign: nothing wraps round."""
    monkeypatch.setattr(WinogradNet, "instead", lambda *_: None)
    model = awake_model(FastConfig(scale=2, features=16, blocks=1))
    codes = picture(40, 40, 16)[0]
    expected = exact(model, codes).clip(0, 65535) - codes
    ranges = scales.ranges(model, F4_BALANCED)

    def shrunk(by: float) -> np.ndarray:
        monkeypatch.setattr(
            winograd_net, "ranges", lambda *_: [(part / by).astype(np.float32) for part in ranges]
        )
        return restored(WinogradNet(model, integers=True), codes) - codes.astype(np.float64)

    for by in (3, 6, 12):
        found = shrunk(by)
        assert np.abs(found).max() <= np.abs(expected).max() * 3
        assert np.corrcoef(found.ravel(), expected.ravel())[0, 1] > 0.5


def inputs_seen(model: Model) -> list[torch.Tensor]:
    """What its layers are given, from now on."""
    seen: list[torch.Tensor] = []
    for module in model.net.modules():
        if isinstance(module, torch.nn.Conv2d):
            module.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    return seen


def test_ranges_are_those_of_the_network() -> None:
    """Each layer's inputs, by torch, transformed by the matrix: no picture makes them larger than ranges say."""
    for config in (FastConfig(scale=2, features=8, blocks=2), CarCnnConfig(features=8, blocks=1)):
        model = awake_model(config)
        seen = inputs_seen(model)
        found = scales.found_ranges(model, F4)
        largest = [np.zeros_like(part) for part in found]
        parts = scales.pictures(32 * config.scale)
        assert len(parts) > 20
        for part in parts:
            seen.clear()
            model.net(torch.from_numpy(part)[None, None])
            for place, x in enumerate(seen[1:]):
                padded = torch.nn.functional.pad(x[0], (1, 1, 1, 1))
                tiles = padded.unfold(1, 6, 4).unfold(2, 6, 4)
                b = torch.from_numpy(F4.input_matrix())
                inside = torch.einsum("ia,cxyab,jb->ijcxy", b, tiles, b).abs().amax(dim=(3, 4))
                largest[place] = np.maximum(largest[place], inside.reshape(36, -1).numpy())
        for ours, theirs in zip(found, largest, strict=True):
            assert (ours >= theirs * 1.75 * 0.999).all()
            loud = theirs > theirs.max(axis=1, keepdims=True) / 32
            assert (ours <= theirs * 1.75 * 1.07)[loud].all()  # rounded up to a sixteenth


def test_a_balanced_transform_is_the_same_convolution() -> None:
    rng = np.random.default_rng(0)
    kernel, signal = rng.normal(size=(1, 1, 3, 3)).astype(np.float32), rng.normal(size=(6, 6))
    for transform in (F4, F4_BALANCED):
        b = transform.input_matrix().astype(np.float64)
        products = transform.weights(kernel)[:, 0, 0].reshape(6, 6) * (b @ signal @ b.T)
        points = [0, 1, -1, 2, -2]
        a = np.array([[point**power for point in points] + [power == 3] for power in range(4)], float)
        a /= np.array([float(size) for size in transform.balance])
        direct = [[(kernel[0, 0] * signal[y : y + 3, x : x + 3]).sum() for x in range(4)] for y in range(4)]
        assert np.abs(a @ products @ a.T - direct).max() < 1e-5


def test_two_vectors_are_narrowed_in_the_order_that_is_told() -> None:
    assert narrowed_order(4) == [0, 1, 2, 3, 4, 5, 6, 7]
    assert narrowed_order(8) == [0, 1, 2, 3, 8, 9, 10, 11, 4, 5, 6, 7, 12, 13, 14, 15]
    assert sorted(narrowed_order(16)) == list(range(32))


def test_ranges_are_found_once(tmp_path: object, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    model = awake_model(FAST)
    first = scales.ranges(model, F4_BALANCED)
    monkeypatch.setattr(scales, "found_ranges", None)
    for one, other in zip(first, scales.ranges(model, F4_BALANCED), strict=True):
        assert np.array_equal(one, other)
    with pytest.raises(TypeError):
        scales.ranges(dataclasses.replace(model, sha256="another"), F4_BALANCED)


def test_it_is_a_candidate_where_precision_is_left_open() -> None:
    assert WINOGRAD_INT16 in choose.candidates("auto")
    assert WINOGRAD_INT16 not in choose.candidates("fp32")
    engine = open_kind(WINOGRAD_INT16, awake_model(FAST), tile=64, batch=3)
    assert isinstance(engine, IntegerEngine)
    assert engine.description.startswith("winograd on cpu")
    assert "int16" in engine.description
    engine.close()


def test_a_cpu_without_such_vectors_takes_another(monkeypatch: pytest.MonkeyPatch) -> None:
    model = awake_model(FAST)
    for names in ({"avx", "avx2", "fma"}, {"neon"}):  # a virtual machine may hide F16C
        monkeypatch.setattr(winograd_net, "host_features", lambda names=names: frozenset(names))
        with pytest.raises(CarfixError, match="no instructions for products of 16-bit integers"):
            IntegerEngine(model)
    choice = choose.measure(model, [TORCH_FP32, WINOGRAD_FP32, WINOGRAD_INT16])
    assert WINOGRAD_INT16 not in choice.speeds
