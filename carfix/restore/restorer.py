"""The network as a function of numpy planes: for analytics code that has frames, not files."""

import operator
from pathlib import Path
from types import TracebackType
from typing import Self, overload

import numpy as np
from numpy.typing import NDArray

from carfix.errors import CarfixError, UsageError
from carfix.net.catalog import load_model
from carfix.net.checkpoint import Model
from carfix.restore.engine import Planes, open_engine, uses_accelerator
from carfix.restore.engine.planes import peak
from carfix.restore.strength import as_strengths, check_strength

#: Of pictures as OpenCV and Pillow have them, and of no plane's width: it would come out as that many narrow planes.
_CHANNELS = (1, 3, 4)


class Restorer:
    """Restores luma planes with one model on one device.

    >>> with Restorer() as restore:
    ...     clean = restore(luma)  # uint8 [H, W] or [N, H, W]
    """

    def __init__(
        self,
        model: str | Path | Model = "auto",
        *,
        device: str = "auto",
        precision: str = "auto",
        tile: int | None = None,
        ensemble: int = 1,
    ) -> None:
        """`model` is a name or path as on the command line, or a loaded one; see `open_engine` for the rest."""
        if not isinstance(model, Model):
            model = load_model(model, accelerator=uses_accelerator(device))
        self._engine = open_engine(model, device=device, precision=precision, tile=tile, ensemble=ensemble)

    @property
    def description(self) -> str:
        """The engine, its device and precision."""
        return self._engine.description

    @overload
    def __call__(
        self, luma: NDArray[np.uint8], *, bit_depth: int | None = None, strength: float = 1.0
    ) -> NDArray[np.uint8]: ...

    @overload
    def __call__(
        self, luma: NDArray[np.uint16], *, bit_depth: int | None = None, strength: float = 1.0
    ) -> NDArray[np.uint16]: ...

    def __call__(self, luma: Planes, *, bit_depth: int | None = None, strength: float = 1.0) -> Planes:
        """Luma codes `[H, W]` or `[N, H, W]`, uint8 or uint16, to restored codes of the same shape and type.

        `bit_depth` defaults to 8 for uint8 and must be given for uint16. `strength` is the share of the network's
        correction that is taken, from 0 to 2: planes do not tell the quantizer that `carfix restore` reads it from.
        Raises `CarfixError` for other arrays and larger codes, `UsageError` for other shares.
        """
        if strength is None:
            raise UsageError(
                "planes do not tell how hard they were compressed: strength is a number from 0 to 2"
            )
        check_strength(strength)
        if not isinstance(luma, np.ndarray):
            raise CarfixError(f"luma is a numpy array, not a {type(luma).__name__}")
        if bit_depth is None:
            bit_depth = 8 if luma.dtype == np.uint8 else None
        else:
            bit_depth = _whole(bit_depth)
        if luma.dtype not in (np.uint8, np.uint16) or luma.ndim not in (2, 3) or 0 in luma.shape:
            raise CarfixError(
                f"luma is uint8 or uint16 [H, W] or [N, H, W], not {luma.dtype} {list(luma.shape)}"
            )
        if luma.ndim == 3 and luma.shape[-1] in _CHANNELS:
            raise CarfixError(
                f"{list(luma.shape)} is a picture of {luma.shape[-1]} channels, no luma planes: give its luma, [H, W]"
            )
        if bit_depth is None or (bit_depth == 8) != (luma.dtype == np.uint8) or not 8 <= bit_depth <= 16:
            raise CarfixError(
                f"bit_depth {bit_depth} does not fit {luma.dtype}: 8 for uint8, 9 to 16 for uint16"
            )
        if luma.dtype == np.uint16 and int(luma.max()) > peak(bit_depth):
            raise CarfixError(
                f"luma has codes above {peak(bit_depth)}, the largest of {bit_depth} bits; where its low bits are "
                f"empty (P010), give luma >> {16 - bit_depth}"
            )
        planes: Planes = luma[None] if luma.ndim == 2 else luma
        restored = self._engine.restore(planes, bit_depth, as_strengths([strength] * len(planes)))
        return restored[0] if luma.ndim == 2 else restored

    def close(self) -> None:
        """Release the device's memory."""
        self._engine.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _whole(bit_depth: int) -> int:
    """Also of numpy's integers, whose shifts run over."""
    try:
        return operator.index(bit_depth)
    except TypeError:
        raise CarfixError(f"bit_depth is a whole number, not {bit_depth!r}") from None
