"""How frames are cut for the cores of a CPU."""

import contextlib
import itertools
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from backends import CAR_CNN, FAST, picture
from networks import awake_model

from carfix.net.catalog import LARGE_PAGES
from carfix.net.config import CarCnnConfig, Config, FastConfig, margin
from carfix.restore.engine import Planes, Wanted
from carfix.restore.engine.cpu_engine import WindowRestorer, in_floats
from carfix.restore.engine.cpu_grid import (
    CANDIDATES,
    MOST_MAP_BYTES,
    SLOW_CELLS_16_BIT,
    Frame,
    Grid,
    candidates,
    fastest,
    usual,
)
from carfix.restore.engine.fused import is_fusable
from carfix.restore.engine.fused_engine import FusedEngine
from carfix.restore.engine.overlap import Planning, prepare
from carfix.restore.engine.planes import Floats
from carfix.restore.engine.tune_cache import TuneCache
from carfix.restore.fields import prepare_pictures

NETWORKS: list[Config] = [
    CarCnnConfig(),
    FastConfig(scale=2, features=16),
    FastConfig(scale=2, features=32, blocks=15),
    FastConfig(scale=4, features=64),
]
SIZES = [(144, 176), (360, 640), (576, 720), (1080, 1920), (2160, 3840), (64, 4000)]
FULL_HD = Frame(1080, 1920, FastConfig(scale=2, features=32, blocks=6), 2)


@pytest.mark.parametrize("config", NETWORKS, ids=str)
@pytest.mark.parametrize("size", SIZES, ids=str)
@pytest.mark.parametrize("itemsize", [2, 4])
def test_maps_of_every_candidate_fit_and_half_of_a_window_is_kept(
    config: Config, size: tuple[int, int], itemsize: int
) -> None:
    frame = Frame(*size, config, itemsize)
    found = candidates(frame)
    assert found[0] == usual(frame)
    assert 1 <= len(found) <= CANDIDATES and len(set(found)) == len(found)
    for by in found:
        assert frame.map_bytes(by) <= MOST_MAP_BYTES
        for count, length, side in zip((by.rows, by.columns), size, frame.window(by), strict=True):
            assert count == 1 or length > side >= 4 * margin(config)


@pytest.mark.parametrize("config", NETWORKS, ids=str)
def test_the_model_counts_what_is_really_cut(config: Config) -> None:
    frame = Frame(1080, 1920, config, 2)
    for by in candidates(frame):
        cut = frame.cut(by)
        height, width = frame.window(by)
        assert all(w.rows.stop - w.rows.start == height for w in cut)
        assert all(w.columns.stop - w.columns.start == width for w in cut)
        assert frame.overlap(by) == pytest.approx(len(cut) * height * width / (1080 * 1920), rel=0.1)


def test_overlaps_are_weighed_against_large_maps() -> None:
    whole, strips, squares = Grid(1, 1), Grid(1, 6), Grid(6, 10)
    assert FULL_HD.overlap(whole) == 1.0 < FULL_HD.overlap(strips) < FULL_HD.overlap(squares)
    assert FULL_HD.map_bytes(whole) > FULL_HD.map_bytes(strips) > FULL_HD.map_bytes(squares)
    assert FULL_HD.cost(usual(FULL_HD)) < min(FULL_HD.cost(by) for by in (whole, squares))


def test_untimed_windows_in_16_bit_are_as_wide_as_amx_is_quick() -> None:
    for config, size in itertools.product(NETWORKS, SIZES[1:5]):
        narrow, any_width = Frame(*size, config, 2), Frame(*size, config, 4)
        assert narrow.window(usual(narrow))[1] // config.scale < SLOW_CELLS_16_BIT
        assert any_width.cost_untimed(usual(any_width)) == any_width.cost(usual(any_width))


def test_small_frames_are_not_cut() -> None:
    assert candidates(Frame(120, 160, CarCnnConfig(), 2)) == [Grid(1, 1)]


def test_a_network_whose_margins_are_huge_gets_the_smallest_windows_there_are() -> None:
    config = CarCnnConfig(blocks=200)
    frame = Frame(1080, 1920, config, 4)
    assert frame.map_bytes(usual(frame)) > MOST_MAP_BYTES
    assert candidates(frame) == [usual(frame)]


class _Machine:
    """Times that are known; the first of each grid is long."""

    def __init__(self, times: dict[Grid, float]) -> None:
        self.now = 0.0
        self.asked: list[Grid] = []
        self._times = times

    def seconds(self, by: Grid) -> float:
        took = self._times[by] * (1 if by in self.asked else 1.3)
        self.asked.append(by)
        self.now += took
        return took


GRIDS = [Grid(1, columns) for columns in range(1, 9)]


def test_the_fastest_of_the_candidates_is_taken() -> None:
    machine = _Machine({by: 0.05 - 0.001 * by.columns for by in GRIDS})
    assert fastest(GRIDS, machine.seconds, lambda: machine.now) == GRIDS[-1]
    assert machine.asked.count(GRIDS[-1]) > machine.asked.count(GRIDS[1])


def test_what_is_hardly_faster_than_usual_is_not_taken() -> None:
    machine = _Machine({by: 0.05 if by == GRIDS[0] else 0.049 for by in GRIDS})
    assert fastest(GRIDS, machine.seconds, lambda: machine.now) == GRIDS[0]


def test_timing_ends_on_a_slow_machine() -> None:
    machine = _Machine({by: 6.0 for by in GRIDS})
    assert fastest(GRIDS, machine.seconds, lambda: machine.now) == GRIDS[0]
    assert len(machine.asked) <= 2 * len(GRIDS)


def test_a_hopeless_grid_is_timed_once() -> None:
    machine = _Machine({by: 0.05 if by.columns < 3 else 1.0 for by in GRIDS})
    fastest(GRIDS, machine.seconds, lambda: machine.now)
    assert all(machine.asked.count(by) == 1 for by in GRIDS if by.columns > 4)


@pytest.fixture
def fused(tmp_path: Path) -> Iterator[Callable[[], FusedEngine]]:
    """Engines whose windows are found anew, and kept in a folder of the test; their threads end with it."""
    if not is_fusable():
        pytest.skip("this torch has no oneDNN")
    model = awake_model(CarCnnConfig(features=16, blocks=1))
    with contextlib.ExitStack() as stack:

        def engine() -> FusedEngine:
            opened = FusedEngine(model, precision="fp32", threads=2, cache=TuneCache(tmp_path))
            stack.callback(opened.close)
            return opened

        yield engine


def test_planned_windows_change_no_code(fused: Callable[[], FusedEngine]) -> None:
    codes = picture(360, 640)
    planned, unplanned = fused(), fused()
    found = planned.plan(360, 640)
    assert len(candidates(Frame(360, 640, planned.model.config, 4))) > 1
    assert planned.cut(codes).found == found
    assert np.array_equal(planned.restore(codes, 8), unplanned.restore(codes, 8))


def test_a_plan_is_kept(
    fused: Callable[[], FusedEngine], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def taken(found: list[Grid], seconds: object) -> Grid:
        return found[-1]

    monkeypatch.setattr("carfix.restore.engine.fused_engine.fastest", taken)
    first = fused().plan(360, 640)
    assert len(list(tmp_path.glob("tune-*"))) == 1
    monkeypatch.setattr("carfix.restore.engine.fused_engine.fastest", None)  # nothing is timed again
    assert fused().plan(360, 640) == first != fused().windows_of(360, 640)


def test_frames_that_are_not_cut_and_windows_that_the_user_chose_are_not_timed(
    fused: Callable[[], FusedEngine], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("carfix.restore.engine.fused_engine.fastest", None)
    assert len(fused().plan(90, 120)) == 1
    chosen = FusedEngine(awake_model(CAR_CNN), precision="fp32", tile=100, threads=2)
    assert max(w.rows.stop - w.rows.start for w in chosen.plan(360, 640)) <= 100


def test_a_plan_that_another_version_left_is_found_anew(
    fused: Callable[[], FusedEngine], tmp_path: Path
) -> None:
    fused().plan(360, 640)
    (path,) = tmp_path.glob("tune-*")
    text = path.read_text()
    path.write_text(text.replace('"rows": ', '"rows": 77'))
    assert fused().plan(360, 640)
    assert '"rows": 77' not in path.read_text()


@pytest.mark.parametrize("error", [MemoryError(), RuntimeError("DefaultCPUAllocator: can't allocate memory")])
def test_windows_for_which_there_is_no_memory_are_not_planned(
    fused: Callable[[], FusedEngine], error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = fused()
    real, asked = engine.restorer, []  # type: tuple[Callable[[int, int], WindowRestorer], list[tuple[int, int]]]

    def restorer(height: int, width: int) -> WindowRestorer:
        asked.append((height, width))

        def small_only(
            codes: Planes, bits: int, share: float, kept: tuple[slice, slice], wanted: Wanted | None
        ) -> Planes:
            if height * width > 100_000:
                raise error
            return real(height, width)(codes, bits, share, kept, wanted)

        return small_only

    monkeypatch.setattr(engine, "restorer", restorer)
    for window in engine.plan(360, 640):
        assert (window.rows.stop - window.rows.start) * (
            window.columns.stop - window.columns.start
        ) <= 100_000
    assert any(height * width > 100_000 for height, width in asked)


def test_other_errors_while_timing_are_not_hidden(
    fused: Callable[[], FusedEngine], monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(unit: Floats) -> Floats:
        raise RuntimeError("broken")

    engine = fused()
    monkeypatch.setattr(engine, "restorer", lambda height, width: in_floats(broken))
    with pytest.raises(RuntimeError, match="broken"):
        engine.plan(360, 640)


def test_fields_are_prepared_as_such() -> None:
    class Engine:
        def __init__(self) -> None:
            self.planned: list[tuple[int, int]] = []

        def plan(self, height: int, width: int) -> object:
            self.planned.append((height, width))
            return None

    assert isinstance(Engine(), Planning)
    whole, fields, line = Engine(), Engine(), Engine()
    prepare_pictures(whole, 97, 64, interlaced=False)  # type: ignore[arg-type] # it plans, which is all
    prepare_pictures(fields, 97, 64, interlaced=True)  # type: ignore[arg-type]
    prepare_pictures(line, 1, 64, interlaced=True)  # type: ignore[arg-type]
    assert (whole.planned, fields.planned, line.planned) == ([(97, 64)], [(49, 64), (48, 64)], [(1, 64)])


def test_planning_odd_sizes_means_whole_cells(tmp_path: Path) -> None:
    if not is_fusable():
        pytest.skip("this torch has no oneDNN")
    engine = FusedEngine(awake_model(FAST), precision="fp32", threads=1, cache=TuneCache(tmp_path))
    with contextlib.closing(engine):
        prepare(engine, 61, 83)
        assert engine.restore(picture(61, 83), 8).shape == (1, 61, 83)


_LARGE = """
import carfix
carfix.load_model("tiny")
import torch
tensor = torch.ones(64 << 20, dtype=torch.uint8)
print(next(line.split()[1] for line in open("/proc/self/smaps_rollup") if line.startswith("AnonHugePages")))
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
def test_tensors_lie_in_large_pages_unless_the_user_says_no() -> None:
    switch = Path("/sys/kernel/mm/transparent_hugepage/enabled")
    if not switch.is_file() or "[madvise]" not in switch.read_text():
        pytest.skip("this system does not leave large pages to its programs")

    def kilobytes(**environment: str) -> int:
        done = subprocess.run(
            [sys.executable, "-c", _LARGE],
            env={key: value for key, value in os.environ.items() if key != LARGE_PAGES} | environment,
            capture_output=True,
            text=True,
            check=True,
        )
        return int(done.stdout)

    assert kilobytes() - kilobytes(**{LARGE_PAGES: "0"}) > 16 << 10  # of 64: the system may be short of them
