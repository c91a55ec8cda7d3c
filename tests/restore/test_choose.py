"""The choice of a CPU's engine: by time, within one code of fp32, once and for all."""

import importlib.metadata
import itertools
import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from backends import needs_bf16
from networks import awake_model, save_awake

from carfix.errors import CarfixError, MissingPartError, UsageError
from carfix.net.checkpoint import Model
from carfix.net.config import CarCnnConfig, FastConfig
from carfix.restore.engine import Engine, Planes, choose, kind_of_engine, open_engine
from carfix.restore.engine.choose import (
    AMX_BF16,
    NCNN_FP32,
    TORCH_BF16,
    TORCH_FP32,
    WINOGRAD_FP32,
    Choice,
    fastest,
    measure,
)
from carfix.restore.models import EngineChoice


class Clock:
    """Time that passes only while an engine computes."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


class Timed:
    """An engine that takes `seconds` and adds `add` codes."""

    description = "timed"
    batch = 1

    def __init__(self, clock: Clock, seconds: float, add: int = 0) -> None:
        self.clock, self.seconds, self.add = clock, seconds, add
        self.runs = 0
        self.closed = False

    def restore(self, planes: Planes, bit_depth: int) -> Planes:
        self.clock.now += self.seconds
        self.runs += 1
        return planes.clip(0, 255 - self.add) + np.uint8(self.add)

    def close(self) -> None:
        self.closed = True


def measured(clock: Clock, engines: dict[str, Timed]) -> Choice:
    return measure(awake_model(), list(engines), lambda kind, model, tile: engines[kind], clock)  # type: ignore[arg-type, return-value]


def test_the_fastest_is_taken_and_all_are_closed() -> None:
    clock = Clock()
    engines = {TORCH_FP32: Timed(clock, 0.02), NCNN_FP32: Timed(clock, 0.01), TORCH_BF16: Timed(clock, 0.03)}
    choice = measured(clock, engines)
    assert choice.kind == NCNN_FP32
    assert set(choice.speeds) == set(engines)
    assert choice.speeds[NCNN_FP32] == pytest.approx(2 * choice.speeds[TORCH_FP32])
    assert all(engine.closed for engine in engines.values())
    assert "ncnn fp32" not in choice.reason
    assert "torch fp32" in choice.reason


def test_one_that_changes_the_picture_is_out_however_fast() -> None:
    clock = Clock()
    engines = {TORCH_FP32: Timed(clock, 0.02), TORCH_BF16: Timed(clock, 0.001, add=2)}
    assert measured(clock, engines).kind == TORCH_FP32
    engines[TORCH_BF16] = Timed(clock, 0.001, add=1)
    assert measured(clock, engines).kind == TORCH_BF16


def test_timing_ends_and_slow_engines_are_not_run_again() -> None:
    clock = Clock()
    engines = {TORCH_FP32: Timed(clock, 5.0), NCNN_FP32: Timed(clock, 0.05)}
    measured(clock, engines)
    assert engines[TORCH_FP32].runs == 2  # to warm up, and one round
    assert clock.now < 11


def test_a_round_that_something_else_lengthened_does_not_decide() -> None:
    clock = Clock()
    engines = {TORCH_FP32: Timed(clock, 0.2), NCNN_FP32: Timed(clock, 0.1)}
    usual = engines[NCNN_FP32].restore

    def disturbed(planes: Planes, bit_depth: int) -> Planes:
        clock.now += 0.5 if engines[NCNN_FP32].runs == 1 else 0.0  # the first behind the one that warms up
        return usual(planes, bit_depth)

    engines[NCNN_FP32].restore = disturbed  # type: ignore[method-assign]
    choice = measured(clock, engines)
    assert choice.kind == NCNN_FP32
    assert choice.speeds[NCNN_FP32] == pytest.approx(2 * choice.speeds[TORCH_FP32])


def test_one_that_refuses_the_network_is_out() -> None:
    clock = Clock()

    def open(kind: str, model: Model, tile: int) -> Timed:
        if kind == NCNN_FP32:
            raise CarfixError("ncnn refused the network")
        return Timed(clock, 0.01)

    choice = measure(awake_model(), [TORCH_FP32, NCNN_FP32], open, clock)  # type: ignore[arg-type]
    assert set(choice.speeds) == {TORCH_FP32}


@pytest.mark.parametrize(
    ("kind", "package", "engines"),
    [(NCNN_FP32, "ncnn", "ncnn_engine"), (WINOGRAD_FP32, "llvmlite", "winograd_engine")],
)
def test_one_whose_library_cannot_be_loaded_is_out(
    kind: str, package: str, engines: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A package that is installed, on a system that lacks what it is linked with."""
    model = awake_model()
    monkeypatch.setitem(sys.modules, f"carfix.restore.engine.{engines}", None)  # type: ignore[misc]
    assert measure(model, [kind, TORCH_FP32]).kind == TORCH_FP32
    with pytest.raises(MissingPartError, match=f"pip install --force-reinstall {package}"):
        open_engine(model, device="cpu", kind=kind)
    if package == "ncnn":
        with pytest.raises(MissingPartError, match="ncnn cannot be used here"):
            open_engine(model, device="vulkan")


def test_engines_of_another_precision_are_compared_with_fp32_and_not_replaced_by_it() -> None:
    clock = Clock()
    engines = {TORCH_FP32: Timed(clock, 0.001), AMX_BF16: Timed(clock, 0.002), TORCH_BF16: Timed(clock, 0.01)}
    kinds = [AMX_BF16, TORCH_BF16]

    def choice() -> Choice:
        return measure(awake_model(), kinds, lambda kind, model, tile: engines[kind], clock)  # type: ignore[arg-type, return-value]

    assert choice().kind == AMX_BF16
    assert set(choice().speeds) == set(kinds)
    assert all(engine.closed for engine in engines.values())
    engines[AMX_BF16] = Timed(clock, 0.002, add=2)
    assert choice().kind == TORCH_BF16
    engines[TORCH_BF16] = Timed(clock, 0.002, add=3)
    assert choice() == Choice(TORCH_BF16)  # who asks for bf16 gets it


def test_of_equals_the_more_exact_is_taken() -> None:
    assert fastest({TORCH_BF16: 1.0, NCNN_FP32: 1.05, TORCH_FP32: 1.05}) == TORCH_FP32
    assert fastest({TORCH_BF16: 1.0, NCNN_FP32: 1.05}) == NCNN_FP32
    assert fastest({TORCH_BF16: 1.0, NCNN_FP32: 1.2, TORCH_FP32: 1.5}) == TORCH_BF16


@pytest.mark.parametrize("config", [CarCnnConfig(), FastConfig(), FastConfig(scale=2, features=8)], ids=str)
def test_what_is_timed_is_a_window_that_does_not_take_long(config: CarCnnConfig | FastConfig) -> None:
    sides: list[int] = []
    clock = Clock()

    def open(kind: str, model: Model, tile: int) -> Timed:
        sides.append(tile)
        return Timed(clock, 0.01)

    model = awake_model(config)
    measure(model, [TORCH_FP32], open, clock)  # type: ignore[arg-type]
    assert sides[0] % config.scale == 0
    assert sides[0] <= 512
    open_engine(model, device="cpu", precision="fp32", tile=sides[0])  # not too small for the network


@pytest.fixture
def timings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[list[str]]:
    """Every timing of this process says another engine; the list tells which."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(choose, "_chosen", {})
    monkeypatch.setattr(choose, "candidates", lambda precision: (TORCH_FP32, NCNN_FP32))
    said = itertools.cycle((NCNN_FP32, TORCH_FP32))
    found: list[str] = []

    def time(*_: object) -> Choice:
        found.append(next(said))
        return Choice(found[-1], {NCNN_FP32: 3.0, TORCH_FP32: 2.0})

    monkeypatch.setattr(choose, "measure", time)
    yield found


@pytest.fixture
def new_process(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """Forgets what this process knows besides its files."""
    return lambda: monkeypatch.setattr(choose, "_chosen", {})


def test_a_choice_outlives_the_process(timings: list[str], new_process: Callable[[], None]) -> None:
    model = awake_model()
    for _ in range(3):
        assert kind_of_engine(model, device="cpu") == NCNN_FP32
        engine = open_engine(model, device="cpu")
        assert "ncnn" in engine.description
        assert "megapixels a second" in engine.description
        engine.close()
        new_process()
    assert timings == [NCNN_FP32]


def test_other_weights_or_threads_are_timed_anew(timings: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    kind_of_engine(awake_model(seed=0), device="cpu")
    kind_of_engine(awake_model(seed=1), device="cpu")
    assert len(timings) == 2
    monkeypatch.setattr("carfix.cpu.available_threads", lambda: 77)
    kind_of_engine(awake_model(seed=0), device="cpu")
    assert len(timings) == 3


def test_packages_without_a_version_are_timed_as_others(
    timings: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Built by hand, or frozen into a program: they were told to be not installed."""

    def unknown(package: str) -> str:
        raise importlib.metadata.PackageNotFoundError(package)

    monkeypatch.setattr(importlib.metadata, "version", unknown)
    open_engine(awake_model(), device="cpu").close()
    assert len(timings) == 1


def test_without_a_cache_folder_one_process_keeps_its_choice(
    timings: list[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "cache").write_text("a file, not a folder")
    for _ in range(3):
        assert kind_of_engine(awake_model(), device="cpu") == NCNN_FP32
    assert len(timings) == 1


@pytest.mark.parametrize("harm", ["", "{", "[]", '{"key": 1}', None])
def test_a_harmed_cache_is_timed_again(
    timings: list[str], new_process: Callable[[], None], harm: str | None, tmp_path: Path
) -> None:
    kind_of_engine(awake_model(), device="cpu")
    (file,) = (tmp_path / "cache").rglob("*.json")
    record = json.loads(file.read_text())
    record["value"]["kind"] = "abacus fp1"
    file.write_text(json.dumps(record) if harm is None else harm)
    new_process()
    assert kind_of_engine(awake_model(), device="cpu") in (NCNN_FP32, TORCH_FP32)
    assert len(timings) == 2


def test_work_of_one_engine_is_not_continued_by_another(
    timings: list[str], new_process: Callable[[], None], tmp_path: Path
) -> None:
    choice = EngineChoice(model=str(save_awake(tmp_path / "awake.safetensors")), device="cpu")
    first = choice.fingerprint()
    new_process()
    assert choice.fingerprint() == first
    for file in (tmp_path / "cache").rglob("*.json"):
        file.unlink()
    new_process()
    assert choice.fingerprint() != first  # the timing says another engine now
    assert choice.continuing(first).fingerprint() == first
    with choice.continuing(first).open() as engine:
        assert engine.description.startswith("ncnn" if "ncnn" in first[3] else "torch")
    for other in (None, [], [*first[:3], "abacus fp7"], [first[0], "cuda", *first[2:]]):
        assert choice.continuing(other) == choice


def test_a_precision_that_is_given_limits_the_candidates() -> None:
    assert TORCH_BF16 not in choose.candidates("fp32")
    assert set(choose.candidates("fp32")) <= set(choose.candidates("auto"))
    with pytest.raises(UsageError):
        kind_of_engine(awake_model(), device="cpu", precision="fp16")


def test_bf16_that_is_asked_for_is_taken() -> None:
    needs_bf16()
    assert choose.candidates("bf16")[-1] == TORCH_BF16
    assert TORCH_FP32 not in choose.candidates("bf16")
    engine: Engine = open_engine(awake_model(), device="cpu", precision="bf16")
    assert "bf16" in engine.description


def test_timing_for_real_finds_an_engine_of_this_machine() -> None:
    model = awake_model(seed=5)
    before = torch.get_num_threads()
    choice = measure(model, choose.candidates("auto"))
    assert choice.kind in choose.candidates("auto")
    assert all(speed > 0 for speed in choice.speeds.values())
    assert torch.get_num_threads() == before


#: Forbids this process memory for machine code, as systemd's MemoryDenyWriteExecute= does (Linux 6.3), or ends it.
FORBID = """
import ctypes, sys
PR_SET_MDWE, REFUSE_EXEC_GAIN, NOT_KNOWN = 65, 1, 77
if ctypes.CDLL(None).prctl(PR_SET_MDWE, REFUSE_EXEC_GAIN, 0, 0, 0):
    sys.exit(NOT_KNOWN)
"""
MEASURE = """
from networks import awake_model
from carfix.restore.engine.choose import candidates, measure
print(measure(awake_model(), candidates("auto")).kind)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="other systems forbid it otherwise")
def test_where_machine_code_is_forbidden_others_compute() -> None:
    command = [sys.executable, "-c", FORBID + MEASURE]
    run = subprocess.run(command, cwd=Path(__file__).parents[1], capture_output=True, text=True)
    if run.returncode == 77:
        pytest.skip("this Linux cannot forbid it")
    assert run.returncode == 0, run.stderr
    assert run.stdout.strip() in (TORCH_FP32, NCNN_FP32)


def test_what_was_timed_with_machine_code_does_not_count_where_that_is_forbidden(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    free = set(choose.candidates("auto"))
    assert "forbids" not in Choice(TORCH_FP32, {TORCH_FP32: 2.0, NCNN_FP32: 1.0}).reason
    monkeypatch.setattr(choose, "runs_made_code", lambda: False)
    assert set(choose.candidates("auto")) == free & {TORCH_FP32, NCNN_FP32}
    assert "forbids" in Choice(TORCH_FP32, {TORCH_FP32: 2.0, NCNN_FP32: 1.0}).reason
