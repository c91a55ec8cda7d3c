"""Only what moves is computed: tiles that wanted pixels need, and the pixels that come of them."""

import numpy as np
import pytest
from backends import CAR_CNN, needs_integers, picture
from networks import awake_model

from carfix.net.config import Config, FastConfig
from carfix.restore.engine.overlap import Selective, begin
from carfix.restore.fields import begin_pictures

pytest.importorskip("llvmlite", reason="llvmlite has no wheels for this machine")

from carfix.restore.engine.winograd.demand import TILE, demand, needed_tiles
from carfix.restore.engine.winograd.net import WinogradNet, Workspace
from carfix.restore.engine.winograd_engine import IntegerEngine, WinogradEngine

pytestmark = pytest.mark.usefixtures("one_torch_thread")

FAST = FastConfig(scale=2, features=16, blocks=3)


def some(height: int, width: int) -> np.ndarray:
    """A few wanted places, one at a corner and one at the far border."""
    wanted = np.zeros((height, width), np.uint8)
    wanted[0, 0] = wanted[-1, width // 2] = 1
    wanted[height // 3 : height // 3 + 6, width // 4 : width // 4 + 9] = 1
    return wanted


def grown(mask: np.ndarray) -> np.ndarray:
    padded = np.pad(mask, 1)
    height, width = mask.shape
    return np.any([padded[y : y + height, x : x + width] for y in range(3) for x in range(3)], axis=0)


@pytest.mark.parametrize("scale", [1, 2, 4])
@pytest.mark.parametrize("cells", [(1, 1), (5, 3), (33, 70), (64, 64), (40, 129), (9, 200)])
@pytest.mark.parametrize("reach", [None, 3])
def test_each_layer_computes_the_tiles_that_the_next_one_reads(
    scale: int, cells: tuple[int, int], reach: int | None
) -> None:
    height, width = cells
    wanted = some(height * scale, width * scale)
    mask = wanted.reshape(height, scale, width, scale).any(axis=(1, 3))
    layers = 6
    found = needed_tiles(wanted, layers=layers, scale=scale, reach=reach)
    for layer in range(layers - 1, -1, -1):
        filled = np.pad(mask, ((0, -height % TILE), (0, -width % TILE)))
        rows, columns = (side // TILE for side in filled.shape)
        expected = filled.reshape(rows, TILE, columns, TILE).any(axis=(1, 3))
        assert np.array_equal(found[layer], expected), layer
        if reach is None or layers - 1 - layer < reach:
            mask = grown(mask)


def test_a_table_says_what_the_masks_do() -> None:
    wanted = some(80, 144)
    tiles = needed_tiles(wanted, layers=4, scale=2)
    told = demand(wanted, layers=4, scale=2)
    for layer, row in np.ndindex(told.table.shape[:2]):
        start, count, cleared, clear = told.table[layer, row]
        wanted_here = np.flatnonzero(tiles[layer, row])
        if layer == 0:
            runs = told.columns[start : start + 2 * count].reshape(-1, 2)
            found = np.concatenate([[], *(np.arange(*run) for run in runs)])
        else:
            found = told.columns[start : start + count]
        assert np.array_equal(found, wanted_here)
        if layer < 3:
            read = grown(tiles[layer + 1])[row] & ~tiles[layer, row]
            assert np.array_equal(told.columns[cleared : cleared + clear], np.flatnonzero(read))
    assert 0 < told.share < 1


@pytest.mark.parametrize("config", [CAR_CNN, FAST, FastConfig(scale=4, features=24, blocks=2)], ids=str)
@pytest.mark.parametrize("integers", [False, True])
def test_wanted_pixels_are_those_of_the_whole_window(config: Config, integers: bool) -> None:
    """In fp32 but for rounding; and the same whatever the memory held before."""
    if integers:
        needs_integers()
    net = WinogradNet(awake_model(config), integers=integers)
    height, width = 60 * config.scale, 73 * config.scale
    before, codes = (plane.astype(np.uint16) // 4 + 96 * 256 for plane in picture(height, width, 16, count=2))
    whole = (slice(None), slice(None))
    wanted = some(height, width)

    def of(memory: Workspace, mask: np.ndarray | None) -> np.ndarray:
        return net.restore(codes, 16, 1.0, whole, memory, mask)

    fresh, used = net.memory(height, width), net.memory(height, width)
    net.restore(before, 16, 1.0, whole, used)
    parts, again = of(fresh, wanted), of(used, wanted)
    expected = of(net.memory(height, width), None)
    assert np.array_equal(parts[wanted == 1], again[wanted == 1])
    difference = np.abs(parts.astype(int) - expected)[wanted == 1]
    assert difference.max() <= (257 if integers else 1)  # of 16-bit codes: one of 8 bits
    assert not np.array_equal(parts, expected), "nothing was left out"


@pytest.mark.parametrize("engine_type", [WinogradEngine, IntegerEngine])
@pytest.mark.parametrize("tile", [None, 64])
@pytest.mark.parametrize("interlaced", [False, True])
def test_an_engine_computes_parts_in_windows_and_fields(
    engine_type: type[WinogradEngine], tile: int | None, interlaced: bool
) -> None:
    if engine_type is IntegerEngine:
        needs_integers()
    engine = engine_type(awake_model(FAST), tile=tile, threads=2)
    assert isinstance(engine, Selective)
    planes = (picture(83, 121, count=3) // 2 + 60).astype(np.uint8)  # no whole cells
    parts = [some(83, 121), None, np.zeros((83, 121), np.uint8)]
    expected = begin_pictures(engine, planes, 8, None, interlaced=interlaced)()
    found = begin_pictures(engine, planes, 8, None, interlaced=interlaced, wanted=parts)()
    assert found.shape == planes.shape
    assert np.array_equal(found[1], expected[1])
    assert np.array_equal(found[2], planes[2]), "what nobody wants is left as it came"
    here = parts[0] == 1
    assert np.abs(found[0].astype(int) - expected[0])[here].max() <= 1
    everything = begin(engine, planes, 8, None, [None] * 3)()
    assert np.array_equal(everything, engine.restore(planes, 8))
    engine.close()
