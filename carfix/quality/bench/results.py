"""What a bench found, and its JSON (docs/bench.md)."""

import dataclasses
from typing import Any

from carfix.quality.bench.machine import Machine
from carfix.quality.bench.rounds import Rate


@dataclasses.dataclass(frozen=True, kw_only=True)
class ClipFacts:
    """What was restored."""

    path: str | None  # None: made up
    codec: str
    width: int
    height: int
    pix_fmt: str
    frames: int
    fps: float

    @property
    def megapixels(self) -> float:
        """Of one frame."""
        return self.width * self.height / 1e6


@dataclasses.dataclass(frozen=True, kw_only=True)
class EndToEnd:
    """A whole restore."""

    rate: Rate  # frames a second, from the first frame that is encoded to the finished file
    start_seconds: float  # before that
    slowest: str  # the slowest of the stages that run at the same time
    of_slowest: float  # share of that stage's speed alone
    of_inference: float
    of_sequence: float  # of the speed of all stages one after another


@dataclasses.dataclass(frozen=True, kw_only=True)
class Peer:
    """A rival; `speedup` is how many times as fast carfix's engine is."""

    name: str
    rate: Rate  # frames a second
    speedup: float


@dataclasses.dataclass(frozen=True, kw_only=True)
class ModelResult:
    """One network on this machine."""

    name: str
    sha256: str
    engine: str
    precision: str
    multiply_adds_per_pixel: float
    inference: Rate  # frames a second
    ceiling: str  # the precision of the matrix product that the engine is held against
    ceiling_share: float | None  # of that product
    end_to_end: EndToEnd | None
    peers: tuple[Peer, ...]


@dataclasses.dataclass(frozen=True, kw_only=True)
class BenchResult:
    """Everything that one run measured."""

    machine: Machine
    clip: ClipFacts
    settings: dict[str, Any]
    products: dict[str, Rate]  # TFLOP/s by precision
    copy: Rate | None  # GB/s
    stages: dict[str, Rate]  # frames a second
    models: tuple[ModelResult, ...]
    left_out: dict[str, str]  # what could not be measured, and why

    def teraflops(self, model: ModelResult) -> Rate:
        """10^12 operations a second that the engine's rate of pixels stands for, overlap of windows not counted."""
        return model.inference.times(2 * model.multiply_adds_per_pixel * self.clip.megapixels / 1e6)

    def to_json(self) -> dict[str, Any]:
        """The schema of docs/bench.md."""
        return {
            "machine": dataclasses.asdict(self.machine),
            "clip": dataclasses.asdict(self.clip),
            "settings": self.settings,
            "ceilings": {
                "matrix_product": {
                    name: {"tflops": _statistics(rate)} for name, rate in self.products.items()
                },
                "copy": self.copy and {"gigabytes_per_second": _statistics(self.copy)},
            },
            "stages": {name: self._speed(rate) for name, rate in self.stages.items()},
            "models": [self._model(model) for model in self.models],
            "left_out": [{"name": name, "reason": reason} for name, reason in self.left_out.items()],
        }

    def _speed(self, rate: Rate) -> dict[str, Any]:
        return {
            "frames_per_second": _statistics(rate),
            "megapixels_per_second": _statistics(rate.times(self.clip.megapixels)),
        }

    def _model(self, model: ModelResult) -> dict[str, Any]:
        whole = model.end_to_end
        return {
            "name": model.name,
            "sha256": model.sha256,
            "engine": model.engine,
            "precision": model.precision,
            "multiply_adds_per_pixel": model.multiply_adds_per_pixel,
            "inference": self._speed(model.inference)
            | {
                "tflops": _statistics(self.teraflops(model)),
                "ceiling": model.ceiling,
                "ceiling_share": model.ceiling_share,
            },
            "end_to_end": whole
            and self._speed(whole.rate)
            | {
                "start_seconds": whole.start_seconds,
                "slowest_stage": whole.slowest,
                "share_of_slowest_stage": whole.of_slowest,
                "share_of_inference": whole.of_inference,
                "share_of_sequence": whole.of_sequence,
            },
            "peers": [
                {"name": peer.name} | self._speed(peer.rate) | {"speedup": peer.speedup}
                for peer in model.peers
            ],
        }


def _statistics(rate: Rate) -> dict[str, float]:
    return {"median": rate.median, "min": min(rate.values), "max": max(rate.values)}
