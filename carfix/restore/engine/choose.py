"""Which of a CPU's engines computes a network: the fastest on this machine, found by timing once.

The outcome is kept in the user's cache folder: what a resumed run computes must be what the first one did, and so
must what several processes compute at the same time.
"""

import contextlib
import dataclasses
import importlib.util
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from carfix.cpu import available_threads, has_tiles, multiplies_bf16, runs_made_code
from carfix.errors import CarfixError, MissingPartError, UsageError
from carfix.net.checkpoint import Model
from carfix.net.config import margin, multiply_adds_per_pixel
from carfix.restore.engine import Engine, Planes
from carfix.restore.engine.machine import facts, version_of
from carfix.restore.engine.tune_cache import TuneCache, cache_folder
from carfix.restore.windows import smallest_tile

TORCH_FP32 = "torch fp32"
WINOGRAD_FP32, WINOGRAD_INT16 = "winograd fp32", "winograd int16"
NCNN_FP32 = "ncnn fp32"
AMX_BF16, TORCH_BF16 = "amx bf16", "torch bf16"
#: Of engines that are equally fast, the more exact is taken: the first is eager PyTorch to the bit.
EXACT_FIRST = (TORCH_FP32, WINOGRAD_FP32, NCNN_FP32, WINOGRAD_INT16, AMX_BF16, TORCH_BF16)
#: What some of them need installed.
LIBRARIES = {
    WINOGRAD_FP32: "llvmlite",
    WINOGRAD_INT16: "llvmlite",
    AMX_BF16: "llvmlite",
    NCNN_FP32: "ncnn",
}
#: Of them those that compute in fp32.
_FP32 = (WINOGRAD_FP32, NCNN_FP32)
#: Shares of the best speed that count as equal: another timing might turn them round.
EQUALLY_FAST = 0.9
#: 8-bit codes by which a picture may differ from fp32.
MOST_APART = 1
#: Multiply-adds of the window that a thread computes in a round: some hundredths of a second.
_WORK = 2e9
#: Side in pixels of that window, at most: small networks are timed exactly enough by it.
_LARGEST = 512
#: Rounds of timing at least and at most, and seconds after which no more than the least begins.
_LEAST_ROUNDS, _ROUNDS = 3, 5
_SECONDS = 0.3
#: Times slower than the best at which an engine is not run again: its first round may have met something else.
_HOPELESS_AT_ONCE, _HOPELESS = 4.0, 1.5


@dataclasses.dataclass(frozen=True)
class Choice:
    """An engine, and the megapixels a second that led to it (none where there was no choice)."""

    kind: str
    speeds: dict[str, float] = dataclasses.field(default_factory=dict)

    @property
    def reason(self) -> str:
        """For the log: what was measured; empty where there was no choice."""
        others = [f"{kind} {self.speeds[kind]:.3g}" for kind in self.speeds if kind != self.kind]
        if not others:
            return ""
        quicker = "" if runs_made_code() else "; machine code would be quicker, which the system forbids"
        best = f"{self.speeds[self.kind]:.3g} megapixels a second"
        return f" (fastest here: {best}, {', '.join(others)}{quicker})"

    @staticmethod
    def read(value: Any) -> "Choice":  # noqa: ANN401 - JSON
        """A choice of its fields as JSON. Raises `ValueError`, `KeyError` or `TypeError` if they are none."""
        speeds = {str(kind): float(speed) for kind, speed in value["speeds"].items()}
        if value["kind"] not in (speeds or EXACT_FIRST) or not set(speeds) <= set(EXACT_FIRST):
            raise ValueError("no engine that this carfix has")
        return Choice(value["kind"], speeds)


def open_kind(kind: str, model: Model, *, tile: int | None = None, batch: int | None = None) -> Engine:
    """One of the engines of a CPU. Raises `CarfixError` if it cannot run `model`."""
    if kind == NCNN_FP32:
        with loading("ncnn"):
            from carfix.restore.engine.ncnn_engine import NcnnEngine

        return NcnnEngine(model, tile=tile, batch=batch)
    if kind in (WINOGRAD_FP32, WINOGRAD_INT16, AMX_BF16):
        with loading("llvmlite"):
            from carfix.restore.engine.amx_engine import AmxEngine
            from carfix.restore.engine.compiled_engine import CompiledEngine
            from carfix.restore.engine.winograd_engine import IntegerEngine, WinogradEngine
        own: dict[str, type[CompiledEngine]] = {
            WINOGRAD_FP32: WinogradEngine,
            WINOGRAD_INT16: IntegerEngine,
            AMX_BF16: AmxEngine,
        }
        return own[kind](model, tile=tile, batch=batch)
    # Imported only where they are needed: torch takes longer to load than a short clip to restore.
    import torch

    from carfix.restore.engine.fused import is_fusable
    from carfix.restore.engine.fused_engine import FusedEngine
    from carfix.restore.engine.torch_engine import DTYPES, TorchEngine

    precision = kind.split()[1]
    if is_fusable(DTYPES[precision]):
        return FusedEngine(model, precision=precision, tile=tile, batch=batch)
    return TorchEngine(model, device=torch.device("cpu"), precision=precision, tile=tile, batch=batch)


@contextlib.contextmanager
def loading(package: str) -> Iterator[None]:
    """For imports of `package`. Raises `MissingPartError` where it is there, and its library cannot be loaded."""
    try:
        yield
    except (ImportError, OSError) as error:
        raise MissingPartError(
            f"{package} cannot be used here ({error}); allow this process more memory, or reinstall it: "
            f"`pip install --force-reinstall {package}`"
        ) from error


def candidates(precision: str) -> tuple[str, ...]:
    """The engines that `precision` (`auto`, `fp32` or `bf16`) leaves on this machine.

    Raises `UsageError` for a precision that its CPU has no instructions for.
    """
    own = [kind for kind, library in LIBRARIES.items() if importlib.util.find_spec(library) is not None]
    if not runs_made_code():
        own = [kind for kind in own if LIBRARIES[kind] != "llvmlite"]
    if not has_tiles():
        own = [kind for kind in own if kind != AMX_BF16]
    bf16 = (*(kind for kind in own if kind == AMX_BF16), TORCH_BF16)
    if precision == "bf16":
        if not can_bf16():
            raise UsageError("--precision bf16: this CPU has no instructions for it; use --precision fp32")
        return bf16
    kinds = (TORCH_FP32, *(kind for kind in own if kind in _FP32))
    if precision == "fp32":
        return kinds
    kinds += tuple(kind for kind in own if kind == WINOGRAD_INT16)
    # Without these instructions, and without oneDNN, bf16 is emulated, and slower than fp32.
    return kinds + bf16 if multiplies_bf16() and runs_made_code() else kinds


def can_bf16() -> bool:
    """Whether this CPU computes in bf16, be it slowly: oneDNN refuses to without AVX-512."""
    import torch

    from carfix.restore.engine.fused import is_fusable

    return is_fusable(torch.bfloat16) or not is_fusable(torch.float32)


#: Choices of this process, by the key of the cache: it may not be writable, and a job asks twice.
_chosen: dict[str, Choice] = {}


def choose(model: Model, precision: str) -> Choice:
    """The engine for `model` on this machine's CPU, in `precision` if it is not `auto`."""
    kinds = candidates(precision)
    if len(kinds) == 1:
        return Choice(kinds[0])
    key = _key(model, kinds)
    name = repr(sorted(key.items()))
    if name not in _chosen:
        cache = TuneCache(cache_folder())
        _chosen[name] = cache.get_or_find(key, Choice.read, lambda: measure(model, kinds))
    return _chosen[name]


def _key(model: Model, kinds: Sequence[str]) -> Mapping[str, Any]:
    needed = {LIBRARIES[kind] for kind in kinds if kind in LIBRARIES}
    return {
        **facts(),
        "what": "engine",
        "weights": model.sha256,
        "candidates": list(kinds),
        **{library: version_of(library) if library in needed else "" for library in LIBRARIES.values()},
    }


def measure(
    model: Model,
    kinds: Sequence[str],
    open: Callable[..., Engine] = open_kind,
    clock: Callable[[], float] = time.perf_counter,
) -> Choice:
    """Time `kinds` on a window a thread of a picture like a camera's.

    Those whose codes are too far from torch's in fp32 are left out; where that leaves none, the last is taken.
    """
    engines: dict[str, Engine] = {}
    planes = _picture(_side(model), available_threads())
    try:
        for kind in dict.fromkeys((*kinds, TORCH_FP32)):
            try:
                engines[kind] = open(kind, model, tile=planes.shape[1])
            except CarfixError:
                continue  # one that cannot run this network
        results = {kind: engine.restore(planes, 8) for kind, engine in engines.items()}  # warms up, too
        exact = results[TORCH_FP32].astype(int)
        for kind, result in results.items():
            if kind not in kinds or np.abs(result - exact).max() > MOST_APART:
                engines.pop(kind).close()
        if not engines:
            return Choice(kinds[-1])
        seconds = _seconds(engines, planes, clock)
    finally:
        for engine in engines.values():
            engine.close()
    return Choice(
        fastest(seconds), {kind: planes.size / 1e6 / duration for kind, duration in seconds.items()}
    )


def fastest(seconds: Mapping[str, float]) -> str:
    """The engine to take, by the seconds that each took."""
    best = min(seconds.values())
    return next(kind for kind in EXACT_FIRST if kind in seconds and seconds[kind] * EQUALLY_FAST <= best)


def _seconds(engines: Mapping[str, Engine], planes: Planes, clock: Callable[[], float]) -> dict[str, float]:
    """The shortest of some interleaved rounds: what else runs on the machine only ever lengthens one."""
    began = clock()
    seconds: dict[str, float] = {}
    for number in range(_ROUNDS):
        hopeless = _HOPELESS_AT_ONCE if number == 1 else _HOPELESS
        for kind, engine in engines.items():
            if kind in seconds and seconds[kind] > hopeless * min(seconds.values()):
                continue
            start = clock()
            engine.restore(planes, 8)
            seconds[kind] = min(seconds.get(kind, float("inf")), clock() - start)
        if number + 1 >= _LEAST_ROUNDS and clock() - began > _SECONDS:
            break
    return seconds


def _side(model: Model) -> int:
    """Side of the window that is timed: that of the engines, or smaller for a large network."""
    config = model.config
    affordable = int((_WORK / multiply_adds_per_pixel(model.config)) ** 0.5)
    side = min(affordable, _LARGEST) // config.scale * config.scale
    return max(side, smallest_tile(margin(config), config.scale))


def _picture(side: int, count: int) -> Planes:
    """`[count, side, side]` 8-bit codes: shapes, texture and noise, with the steps between blocks that codecs leave."""
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:side, :side]
    shapes = 40 * np.sin(x / 37) + 40 * np.cos(y / 23) + 60 * ((x // 48 + y // 32) % 2)
    steps = rng.normal(0, 4, (side // 8 + 1, side // 8 + 1)).repeat(8, 0).repeat(8, 1)[:side, :side]
    planes = 100 + shapes + steps + rng.normal(0, 3, (count, side, side))
    codes: Planes = planes.round().clip(0, 255).astype(np.uint8)
    return codes
