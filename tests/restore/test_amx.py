"""The amx engine: its tiles in numpy and its code on any machine, its codes where the CPU has tiles."""

import dataclasses

import numpy as np
import pytest
import torch
from backends import CAR_CNN, FAST, on_amx, picture, torch_engine
from networks import awake_model
from torch.nn import functional

from carfix.errors import CarfixError
from carfix.net.checkpoint import Model
from carfix.net.config import CarCnnConfig, Config, FastConfig
from carfix.restore.engine import choose, planes

pytest.importorskip("llvmlite", reason="llvmlite has no wheels for this machine")

from llvmlite import binding

from carfix.restore.engine.amx import net as amx_net
from carfix.restore.engine.amx import program
from carfix.restore.engine.amx.kernels import Layout
from carfix.restore.engine.amx.net import AmxNet, rounded, shape_of, weight_tiles
from carfix.restore.engine.amx_engine import AmxEngine
from carfix.restore.engine.choose import AMX_BF16, TORCH_BF16, TORCH_FP32, open_kind
from carfix.restore.engine.llvm import linking

WHOLE = (slice(None), slice(None))
CONFIGS = [
    CAR_CNN,
    FAST,
    CarCnnConfig(features=64, blocks=1),
    FastConfig(scale=1, features=8, blocks=1),
    FastConfig(scale=2, features=16, blocks=2),
    FastConfig(scale=2, features=32, blocks=1, negative_slope=0.0),
    FastConfig(scale=2, features=48, blocks=1),
    FastConfig(scale=4, features=24, blocks=1, negative_slope=1.0),
    FastConfig(scale=8, features=5, blocks=1),
]


def bf16(x: np.ndarray) -> np.ndarray:
    """Rounded to bf16, as fp32."""
    return (rounded(x.astype(np.float32)).astype(np.uint32) << 16).view(np.float32)


def test_numbers_are_rounded_as_torch_rounds_them() -> None:
    x = np.concatenate([np.random.default_rng(0).normal(0, 3, 4000), [0.0, -0.0, 1.00390625, 1e-20, 3e38]])
    x = x.astype(np.float32)
    assert np.array_equal(bf16(x), torch.from_numpy(x).to(torch.bfloat16).float().numpy())


@pytest.mark.parametrize("channels", [2, 8, 16, 18, 32, 48, 64, 128])
@pytest.mark.parametrize("outputs", [1, 16, 20, 32, 64])
def test_steps_and_tiles_add_up_to_the_convolution(channels: int, outputs: int) -> None:
    """What the instructions do, in numpy: rows of a tile are read from the map as it lies in memory."""
    rng = np.random.default_rng(0)
    layout = Layout(units=channels // 2, outputs=outputs)
    weights = bf16(rng.normal(0, 1, (outputs, channels, 3, 3)))
    rows = bf16(rng.normal(0, 1, (3, 18, channels)))  # of 16 cells and their neighbours
    memory = np.concatenate([rows.reshape(3, -1), np.full((3, 64), 1e9, np.float32)], axis=1)
    wide = layout.grid[1]
    tiles = weight_tiles(weights, layout)
    assert tiles.shape == (layout.groups // wide, len(layout.steps), wide, 16, 16, 2)
    numbers = (tiles.astype(np.uint32) << 16).view(np.float32)
    sums = np.zeros((16, layout.groups * 16))
    for index, step in enumerate(layout.steps):
        start = 2 * (step.column * layout.units + step.start)
        cells = np.stack([memory[step.row, start + n * channels :][:32] for n in range(16)])
        # [pair, output, 2] of each group: the numbers of a row meet those of their pair.
        factors = numbers[:, index].transpose(2, 4, 0, 1, 3).reshape(32, -1)
        used = np.where((factors != 0).any(axis=1), 1.0, 0.0)  # what lies beyond meets zeros
        sums += (cells * used) @ factors
    expected = functional.conv2d(
        torch.from_numpy(rows).permute(2, 0, 1)[None].double(), torch.from_numpy(weights).double()
    )
    assert np.abs(sums[:, :outputs].T - expected[0, :, 0].numpy()).max() < 1e-3
    assert not sums[:, outputs:].any()


@pytest.mark.parametrize("config", CONFIGS, ids=str)
def test_the_code_can_be_made_on_any_machine(config: Config) -> None:
    module = binding.parse_assembly(str(program.written(shape_of(config))))
    module.verify()
    try:
        binding.initialize_all_targets()
        binding.initialize_all_asmprinters()
        target = binding.Target.from_triple("x86_64-unknown-linux-gnu")
    except RuntimeError as error:
        pytest.skip(f"this LLVM makes no code for x86: {error}")
    assembly = target.create_target_machine(cpu="sapphirerapids", opt=2).emit_assembly(module)
    assert "tdpbf16ps" in assembly and "vcvtneps2bf16" in assembly and "ldtilecfg" in assembly


def test_cells_that_tiles_cannot_hold_are_left_to_others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("carfix.restore.engine.amx_engine.has_tiles", lambda: True)
    model = awake_model(FastConfig(scale=3, features=8, blocks=1))
    with pytest.raises(CarfixError, match="cells of 3x3 pixels"):
        AmxEngine(model)


def test_it_is_a_candidate_where_there_are_tiles(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(choose, "can_bf16", lambda: True)
    monkeypatch.setattr(choose, "has_tiles", lambda: False)
    assert AMX_BF16 not in choose.candidates("auto")
    assert choose.candidates("bf16") == (TORCH_BF16,)
    monkeypatch.setattr(choose, "multiplies_bf16", lambda: True)
    monkeypatch.setattr(choose, "has_tiles", lambda: True)
    assert {AMX_BF16, TORCH_BF16, TORCH_FP32} <= set(choose.candidates("auto"))
    assert choose.candidates("bf16") == (AMX_BF16, TORCH_BF16)
    assert AMX_BF16 not in choose.candidates("fp32")


def test_a_cpu_without_tiles_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("carfix.restore.engine.amx_engine.has_tiles", lambda: False)
    with pytest.raises(CarfixError, match="no tiles for bf16"):
        AmxEngine(awake_model(FAST))


def restored(net: AmxNet, codes: np.ndarray, bits: int = 8, share: float = 1.0) -> np.ndarray:
    return net.restore(codes, bits, share, WHOLE, net.memory(*codes.shape))


def exact(model: Model, codes: np.ndarray, bits: int) -> np.ndarray:
    """The network on the window in float64, in 8-bit codes, not rounded."""
    x = torch.from_numpy(codes.astype(np.float64))[None, None] * (2 / planes.peak(bits)) - 1
    y: np.ndarray = model.net.double()(x)[0, 0].numpy()
    model.net.float()
    return (y + 1) * 127.5


@on_amx
@pytest.mark.parametrize("config", CONFIGS, ids=str)
@pytest.mark.parametrize("cells", [(1, 1), (1, 9), (5, 16), (3, 70), (16, 64), (31, 97)], ids=str)
def test_a_window_is_torchs(config: Config, cells: tuple[int, int]) -> None:
    """In 16-bit codes, so that rounding hides nothing; bf16's own errors are fractions of an 8-bit code."""
    model = awake_model(config)
    codes = picture(cells[0] * config.scale, cells[1] * config.scale, 16)[0]
    found = restored(AmxNet(model), codes, 16) / 257
    difference = np.abs(found - exact(model, codes, 16))
    assert difference.max() < 0.15
    assert difference.mean() < 0.03
    assert np.abs(found - codes / 257).max() > (0.5 if codes.size > 1000 else 0)  # the network did something


@on_amx
@pytest.mark.parametrize("blocks", [1, 2, 5])
@pytest.mark.parametrize("config", [CAR_CNN, FastConfig(scale=2, features=16)], ids=str)
def test_layers_in_groups_of_any_number_give_the_same_bits(
    config: CarCnnConfig | FastConfig, blocks: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = awake_model(dataclasses.replace(config, blocks=blocks))
    net = AmxNet(model)
    for height in (2, 10, 66):
        codes = picture(height, 38, 16)[0]
        results = []
        for layers in (2, 4, 6, 12):
            monkeypatch.setattr(amx_net, "GROUP", layers)
            results.append(restored(net, codes, 16))
        assert all(np.array_equal(result, results[0]) for result in results[1:])


@on_amx
def test_no_code_depends_on_windows_threads_or_batches() -> None:
    """Sums are taken in one order wherever a pixel lies in a window."""
    model = awake_model(FastConfig(scale=2, features=16, blocks=1))
    codes = picture(96, 120, count=5)
    results = []
    for tile, threads, batch in ((64, 1, 1), (48, 3, 2), (64, 2, 5), (None, 2, 2)):
        engine = AmxEngine(model, tile=tile, batch=batch, threads=threads)
        results.append(np.concatenate([engine.restore(codes[i : i + batch], 8) for i in range(0, 5, batch)]))
        engine.close()
    assert all(np.array_equal(result, results[0]) for result in results[1:])
    assert not np.array_equal(results[0], codes)


@on_amx
@pytest.mark.parametrize("config", [CAR_CNN, FAST, FastConfig(scale=2, features=32, blocks=3)], ids=str)
def test_frames_are_within_a_code_of_fp32(config: Config) -> None:
    model = awake_model(config)
    codes = picture(144, 176, count=2)
    engine = open_kind(AMX_BF16, model, batch=2)
    assert engine.description.startswith("amx on cpu") and "bf16" in engine.description
    difference = engine.restore(codes, 8).astype(int) - torch_engine(model, None).restore(codes, 8)
    assert np.abs(difference).max() <= 1
    engine.close()


@on_amx
def test_other_libraries_in_a_thread_find_their_tiles_as_they_left_them() -> None:
    """oneDNN configures tiles for its own sizes; one thread computes by turns."""
    model = awake_model(FAST)
    net, codes = AmxNet(model), picture(40, 56)[0]
    memory, before = net.memory(40, 56), torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        x = torch.randn(48, 80, dtype=torch.bfloat16)
        product, first = x @ x.T, net.restore(codes, 8, 1.0, WHOLE, memory)
        for _ in range(5):
            assert torch.equal(x @ x.T, product)
            assert np.array_equal(net.restore(codes, 8, 1.0, WHOLE, memory), first)
    finally:
        torch.set_num_threads(before)


@on_amx
def test_bf16_that_is_asked_for_is_the_quicker_of_two() -> None:
    choice = choose.measure(awake_model(FAST), choose.candidates("bf16"))
    assert choice.kind in (AMX_BF16, TORCH_BF16)
    assert TORCH_FP32 not in choice.speeds


@on_amx
def test_where_no_machine_code_may_run_another_engine_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    def forbidden() -> None:
        raise OSError("cannot allocate executable memory")

    model = awake_model(FastConfig(scale=2, features=80, blocks=1))  # of no other test: not compiled yet
    monkeypatch.setattr(linking.binding, "check_jit_execution", forbidden)
    with pytest.raises(CarfixError, match="no machine code can be made here"):
        AmxEngine(model)
