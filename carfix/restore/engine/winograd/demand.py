"""Which tiles of each layer are computed where only some pixels of a window are wanted.

What stands still in a video keeps the codes that it was shown with (`carfix.restore.hold`), so of most frames of a
camera that does not move only parts are looked at. A wanted pixel needs the cells around it that its layer reads, those
need more of the layer before, and so on: the mask of wanted cells grows by one in every direction a layer, from the
last one to the first. A tile is computed if it holds any. It reads neighbours beyond the mask, too, whose share cancels
out but for rounding: they are zero, so that no result depends on what was computed before.
"""

import dataclasses

import numpy as np
from numpy.typing import NDArray

from carfix.restore.engine import Wanted
from carfix.restore.engine.llvm.schedule import ENTRY

#: Sides in pixels of cells: so many bytes are looked at as one number.
WIDTHS = (1, 2, 4, 8)
#: Side of a tile in cells.
TILE = 4
#: Cells that one operation marks.
_WORD = 64
#: The bits of the first tile in a byte of them.
_LEFT = 15


@dataclasses.dataclass(frozen=True)
class Demand:
    """What the machine code is told: see `carfix.restore.engine.llvm.schedule`."""

    table: NDArray[np.int32]  # [layers, down, ENTRY]
    columns: NDArray[np.int32]
    share: float  # of the tiles of all layers


def everything(layers: int, down: int, across: int) -> Demand:
    """All tiles of all layers."""
    table = np.zeros((layers, down, ENTRY), np.int32)
    table[0, :, 1] = 1  # a run
    table[1:, :, 0] = 2
    table[1:, :, 1] = across
    return Demand(table, np.array([0, across, *range(across)], np.int32), 1.0)


def demand(wanted: Wanted, *, layers: int, scale: int, reach: int | None = None) -> Demand:
    """The tiles of cells of `scale` x `scale` pixels that `wanted` ones need of each layer.

    `wanted` is of whole cells. No cell is needed that is more than `reach` of them away.
    """
    tiles = needed_tiles(wanted, layers=layers, scale=scale, reach=reach)
    cleared = np.zeros_like(tiles)
    cleared[:-1] = _with_neighbours(tiles[1:])  # read by the next layer
    cleared &= ~tiles
    # The first layer takes runs of tiles: the first of each, and the one behind its last.
    edges = np.zeros((tiles.shape[1], tiles.shape[2] + 1), bool)
    edges[:, :-1] = tiles[0]
    edges[:, 1:] ^= tiles[0]
    parts = (edges, tiles[1:], cleared)
    columns = [_columns(part) for part in parts]
    counts = [np.count_nonzero(part, axis=-1) for part in parts]
    starts = np.cumsum(np.concatenate([[0], *(count.ravel() for count in counts)]))[:-1]
    table = np.empty((*tiles.shape[:2], ENTRY), np.int32)
    computed = starts[: table[..., 0].size].reshape(table.shape[:2])
    table[..., 0], table[..., 2] = computed, starts[computed.size :].reshape(computed.shape)
    table[0, :, 1], table[1:, :, 1], table[..., 3] = counts[0] // 2, counts[1], counts[2]
    return Demand(table, np.concatenate(columns), float(counts[1].sum() / tiles[1:].size))


def needed_tiles(wanted: Wanted, *, layers: int, scale: int, reach: int | None = None) -> NDArray[np.bool_]:
    """Whether a tile of a layer holds a cell that is needed, `[layers, down, across]`."""
    cells = _cells(wanted, scale)
    height, width = cells.shape
    down, across = -(-height // TILE), -(-width // TILE)
    packed = np.packbits(cells, axis=1, bitorder="little")
    words = np.zeros((down * TILE, -(-width // _WORD)), "<u8")
    words.view(np.uint8)[:height, : packed.shape[1]] = packed
    tiles = np.empty((layers, down, across), bool)
    last = layers - 1
    for layer in range(last, -1, -1):
        lines = np.bitwise_or.reduce(words.reshape(down, TILE, -1), axis=1).view(np.uint8)
        # Half a byte is a tile.
        tiles[layer, :, 0::2] = (lines & _LEFT)[:, : -(-across // 2)] != 0
        tiles[layer, :, 1::2] = lines[:, : across // 2] > _LEFT
        if reach is not None and last - layer >= reach:
            tiles[:layer] = tiles[layer]
            break
        if layer:
            words = _grown(words)
    return tiles


def _cells(wanted: Wanted, scale: int) -> NDArray[np.bool_]:
    """Whether a cell holds a wanted pixel."""
    rows = wanted[0::scale].copy()
    for line in range(1, scale):
        rows |= wanted[line::scale]
    marked: NDArray[np.bool_] = rows.view(f"u{scale}") != 0
    return marked


def _columns(marked: NDArray[np.bool_]) -> NDArray[np.int32]:
    """The columns of what is marked, row by row."""
    found: NDArray[np.int32] = np.broadcast_to(np.arange(marked.shape[-1], dtype=np.int32), marked.shape)[
        marked
    ]
    return found


def _grown(words: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Every cell with its eight neighbours."""
    rows = words.copy()
    rows[1:] |= words[:-1]
    rows[:-1] |= words[1:]
    one, rest = np.uint64(1), np.uint64(_WORD - 1)
    grown: NDArray[np.uint64] = rows | rows << one | rows >> one
    grown[:, 1:] |= rows[:, :-1] >> rest
    grown[:, :-1] |= rows[:, 1:] << rest
    return grown


def _with_neighbours(tiles: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Every tile with its eight neighbours."""
    rows = tiles.copy()
    rows[:, 1:] |= tiles[:, :-1]
    rows[:, :-1] |= tiles[:, 1:]
    grown = rows.copy()
    grown[:, :, 1:] |= rows[:, :, :-1]
    grown[:, :, :-1] |= rows[:, :, 1:]
    return grown
