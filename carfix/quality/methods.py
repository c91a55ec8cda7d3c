"""The ways to show a compressed file: as decoded, behind FFmpeg's filters, restored by a network."""

import contextlib
import dataclasses
import functools
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Protocol

from carfix.net.catalog import load_model
from carfix.net.checkpoint import Model
from carfix.quality.damage import Damage
from carfix.quality.reader import (
    END,
    LumaFrame,
    Wanted,
    in_alike_batches,
    layout,
    read_frames,
    select,
    stacked,
)
from carfix.quality.spp import PostFilter, filtered_frames
from carfix.restore.engine import Engine, Planes, open_engine, uses_accelerator
from carfix.restore.engine.overlap import in_order
from carfix.restore.fields import begin_pictures
from carfix.restore.hold import Hold, Moves
from carfix.restore.strength import as_strengths, strength_of
from carfix.restore.trust import Trust


class Method(Protocol):
    """Frames of a file as one method shows them."""

    @property
    def name(self) -> str:
        """As tables and JSON call it."""
        ...

    @property
    def identity(self) -> str:
        """Changes whenever the method's pictures may change."""
        ...

    def frames(
        self, path: Path, wanted: Wanted = None, damage: Damage | None = None, *, stream: int | None = None
    ) -> Iterator[LumaFrame]:
        """The frames of `path` whose numbers are in `wanted`, in presentation order.

        Of several videos they are of the one of the number `stream`. With `damage`, which counts it, damaged packets
        are passed over; without it they are an error.
        """
        ...


@dataclasses.dataclass(frozen=True)
class Decoded:
    """The frames as the decoder gives them."""

    name: str = "decoded"
    identity: str = "decoded"

    quantizers: bool = False  # whether the frames carry the decoder's quantizers

    def frames(
        self, path: Path, wanted: Wanted = None, damage: Damage | None = None, *, stream: int | None = None
    ) -> Iterator[LumaFrame]:
        """See `Method`."""
        return select(read_frames(path, stream=stream, quantizers=self.quantizers, damage=damage), wanted)


@dataclasses.dataclass(frozen=True)
class Filtered:
    """The frames behind one of FFmpeg's post-processing filters."""

    post_filter: PostFilter

    @property
    def name(self) -> str:
        """See `Method`."""
        return self.post_filter.name

    @property
    def identity(self) -> str:
        """The filter's settings and the version of the ffmpeg that has it."""
        return f"{self.post_filter.graph} behind one decoding thread of {self.post_filter.find().version}"

    def frames(
        self, path: Path, wanted: Wanted = None, damage: Damage | None = None, *, stream: int | None = None
    ) -> Iterator[LumaFrame]:
        """See `Method` and `filtered_frames`."""
        limit = wanted[-1] + 1 if wanted and wanted[-1] < END else None
        shown = filtered_frames(path, self.post_filter, limit=limit, damage=damage, stream=stream)
        yield from select(shown, wanted)
        for _ in shown:  # whether the filter did anything is said behind the last frame
            pass


class Restored:
    """The frames restored by a network; the engine is opened at the first frame that is asked for."""

    def __init__(
        self,
        model: Model,
        *,
        device: str = "auto",
        precision: str = "auto",
        ensemble: int = 1,
        strength: float | None = None,
    ) -> None:
        """`strength` is the share of the correction that frames take; None: as `carfix restore` does unasked.

        `ensemble` is as of `open_engine`.
        """
        self.name = model.description.name
        self._strength = strength_of(model.description.sha256, strength)
        self.identity = (
            f"model {model.description.sha256} on {device} in {precision}, still pixels held, not computed, "
            f"strength {self._strength.identity()}"
            + (f", mean of {ensemble} orientations" if ensemble > 1 else "")
        )
        self._model = model
        # Not a lambda: results hold their methods, and go from one process to another.
        self._open: Callable[[], Engine] = functools.partial(
            open_engine, model, device=device, precision=precision, ensemble=ensemble
        )
        self._engine: Engine | None = None

    @property
    def model(self) -> Model:
        """The network."""
        return self._model

    def frames(
        self, path: Path, wanted: Wanted = None, damage: Damage | None = None, *, stream: int | None = None
    ) -> Iterator[LumaFrame]:
        """See `Method`; only the wanted frames are restored. Neighbours hold what stands still, as in a restore."""
        trust, hold = Trust(), Hold()
        decoded = read_frames(path, stream=stream, quantizers=self._strength.curve is not None, damage=damage)
        frames = _moving(select(self._told(decoded), wanted))
        engine = self._opened()
        batches = in_alike_batches(frames, engine.batch, _alike)
        for batch, restored in in_order(engine, (_begun(engine, batch) for batch in batches)):
            for frame, luma in zip(batch, restored, strict=True):
                bounds = frame.bounds and frame.bounds.at(frame.bit_depth)
                luma = trust(frame.moving, frame.luma, luma, bounds, interlaced=_interlaced(frame))
                yield dataclasses.replace(frame, luma=hold(frame.moving, luma))

    def _told(self, frames: Iterator[LumaFrame]) -> Iterator[LumaFrame]:
        """Every frame with its strength, the frames that nobody wants too: it depends on those before it."""
        shares = self._strength.follow()
        for frame in frames:
            picture = frame.picture
            if picture is not None:
                frame = dataclasses.replace(
                    frame, strength=shares(picture, frame.luma, frame.bit_depth), bounds=shares.bounds
                )
            yield frame

    def restore(self, planes: Planes, bit_depth: int) -> Planes:
        """See `Engine.restore`."""
        return self._opened().restore(planes, bit_depth)

    def _opened(self) -> Engine:
        if self._engine is None:
            self._engine = self._open()
        return self._engine

    def close(self) -> None:
        """Release the engine; it is opened again when needed."""
        if self._engine is not None:
            self._engine.close()
            self._engine = None


def _begun(engine: Engine, batch: list[LumaFrame]) -> Callable[[], tuple[list[LumaFrame], Planes]]:
    """Begin to restore alike frames; the function returned waits and has them with their restored planes."""
    strengths = as_strengths([frame.strength for frame in batch])
    wait = begin_pictures(
        engine,
        stacked(batch),
        batch[0].bit_depth,
        strengths,
        interlaced=_interlaced(batch[0]),
        wanted=[frame.moving for frame in batch],
    )
    return lambda: (batch, wait())


def _moving(frames: Iterable[LumaFrame]) -> Iterator[LumaFrame]:
    """Every frame with what moves in it, if the one before it was wanted, too."""
    moves, number = Moves(), -1
    for frame in frames:
        if frame.index != number + 1:
            moves.reset()
        number = frame.index
        yield dataclasses.replace(frame, moving=moves(frame.luma))


def _alike(frame: LumaFrame) -> tuple[object, ...]:
    return *layout(frame), _interlaced(frame)


def _interlaced(frame: LumaFrame) -> bool:
    return frame.picture is not None and frame.picture.interlaced_frame


def open_restored(
    name: str,
    *,
    device: str = "auto",
    precision: str = "auto",
    ensemble: int = 1,
    strength: float | None = None,
) -> Restored:
    """The network called `name`; `auto` is the best one for `device`. Raises `CheckpointError`."""
    model = load_model(name, accelerator=uses_accelerator(device))
    return Restored(model, device=device, precision=precision, ensemble=ensemble, strength=strength)


def open_several(
    names: Sequence[str],
    *,
    device: str = "auto",
    precision: str = "auto",
    ensemble: int = 1,
    strength: float | None = None,
) -> list[Restored]:
    """The networks of these names, each once. Those that call themselves alike are called as they were asked for.

    Raises `CheckpointError`.
    """
    found: dict[str, Restored] = {}
    asked: dict[str, str] = {}
    for name in names:
        restored = open_restored(
            name, device=device, precision=precision, ensemble=ensemble, strength=strength
        )
        found.setdefault(restored.identity, restored)
        asked.setdefault(restored.identity, name)
    own = [restored.name for restored in found.values()]
    for identity, restored in found.items():
        if own.count(restored.name) > 1:
            restored.name = asked[identity]
    return list(found.values())


@contextlib.contextmanager
def released(method: Method) -> Iterator[None]:
    """Closes the method's engine, if it has one, behind the block: no two networks hold memory at once."""
    try:
        yield
    finally:
        if isinstance(method, Restored):
            method.close()
