"""What an evaluation finds: a measurement a method, variant and clip, and the means and gains of them."""

import dataclasses
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from carfix.quality.detection.agreement import Agreement
from carfix.quality.detection.average_precision import Precision

DECODED = "decoded"
SPP = "spp"
SPP_BEST = "spp-best"
RIVALS = (DECODED, SPP, SPP_BEST)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Measurement:
    """One clip's variant by one method, means over its frames; flicker in 8-bit codes on `static_pixels`."""

    frames: int
    psnr: float  # dB
    ssim: float
    identical: int  # frames equal to the pristine ones, counted as 100 dB
    static_pixels: int
    flicker: float | None  # None if nothing in the clip is static
    pristine_flicker: float | None
    agreement: Agreement | None = None  # of a detector's findings, where there was one

    @classmethod
    def from_record(cls, record: Mapping[str, Any]) -> "Measurement":
        """What a cache kept. Raises `ValueError` for anything else than this version's fields, all of them numbers."""
        values = dict(record)
        for field in dataclasses.fields(cls):
            if field.name == "agreement":
                continue
            value = values.pop(field.name, "missing")
            optional = field.name in ("flicker", "pristine_flicker")
            if not (isinstance(value, (int, float)) or (optional and value is None)):
                raise ValueError(f"{field.name} is {value!r}")
        if values:
            raise ValueError(f"there are further fields: {', '.join(values)}")
        return cls(**record)

    @property
    def precision(self) -> Precision | None:
        """Mean average precision; None without a detector, or where it finds nothing in the pristine frames."""
        return self.agreement.precision() if self.agreement else None

    @classmethod
    def pooled(cls, parts: Sequence["Measurement"]) -> "Measurement":
        """One measurement of all frames of `parts` together."""
        frames = sum(part.frames for part in parts)
        pixels = sum(part.static_pixels for part in parts)
        agreements = [part.agreement for part in parts if part.agreement]

        def flicker(values: Sequence[float | None]) -> float | None:
            pairs = zip(values, parts, strict=True)
            total = sum((value or 0.0) * part.static_pixels for value, part in pairs)
            return total / pixels if pixels else None

        return cls(
            frames=frames,
            psnr=sum(part.psnr * part.frames for part in parts) / frames,
            ssim=sum(part.ssim * part.frames for part in parts) / frames,
            identical=sum(part.identical for part in parts),
            static_pixels=pixels,
            flicker=flicker([part.flicker for part in parts]),
            pristine_flicker=flicker([part.pristine_flicker for part in parts]),
            agreement=Agreement.pooled(agreements) if agreements else None,
        )


@dataclasses.dataclass
class Evaluation:
    """All measurements: `cells[method][variant][clip]`."""

    dataset: Mapping[str, Any]
    detector: Mapping[str, Any] | None = None  # which one it was, if any
    cells: dict[str, dict[str, dict[str, Measurement]]] = dataclasses.field(
        default_factory=lambda: defaultdict(lambda: defaultdict(dict))
    )
    #: Clip and variant that FFmpeg's filter had nothing to work with.
    unfiltered: list[tuple[str, str]] = dataclasses.field(default_factory=list)
    #: The constant quantizer that spp-best took, by variant.
    best_quantizers: dict[str, int] = dataclasses.field(default_factory=dict)

    def variants(self) -> list[str]:
        """All variants in the manifest's order."""
        return list(self.dataset["variants"])

    def pooled(self, method: str, variant: str) -> Measurement | None:
        """One method's measurement over all frames of a variant, None if no clip has the variant."""
        cells = self.cells[method].get(variant, {})
        return Measurement.pooled(list(cells.values())) if cells else None

    def mean(self, method: str) -> tuple[float, float]:
        """PSNR and SSIM, means over the variants."""
        pooled = [cell for variant in self.variants() if (cell := self.pooled(method, variant))]
        return float(np.mean([cell.psnr for cell in pooled])), float(np.mean([cell.ssim for cell in pooled]))

    def gain(self, method: str, rival: str) -> tuple[float, float] | None:
        """PSNR and SSIM that `method` is ahead of `rival`: mean over the variants, of the clips that both have.

        None if they share none.
        """
        gains = [
            (ours.psnr - theirs.psnr, ours.ssim - theirs.ssim)
            for ours, theirs in self._pooled_pairs(method, rival)
        ]
        if not gains:
            return None
        psnr, ssim = np.mean(gains, axis=0)
        return float(psnr), float(ssim)

    def precision(self, method: str) -> Precision | None:
        """Mean average precisions, means over the variants that have them; None if none has."""
        pooled = [cell for variant in self.variants() if (cell := self.pooled(method, variant))]
        return _mean([found for cell in pooled if (found := cell.precision)])

    def precision_gain(self, method: str, rival: str) -> Precision | None:
        """How far `method` is ahead of `rival` in them: see `gain`."""
        pairs = ((ours.precision, theirs.precision) for ours, theirs in self._pooled_pairs(method, rival))
        gains = [
            Precision(map50=ours.map50 - theirs.map50, map=ours.map - theirs.map)
            for ours, theirs in pairs
            if ours and theirs
        ]
        return _mean(gains)

    def smallest_gain(self, method: str, rival: str = DECODED) -> tuple[float, str, str] | None:
        """The smallest PSNR gain over `rival` of any clip and variant, in dB, with their names."""
        gains = [
            (ours.psnr - theirs.psnr, clip, variant)
            for variant in self.variants()
            for clip, (ours, theirs) in self._shared(method, rival, variant).items()
        ]
        return min(gains, default=None)

    def _pooled_pairs(self, method: str, rival: str) -> Iterator[tuple[Measurement, Measurement]]:
        """Of each variant what both measured, each of all clips that both have; none where they share none."""
        for variant in self.variants():
            if shared := self._shared(method, rival, variant):
                ours, theirs = zip(*shared.values(), strict=True)
                yield Measurement.pooled(ours), Measurement.pooled(theirs)

    def _shared(self, method: str, rival: str, variant: str) -> dict[str, tuple[Measurement, Measurement]]:
        """What both measured of a variant, by clip."""
        ours, theirs = self.cells[method].get(variant, {}), self.cells[rival].get(variant, {})
        return {clip: (cell, theirs[clip]) for clip, cell in ours.items() if clip in theirs}

    def flicker(self, method: str) -> tuple[float | None, float | None]:
        """Flicker of a method and of the pristine clips, over everything."""
        cells = [cell for clips in self.cells[method].values() for cell in clips.values()]
        everything = Measurement.pooled(cells)
        return everything.flicker, everything.pristine_flicker


def _mean(values: Sequence[Precision]) -> Precision | None:
    if not values:
        return None
    return Precision(
        map50=float(np.mean([value.map50 for value in values])),
        map=float(np.mean([value.map for value in values])),
    )
