"""How much of a network's correction a frame takes: read off the quantizer that the frame was encoded with.

The networks are blind to the level of compression, as the paper has it, so each must hedge: small ones correct fine
frames too much (and make them worse) and coarse frames too little. Most streams tell how coarse a frame is. The least
squares share `E[correction * error] / E[correction^2]`, measured over training clips in H.264
(`bench/fit_strength.py`), rises steadily with the frame's mean quantizer; restoring takes it from there, for the other
codecs by the H.264 quantizer that stands for theirs (`bench/fit_scales.py`). Streams that do not tell, or tell of a
second, finer encoding of what was compressed hard before, take it from what the picture looks like
(`carfix.restore.look`).

The quantizer is a running mean over the frames (`Level`). What stands still in a B-frame was copied from its
references, so it is as coarse as they are whatever the frame's own quantizer; and a share that jumps with every frame
type makes static regions flicker.
"""

import dataclasses
import functools
import json
import math
from collections.abc import Mapping, Sequence
from importlib import resources
from typing import TYPE_CHECKING, Any

import numpy as np

from carfix.errors import UsageError
from carfix.restore import look
from carfix.restore.engine import Strengths
from carfix.restore.look import Look
from carfix.restore.trust import STEEP, STEEP_STEPS, STEPS, UNKNOWN, Bounds, bounds_of
from carfix.video.luma import Luma
from carfix.video.quantizer import h264_quantizer, scales_identity

if TYPE_CHECKING:
    from av.video.frame import VideoFrame

FILE_NAME = "strength.json"
#: What `--strength` takes beside a number: the curve that comes with the network.
AUTO = "auto"
#: Share of the running mean that a frame leaves as it was: a fifth is its own quantizer. By `bench/fit_level.py` with
#: `fast`, in gain and in flicker of static regions over the decoded video's: at CRF 17 to 21 +0.115 dB and 1.60 times
#: with 0, +0.157 and 1.08 with 0.8, +0.160 and 0.99 with the whole clip's mean, which nobody knows at its beginning.
KEPT = 0.8
#: Levels that a picture must look coarser than its stream tells before that is believed at all.
DOUBTED = 4.0
#: Largest share that can be asked for: twice a correction is no restoration any more.
LARGEST = 2.0


@dataclasses.dataclass(frozen=True)
class Curve:
    """Strength over a frame's mean quantizer, on H.264's scale: linear between its points, constant outside."""

    sha256: str  # of the network's tensors: another network needs another curve
    quantizers: tuple[float, ...]  # ascending
    strengths: tuple[float, ...]

    def at(self, quantizer: float) -> float:
        """The share to take."""
        return float(np.interp(quantizer, self.quantizers, self.strengths))


@dataclasses.dataclass(frozen=True)
class Strength:
    """A share for all frames, or a curve to read it from; with neither, corrections are taken as they are."""

    fixed: float | None = None
    curve: Curve | None = None

    def follow(self) -> "Shares":
        """The shares of the frames of a video, or of a segment of it, which must come in order of presentation."""
        return Shares(self)

    def __str__(self) -> str:
        """For people."""
        return "by quantizer" if self.curve is not None and self.fixed is None else self.identity()

    def identity(self) -> str:
        """Changes whenever frames' shares may change."""
        if self.fixed is not None or self.curve is None:
            return f"{1.0 if self.fixed is None else self.fixed:g}"
        curve = f"by mean quantizer {self.curve.quantizers} {self.curve.strengths}"
        looks = f"looks {look.identity()}, {DOUBTED:g} doubted"
        trust = f"{STEPS:g} steps trusted, of {UNKNOWN:g} unknown, {STEEP_STEPS:g} at {STEEP}"
        return f"{curve}, {KEPT:g} kept, {scales_identity()}, {looks}, {trust}"


class Level:
    """The running mean of the quantizers, on H.264's scale, of one video or of a part that is restored for itself."""

    def __init__(self, kept: float = KEPT) -> None:
        self._kept = kept
        self._value: float | None = None

    def __call__(self, frame: "VideoFrame") -> float | None:
        """The mean with the next frame's quantizer; None as long as no frame has told one."""
        return self.after(h264_quantizer(frame))

    def after(self, told: float | None) -> float | None:
        """The mean with the next quantizer; a frame that tells none leaves it as it is."""
        if told is not None:
            self._value = told if self._value is None else self._kept * self._value + (1 - self._kept) * told
        return self._value


def seen(told: float | None, looks: float | None) -> float | None:
    """The level to go by: what the stream tells, unless its pictures look clearly coarser.

    An estimate that is less than `DOUBTED` above what is told is taken for that, one of twice as much as it is.
    """
    if told is None or looks is None:
        return looks if told is None else told
    coarser = looks - told
    return told + coarser * min(max(coarser / DOUBTED - 1, 0.0), 1.0)


class Levels:
    """What a video's stream tells of its level and what its pictures look like, frame after frame."""

    def __init__(self) -> None:
        self._level, self._look = Level(), Look()

    def __call__(self, frame: "VideoFrame", luma: Luma, bit_depth: int) -> tuple[float | None, float | None]:
        """The level told up to the next frame, whose codes `[H, W]` are `luma`, and the one to go by: see `seen`."""
        told = self._level(frame)
        picture = luma[::2] if frame.interlaced_frame else luma
        return told, seen(told, self._look(picture, bit_depth, told))


class Shares:
    """What share of the correction each frame of a video, or of a segment of it, takes."""

    def __init__(self, strength: Strength) -> None:
        #: The level that the stream tells, up to the last frame.
        self.told: float | None = None
        #: 8-bit codes up to which the last frame's corrections are trusted; None: all are.
        self.bounds: Bounds | None = None
        self._strength = strength
        self._levels = Levels()

    def __call__(self, frame: "VideoFrame", luma: Luma, bit_depth: int) -> float:
        """The share for the next frame as it was decoded, and its codes `[H, W]`."""
        if self._strength.fixed is not None:
            return self._strength.fixed
        if self._strength.curve is None:
            return 1.0
        self.told, level = self._levels(frame, luma, bit_depth)
        self.bounds = bounds_of(UNKNOWN if level is None else level, self.told)
        return 1.0 if level is None else self._strength.curve.at(level)


def strength_of(sha256: str, fixed: float | None = None) -> Strength:
    """What `--strength` means for a network: `fixed`, or None for the curve that comes with it, if one does."""
    return Strength(fixed=fixed, curve=None if fixed is not None else installed_curve(sha256))


def parse_strength(text: str) -> float | None:
    """`auto` (None) or a number. Raises `UsageError`."""
    if text == AUTO:
        return None
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    check_strength(value, text)
    return value


def check_strength(value: float | None, text: str = "") -> None:
    """Raise `UsageError` for a share that is none; `text` is how it was written."""
    try:
        fits = value is None or 0 <= value <= LARGEST
    except (TypeError, ValueError):  # the latter of arrays
        raise UsageError(
            f"strength is a number from 0 to {LARGEST:g}, or None ({AUTO}), not {value!r}"
        ) from None
    if not fits:
        raise UsageError(f"--strength is {AUTO} or a number from 0 to {LARGEST:g}, not {text or value}")


def as_strengths(values: Sequence[float]) -> Strengths | None:
    """For an engine; None where all corrections are taken as they are."""
    return None if all(value == 1.0 for value in values) else np.array(values, dtype=np.float32)


def curves_to_json(curves: Mapping[str, Curve]) -> str:
    """The text of the file that comes with carfix, by network name."""
    fields: dict[str, Any] = {name: dataclasses.asdict(curve) for name, curve in sorted(curves.items())}
    return json.dumps(fields, indent=1) + "\n"


def curves_from_json(text: str) -> dict[str, Curve]:
    """What `curves_to_json` wrote."""
    return {
        name: Curve(fields["sha256"], tuple(fields["quantizers"]), tuple(fields["strengths"]))
        for name, fields in json.loads(text).items()
    }


@functools.cache
def installed_curve(sha256: str) -> Curve | None:
    """The curve for exactly this network, None if it was never fitted."""
    file = resources.files("carfix.restore").joinpath(FILE_NAME)
    curves = curves_from_json(file.read_text(encoding="utf-8")) if file.is_file() else {}
    return next((curve for curve in curves.values() if curve.sha256 == sha256), None)
