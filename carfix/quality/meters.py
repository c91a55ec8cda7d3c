"""What is measured of the frames of a dataset's file, all in one pass: each meter makes one record for the cache."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from carfix.quality.evaluation import Measurement
from carfix.quality.flicker import Flicker
from carfix.quality.metrics import METRICS_VERSION, FrameQuality, measure
from carfix.quality.reader import LumaFrame, stacked

#: Raised when the meaning of a cached measurement changes for another reason than the metrics.
CACHE_FORMAT = 1

Pair = tuple[LumaFrame, LumaFrame]  # pristine and shown


class Meter(Protocol):
    """Measures one clip's variant by one method."""

    def identity(self) -> Mapping[str, object]:
        """What its record depends on beside files and method."""
        ...

    def add(self, pairs: Sequence[Pair]) -> None:
        """The next frames, of one size and depth."""
        ...

    def record(self) -> dict[str, Any]:
        """What was measured, as JSON takes it."""
        ...

    def check(self, record: Mapping[str, Any]) -> None:
        """Raises `ValueError` for what is no `record` of this version's, which a cache may hold."""
        ...


class QualityMeter:
    """PSNR, SSIM and flicker; the record is a `Measurement`."""

    def __init__(self, device: str) -> None:
        self._device = device
        self._parts: list[FrameQuality] = []
        self._flicker = Flicker()

    def identity(self) -> Mapping[str, object]:
        """See `Meter`."""
        return {"format": CACHE_FORMAT, "metrics": METRICS_VERSION}

    def add(self, pairs: Sequence[Pair]) -> None:
        """See `Meter`."""
        pristine, shown = zip(*pairs, strict=True)
        depth, shown_depth = pristine[0].bit_depth, shown[0].bit_depth
        self._parts.append(
            measure(
                stacked(pristine),
                stacked(shown),
                bit_depth=depth,
                candidate_bit_depth=shown_depth,
                device=self._device,
            )
        )
        for reference, frame in pairs:
            self._flicker.add(reference.luma, frame.luma, bit_depth=depth, shown_bit_depth=shown_depth)

    def record(self) -> dict[str, Any]:
        """See `Meter`."""
        quality = FrameQuality.concatenate(self._parts)
        measurement = Measurement(
            frames=len(quality),
            psnr=float(quality.psnr.mean()),
            ssim=float(quality.ssim.mean()),
            identical=quality.identical,
            static_pixels=self._flicker.static_pixels,
            flicker=self._flicker.shown,
            pristine_flicker=self._flicker.pristine,
        )
        record = dataclasses.asdict(measurement)
        del record["agreement"]  # another meter's
        return record

    def check(self, record: Mapping[str, Any]) -> None:
        """See `Meter`."""
        Measurement.from_record(record)
