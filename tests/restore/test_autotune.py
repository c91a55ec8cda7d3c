"""What is timed and chosen for an accelerator, without one."""

import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from networks import awake_model

import carfix.restore.engine.tune_cache as tune_cache
from carfix.net.config import CarCnnConfig, FastConfig, margin
from carfix.restore.engine.autotune import (
    FIXED_BYTES,
    MOST_OVERLAP,
    USABLE,
    Plan,
    Task,
    fastest,
    frame_seconds,
    geometries,
)
from carfix.restore.engine.cuda_program import EAGER, HOPPER, Batch, Builder, Program, codes_to_codes
from carfix.restore.engine.cuda_streams import InOrder
from carfix.restore.engine.cuda_tune import Tuner, within
from carfix.restore.engine.tune_cache import TuneCache, cache_folder, stand_in_cache
from carfix.restore.windows import window_size

GIB = 1 << 30
FULL = CarCnnConfig()
CPU = torch.device("cpu")


def task_of(
    height: int = 1080,
    width: int = 1920,
    *,
    memory: int = 70 * GIB,
    cache: int = 50 << 20,
    frames: int = 4,
    config: CarCnnConfig | FastConfig = FULL,
    tile: int | None = None,
    fixed: bool = False,
) -> Task:
    return Task(
        height=height,
        width=width,
        frames=frames,
        config=config,
        margin=margin(config),
        itemsize=2,
        memory=memory,
        cache=cache,
        tile=tile,
        fixed=fixed,
    )


def test_a_large_gpu_tries_whole_frames_and_windows_that_fit_its_cache() -> None:
    task = task_of()
    found = geometries(task)
    assert found[:2] == [(1920, 4), (1920, 1)]
    tiles = [tile for tile, _ in found[2:]]
    assert 300 < tiles[0] < 400 and tiles[1] == 2 * tiles[0]  # 50 MB hold two maps of 128 bytes a pixel
    assert len(found) == 4


@pytest.mark.parametrize("memory", [4 * GIB, 2 * GIB, GIB])
@pytest.mark.parametrize("size", [(1080, 1920), (2160, 3840), (240, 320)])
def test_every_candidate_fits_into_the_memory_that_is_free(memory: int, size: tuple[int, int]) -> None:
    task = task_of(*size, memory=memory)
    for tile, count in geometries(task):
        assert task.memory_needed(tile, count) <= USABLE * memory
        assert len(task.cut(tile)) * task.frames >= count


def test_full_hd_goes_whole_through_four_gigabytes_and_in_parts_through_one() -> None:
    assert geometries(task_of(memory=4 * GIB))[0] == (1920, 2)
    tile, _ = geometries(task_of(memory=GIB))[0]
    assert len(task_of().cut(tile)) > 1


def test_memory_grows_with_the_maps_and_not_with_what_is_cut_away() -> None:
    task = task_of()
    one, four = (task.memory_needed(1920, count) - FIXED_BYTES for count in (1, 4))
    assert four == 4 * one
    # Six maps of 64 channels in 16 bit, and the picture.
    assert one == 1080 * 1920 * (6 * 64 * 2 + 24)
    assert task_of(config=FastConfig()).memory_needed(1920, 1) < task.memory_needed(1920, 1) / 4


def test_too_little_memory_for_anything_still_gives_something_to_try() -> None:
    ((tile, count),) = geometries(task_of(memory=0))
    assert count == 1
    assert 2 * margin(FULL) < tile < 200
    assert len(task_of().cut(tile)) < 1000  # it would take long, but end


def test_the_users_tile_and_batch_leave_nothing_to_time() -> None:
    assert len(task_of().cut(512)) == 15
    assert geometries(task_of(tile=512, fixed=True)) == [(512, 30)]  # sixty in two alike batches
    assert geometries(task_of(frames=2, fixed=True)) == [(1920, 2)]


@pytest.mark.parametrize("size", [(16, 16), (64, 48), (70, 20000), (1, 1)])
def test_odd_sizes_have_a_geometry(size: tuple[int, int]) -> None:
    task = task_of(*size)
    for tile, count in geometries(task):
        height, width = window_size(task.cut(tile))
        assert count >= 1 and height <= size[0] and width <= size[1]


def test_windows_that_mostly_overlap_are_not_timed() -> None:
    task = task_of(cache=12 << 20)  # of a side of 167 pixels, 136 would be halo
    assert all(tile == 1920 or tile > 300 for tile, _ in geometries(task))
    assert MOST_OVERLAP < (167 / (167 - 68)) ** 2


def test_seconds_a_frame_count_the_filling_of_the_last_batch() -> None:
    task = task_of(frames=4)
    assert frame_seconds(task, 1920, 4, 1.0) == 0.25
    assert frame_seconds(task, 1920, 3, 1.0) == 0.5  # two batches for four frames


def test_the_fastest_a_frame_is_taken_not_the_fastest_a_batch() -> None:
    task = task_of(cache=0)
    times = {("eager", 4): 0.10, ("eager", 1): 0.03, ("fused", 4): 0.05, ("fused", 1): 0.015}
    asked: list[tuple[str, int]] = []

    def time(variant: str, count: int, height: int, width: int) -> float | None:
        assert (height, width) == (1080, 1920)
        asked.append((variant, count))
        return times.get((variant, count))

    assert fastest(task, ("eager", "fused"), (), time) == Plan(1920, 4, "fused")
    assert set(asked) == set(times)


def test_only_the_best_of_the_first_geometry_is_tried_in_the_others() -> None:
    asked: list[tuple[str, int]] = []
    seconds = {"eager": 1.0, "fused-a": 0.7, "fused-b": 0.5}

    def time(variant: str, count: int, height: int, width: int) -> float | None:
        asked.append((variant, count))
        return None if count == 4 else seconds[variant] * count  # four do not fit

    task = task_of(cache=0, frames=4)
    assert [count for _, count in geometries(task)] == [4, 1]
    assert fastest(task, tuple(seconds), (), time) == Plan(1920, 1, "fused-b")
    assert asked == [(variant, count) for count in (4, 1) for variant in seconds]
    asked.clear()
    times = {4: 1.0, 1: 0.2}
    plan = fastest(task, tuple(seconds), (), lambda v, c, h, w: asked.append((v, c)) or seconds[v] * times[c])  # type: ignore[func-returns-value]
    assert plan == Plan(1920, 1, "fused-b")
    assert asked == [*((variant, 4) for variant in seconds), ("eager", 1), ("fused-b", 1)]


def test_what_is_slow_to_build_is_tried_in_the_best_geometry_alone() -> None:
    asked: list[tuple[str, int]] = []

    def time(variant: str, count: int, height: int, width: int) -> float | None:
        asked.append((variant, count))
        return {"eager": 1.0 if count == 1 else 9.0, "compiled": 0.5}[variant]

    assert fastest(task_of(cache=0), ("compiled", "eager"), ("compiled",), time) == Plan(1920, 1, "compiled")
    assert asked == [("eager", 4), ("eager", 1), ("compiled", 1)]


def test_where_nothing_runs_the_first_is_taken() -> None:
    assert fastest(task_of(), ("eager",), (), lambda *_: None) == Plan(1920, 4, "eager")


def test_free_memory_is_bounded_by_what_the_process_is_allowed() -> None:
    assert within(free=70, allowed=80, reserved=0, allocated=0) == 70
    assert within(free=70, allowed=4, reserved=0, allocated=0) == 4
    assert within(free=70, allowed=4, reserved=3, allocated=1) == 3  # one more, and two held unused
    assert within(free=1, allowed=80, reserved=5, allocated=5) == 1
    assert within(free=70, allowed=2, reserved=3, allocated=3) == 0


@pytest.fixture(autouse=True)
def short_rounds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("carfix.restore.engine.cuda_tune._ROUND", 0.002)


class Variants(Builder):
    """A machine where one variant is wrong, one cannot be built, and one does what it should."""

    def __init__(self) -> None:
        net = awake_model(FastConfig(scale=4, features=8, blocks=1)).net
        super().__init__(net, device=CPU, precision="fp32", queues=InOrder(CPU))
        self.built: list[str] = []

    def build(self, variant: str, batch: Batch) -> Program:
        self.built.append(variant)
        if variant == "broken":
            raise ValueError("no such instruction")
        if variant == "wrong":  # and by far the fastest
            return Program(lambda codes, _: codes ^ 8, batch, CPU)
        if variant == "instant":
            return _Remembering(super().build(EAGER, batch), batch)
        return super().build(variant, batch)


class _Remembering(Program):
    """Right, and fast from its second run on."""

    def __init__(self, right: Program, batch: Batch) -> None:
        super().__init__(right._restore, batch, CPU)
        self._ran = False

    def __call__(self) -> None:
        if not self._ran:
            super().__call__()
        self._ran = True


def tuner_of(builder: Builder, folder: Path | None, **options: object) -> Tuner:
    return Tuner(
        builder,
        frames=2,
        tile=None,
        fixed=False,
        identity={"gpu": "none"},
        cache=TuneCache(folder),
        **{"variants": ("eager", "wrong", "broken", "instant"), **options},  # type: ignore[arg-type]
    )


def test_only_variants_that_give_the_same_picture_are_taken_and_the_choice_is_kept(tmp_path: Path) -> None:
    builder = Variants()
    plan = tuner_of(builder, tmp_path)(64, 96)
    assert plan.variant == "instant"
    assert builder.built.count("broken") == 1  # not again for every geometry
    assert builder.built.count("wrong") == 1
    assert builder.built.count("instant") > 1
    again = Variants()
    assert tuner_of(again, tmp_path)(64, 96) == plan
    assert again.built == []
    tuner_of(again, tmp_path)(96, 64)
    assert again.built  # another size


def test_where_the_kernels_made_for_the_gpu_run_no_others_are_built(tmp_path: Path) -> None:
    variants = (EAGER, HOPPER, "instant")

    class Hopper(Variants):
        def build(self, variant: str, batch: Batch) -> Program:
            return super().build(EAGER, batch) if variant == HOPPER else super().build(variant, batch)

    class Refusing(Variants):
        def build(self, variant: str, batch: Batch) -> Program:
            return super().build("broken" if variant == HOPPER else variant, batch)

    builder = Hopper()
    assert tuner_of(builder, None, variants=variants)(64, 96).variant in (EAGER, HOPPER)
    assert "instant" not in builder.built
    assert tuner_of(Refusing(), None, variants=variants)(64, 96).variant == "instant"


def test_a_kept_plan_that_cannot_be_is_found_again(tmp_path: Path) -> None:
    tuner_of(Variants(), tmp_path)(64, 96)
    (path,) = tmp_path.glob("tune-*.json")
    path.write_text(path.read_text().replace('"instant"', '"quantum"'))
    assert tuner_of(Variants(), tmp_path)(64, 96).variant == "instant"
    assert '"instant"' in path.read_text()


def plus(find: list[int], value: int) -> Callable[[], int]:
    def found() -> int:
        find.append(value)
        return value

    return found


def test_facts_are_found_once(tmp_path: Path) -> None:
    cache, finds = TuneCache(tmp_path / "deep" / "er"), []  # type: tuple[TuneCache, list[int]]
    assert [cache.get_or_find({"a": 1}, int, plus(finds, n)) for n in (5, 6, 7)] == [5, 5, 5]
    assert cache.get_or_find({"a": 2}, int, plus(finds, 8)) == 8
    assert finds == [5, 8]


@pytest.mark.parametrize("damage", ["", "{", "[]", '{"key": {"a": 2}, "value": 9}', '{"key": {"a": 1}}'])
def test_damaged_facts_are_found_again_and_replaced(tmp_path: Path, damage: str) -> None:
    cache = TuneCache(tmp_path)
    cache.get_or_find({"a": 1}, int, lambda: 5)
    (path,) = tmp_path.iterdir()
    path.write_text(damage)
    assert cache.get_or_find({"a": 1}, int, lambda: 6) == 6
    assert cache.get_or_find({"a": 1}, int, lambda: 7) == 6


def test_the_first_of_two_processes_wins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where they cannot wait for each other."""
    monkeypatch.setattr(tune_cache, "_PATIENCE", 0)
    cache = TuneCache(tmp_path)

    def slow() -> int:
        assert TuneCache(tmp_path).get_or_find({"a": 1}, int, lambda: 1) == 1  # meanwhile
        return 2

    assert cache.get_or_find({"a": 1}, int, slow) == 1
    assert len(list(tmp_path.iterdir())) == 1  # nothing temporary is left


def test_others_wait_for_the_one_that_is_finding(tmp_path: Path) -> None:
    """`--jobs 5` times the engines once."""
    begun = threading.Event()

    def slow() -> int:
        begun.set()
        time.sleep(0.3)
        return 1

    first = threading.Thread(target=lambda: TuneCache(tmp_path).get_or_find({"a": 1}, int, slow))
    first.start()
    begun.wait()
    finds: list[int] = []
    assert TuneCache(tmp_path).get_or_find({"a": 1}, int, plus(finds, 2)) == 1
    assert finds == []
    first.join()
    assert len(list(tmp_path.iterdir())) == 1, "the lock is gone"


def test_one_that_was_killed_while_it_was_finding_halts_nobody(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    code = (
        "import os, pathlib, carfix.restore.engine.tune_cache as t;"
        "t.TuneCache(pathlib.Path(os.sys.argv[1])).get_or_find({'a': 1}, int, lambda: os._exit(9))"
    )
    assert subprocess.run([sys.executable, "-c", code, tmp_path]).returncode == 9
    assert len(list(tmp_path.iterdir())) == 1, "its lock is there"
    monkeypatch.setattr(tune_cache, "_PATIENCE", float("inf"))
    assert TuneCache(tmp_path).get_or_find({"a": 1}, int, lambda: 2) == 2


def test_a_folder_that_cannot_be_written_to_costs_only_time(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for folder in (tmp_path / "file", tmp_path / "file" / "below", None):
        finds: list[int] = []
        cache = TuneCache(folder)
        assert [cache.get_or_find({"a": 1}, int, plus(finds, n)) for n in (5, 6)] == [5, 6]


def test_one_that_cannot_be_written_to_is_stood_in_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was there already is found there, too."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    TuneCache(cache_folder()).get_or_find({"a": 1}, int, lambda: 5)
    with stand_in_cache() as caches:
        assert caches is None
    monkeypatch.setattr(tune_cache, "_takes_files", lambda folder: False)
    with stand_in_cache() as caches:
        finds: list[int] = []
        cache = TuneCache(cache_folder({"XDG_CACHE_HOME": str(caches)}))
        assert [cache.get_or_find({"a": 2}, int, plus(finds, n)) for n in (6, 7)] == [6, 6]
        assert cache.get_or_find({"a": 1}, int, plus(finds, 8)) == 5
    assert caches is not None and not caches.exists()
    assert len(list(tmp_path.rglob("tune-*"))) == 1


def test_the_cache_lies_where_the_platform_keeps_its_caches() -> None:
    assert cache_folder({"XDG_CACHE_HOME": "/x", "HOME": "/h"}, "linux") == Path("/x/carfix")
    assert cache_folder({"HOME": "/h"}, "linux") == Path("/h/.cache/carfix")
    assert cache_folder({"HOME": "/h"}, "darwin") == Path("/h/Library/Caches/carfix")
    assert cache_folder({"LOCALAPPDATA": "/l"}, "win32") == Path("/l/carfix/Cache")
    assert cache_folder({}, "win32") is None


def test_without_a_home_in_the_environment_it_lies_in_the_user_s() -> None:
    pwd = pytest.importorskip("pwd")  # cron and services
    assert cache_folder({}, "linux") == Path(pwd.getpwuid(os.getuid()).pw_dir) / ".cache" / "carfix"


def test_codes_stay_codes_at_both_ends() -> None:
    """A residual that leads out of the range is cut off, not wrapped."""
    for sign, end in ((1.0, 255), (-1.0, 0)):
        restore = codes_to_codes(
            lambda x, sign=sign: torch.full_like(x, 0.5 * sign),  # type: ignore[misc]
            bit_depth=8,
            dtype=torch.float32,
            global_residual=True,
        )
        assert int(restore(torch.full((1, 2, 2), end, dtype=torch.uint8), torch.ones(1))[0, 0, 0]) == end
