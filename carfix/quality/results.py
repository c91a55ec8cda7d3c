"""What a comparison finds: one record a candidate, with a number a frame."""

import dataclasses
from pathlib import Path
from typing import Literal

from carfix.errors import UsageError
from carfix.quality.alignment import Unmatched
from carfix.quality.chosen import Chosen
from carfix.quality.damage import Damage
from carfix.quality.methods import Method
from carfix.quality.metrics import FrameQuality, Numbers

MetricName = Literal["psnr", "ssim", "vmaf"]
METRICS: tuple[MetricName, ...] = ("psnr", "ssim", "vmaf")


def parse_metrics(text: str) -> list[MetricName]:
    """Names separated by commas. Raises `UsageError` for an unknown one or none."""
    names = [name.strip().lower() for name in text.split(",") if name.strip()]
    if not names or any(name not in METRICS for name in names):
        raise UsageError(f"--metric takes {', '.join(METRICS)}, separated by commas, not {text!r}")
    return [metric for metric in METRICS if metric in names]


@dataclasses.dataclass(frozen=True)
class Candidate:
    """A file and the way its frames are shown."""

    method: Method
    name: str
    chosen: Chosen  # the video of the file

    @property
    def path(self) -> Path:
        """The file."""
        return self.chosen.path


@dataclasses.dataclass(frozen=True)
class Reference:
    """What the candidates were compared with; frames are those that have a counterpart in the first one."""

    chosen: Chosen  # the video of the file
    frames: int
    width: int
    height: int
    damage: Damage  # what the decoder of the reference met

    @property
    def path(self) -> Path:
        """The file."""
        return self.chosen.path


@dataclasses.dataclass(frozen=True, kw_only=True)
class Result:
    """One candidate's numbers, arrays of one entry a compared frame."""

    candidate: Candidate
    quality: FrameQuality
    vmaf: Numbers | None
    times: Numbers  # seconds, of the reference's frames; their numbers where it states no times
    reference_indices: list[int]  # numbers of the frames in the reference and in the candidate's file
    indices: list[int]
    kinds: list[str]
    quantizers: list[float | None]
    bit_rate: float | None  # bit/s of the whole file
    unmatched: Unmatched
    damage: Damage  # what the decoder of the candidate's file met
    mixed_ranges: bool  # whether one of the two states the full range of codes and the other does not
    width: int
    height: int

    @property
    def name(self) -> str:
        """As tables call it."""
        return self.candidate.name

    def values(self, metric: MetricName) -> Numbers | None:
        """A metric's value of every frame; None if it was not measured."""
        return {"psnr": self.quality.psnr, "ssim": self.quality.ssim, "vmaf": self.vmaf}[metric]


@dataclasses.dataclass(frozen=True)
class Comparison:
    """The results of all candidates, in their order."""

    reference: Reference
    results: list[Result]
