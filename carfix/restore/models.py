"""Which model computes, on what: opened when there is something to compute."""

import contextlib
import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from carfix.errors import UsageError
from carfix.net.checkpoint import Model
from carfix.restore.engine import Engine, check_device, kind_of_engine, open_engine, uses_accelerator
from carfix.restore.engine.ensemble import check_ensemble
from carfix.restore.engine.planes import check_tile
from carfix.restore.strength import Strength, check_strength, strength_of


class EngineLine(str):
    """A line that is the same for every file that the same engine restores: once is enough."""

    __slots__ = ()


@dataclasses.dataclass(frozen=True, kw_only=True)
class EngineChoice:
    """A model and how to run it, or an engine that someone else opened."""

    model: str | Path | Model | Engine = "auto"
    device: str = "auto"
    precision: str = "auto"
    tile: int | None = None
    batch: int | None = None
    ensemble: int = 1  # orientations of which a picture gets the mean
    strength: float | None = None  # of the correction; None: by each frame's quantizer
    kind: str | None = None  # of a CPU's engines; None: the one that is fastest here

    def check(self) -> None:
        """Raises `UsageError` for numbers that cannot be right; the engine checks the rest as it opens."""
        for option, value in (("--tile", self.tile), ("--batch", self.batch)):
            if value is not None and value < 1:
                raise UsageError(f"{option} must be positive, not {value}")
        check_ensemble(self.ensemble)
        check_strength(self.strength)

    def check_parts(self) -> None:
        """What only the network and the machine tell.

        Raises `MissingPartError` for a device that is not there, `CarfixError` for weights that cannot be read,
        `UsageError` for windows that are too small for the network.
        """
        check_device(self.device, self.precision)
        model = self._loaded()
        if self.tile is not None and isinstance(model, Model):
            check_tile(model, self.tile)

    def fingerprint(self) -> list[Any]:
        """What tells results of this choice from others'. Raises `CarfixError` as `open` does."""
        model = self._loaded()
        if not isinstance(model, Model):
            return [model.model.description.sha256, model.description]
        kind = kind_of_engine(model, device=self.device, precision=self.precision, kind=self.kind)
        found = [model.description.sha256, self.device, self.precision, kind]
        return found if self.ensemble == 1 else [*found, self.ensemble]

    def strength_of(self, engine: Engine) -> Strength:
        """What frames take of the corrections of `engine`, which this choice has opened."""
        return strength_of(engine.model.description.sha256, self.strength)

    def describe(self, engine: Engine) -> EngineLine:
        """What computes, for people."""
        strength = self.strength_of(engine)
        share = "" if strength == Strength() else f", strength {strength}"
        return EngineLine(f"model {engine.model.description.name}: {engine.description}{share}")

    def continuing(self, earlier: Any) -> "EngineChoice":  # noqa: ANN401 - JSON that an earlier run left
        """This choice, computed by the engine that `earlier`, a fingerprint of the same choice, was computed by.

        Another timing, on a machine that is busier or has lent fewer cores, might have found another one.
        """
        from carfix.restore.engine.choose import candidates

        match earlier:
            case [_, self.device, self.precision, str(kind), *_] if kind in candidates(self.precision):
                return dataclasses.replace(self, kind=kind)
        return self

    @contextlib.contextmanager
    def open(self) -> Iterator[Engine]:
        """The engine; closed at the end unless it was handed in open."""
        model = self._loaded()
        if not isinstance(model, Model):
            yield model
            return
        engine = open_engine(
            model,
            device=self.device,
            precision=self.precision,
            tile=self.tile,
            batch=self.batch,
            kind=self.kind,
            ensemble=self.ensemble,
        )
        try:
            yield engine
        finally:
            engine.close()

    def _loaded(self) -> Model | Engine:
        """The network, or the engine that was handed in open."""
        if not isinstance(self.model, str | Path):
            return self.model
        from carfix.net.catalog import load_model

        return load_model(self.model, accelerator=uses_accelerator(self.device))
