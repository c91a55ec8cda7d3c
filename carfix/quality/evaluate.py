"""The paper's tables: every method over every variant of a dataset's clips, with gains over the rivals."""

import dataclasses
import itertools
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

from carfix.errors import CarfixError, UsageError
from carfix.progress import OnProgress, silent
from carfix.quality.cache import FILE_NAME, Cache, file_identity, key
from carfix.quality.detection.agreement import Agreement
from carfix.quality.detection.dataset import AgreementMeter, Truth, detector_json
from carfix.quality.detection.detector import Detector
from carfix.quality.evaluation import DECODED, RIVALS, SPP, SPP_BEST, Evaluation, Measurement
from carfix.quality.meters import Meter, Pair, QualityMeter
from carfix.quality.methods import Decoded, Filtered, Method, released
from carfix.quality.reader import in_batches, read_frames, select, wanted_range
from carfix.quality.spp import FIRST_QUANTIZER, PostFilter, UnfilteredError, climb
from carfix.video.manifest import Clip, Variant, read_manifest

#: Frames that are measured at once: enough to keep every core busy, few enough to stay flat in memory.
BATCH = 8

#: How many trials the search for spp's best quantizer takes on average (for the ETA).
EXPECTED_TRIALS = 5

#: Measurements of one method by variant and clip.
Cells = Mapping[str, Mapping[str, Measurement]]


@dataclasses.dataclass(frozen=True)
class _Unit:
    """One clip's variant, with its files."""

    clip: Clip
    variant: Variant
    pristine: Path
    compressed: Path
    frames: int


def evaluate_dataset(
    *,
    dataset: Path,
    models: Sequence[Method] = (),
    split: str = "val",
    spp: PostFilter | None = None,
    spp_best: PostFilter | None = None,
    frames: int | None = None,
    variants: Sequence[str] = (),
    detector: Detector | None = None,
    device: str = "cpu",
    cache: bool = True,
    progress: OnProgress = silent,
) -> Evaluation:
    """Measure `decoded`, `spp`, `spp-best` and `models` on the variants of a dataset's clips.

    `spp` None leaves the filter out; of `spp_best` the best constant quantizer for each variant is searched.
    `frames` limits each clip; `variants` names those to take (default all). With `detector`, what it finds in each
    method's frames is measured against what it finds in the pristine ones. PSNR and SSIM are computed on `device`.
    `progress` is told the frames done, the frames in all and what is worked on. Raises `CarfixError` for a
    dataset that is damaged or has no such clips, `MissingPartError` for a missing ffmpeg.
    """
    manifest = read_manifest(dataset)
    clips = manifest.select(split)
    if not clips:
        raise CarfixError(f"{dataset} has no clip in the split {split!r}; take another one with --split")
    units = [_unit(dataset, clip, variant, frames) for clip in clips for variant in clip.variants.values()]
    if len({method.name for method in models}) < len(models):
        raise UsageError("two of the networks have the same name; evaluate them one at a time")
    if taken := [method.name for method in models if method.name in RIVALS]:
        raise CarfixError(
            f"a network is called {taken[0]!r}, as a row of the tables is; give its path by another name"
        )
    names = list(dict.fromkeys(unit.variant.name for unit in units))
    if unknown := set(variants) - set(names):
        raise CarfixError(f"{dataset} has no variant {sorted(unknown)[0]!r}; it has {', '.join(names)}")
    if variants:
        names = [name for name in names if name in variants]
        units = [unit for unit in units if unit.variant.name in variants]
    evaluation = Evaluation(
        dataset={
            "path": str(dataset),
            "carfix": manifest.carfix,
            "split": split,
            "frames_limit": frames,
            "clips": sorted({unit.clip.name for unit in units}),
            "variants": names,
        },
        detector=detector_json(detector) if detector else None,
    )
    truth = Truth(detector) if detector else None
    run = _Run(Cache(dataset / FILE_NAME if cache else None), device, frames, progress, truth)
    rivals: list[Method] = [Decoded(), *([Filtered(spp)] if spp else [])]
    # The best of spp's trials is looked at once more, by the detector.
    trials = EXPECTED_TRIALS + (detector is not None) if spp_best else 0
    run.total = (len(rivals) + len(models) + trials) * sum(unit.frames for unit in units)
    for method in rivals:
        evaluation.cells[method.name] = run.method(method, units, evaluation.unfiltered)
    if spp and not any(evaluation.cells[SPP].values()):
        del evaluation.cells[SPP]
    if spp_best:
        _search(run, evaluation, units, spp_best)
    for method in models:
        evaluation.cells[method.name] = run.method(method, units)
    return evaluation


def _search(run: "_Run", evaluation: Evaluation, units: list[_Unit], spp: PostFilter) -> None:
    """spp's best constant quantizer for each variant: the one of the highest mean PSNR over the clips."""
    start = FIRST_QUANTIZER
    decoded = evaluation.cells[DECODED]  # a small quantizer may leave a flat picture as it is
    for name in evaluation.variants():
        chosen = [unit for unit in units if unit.variant.name == name]
        trials: dict[int, dict[str, Measurement]] = {}
        scores: dict[int, float] = {}
        while (quantizer := climb(scores, start)) is not None:
            method = Filtered(dataclasses.replace(spp, quantizer=quantizer))
            trials[quantizer] = run.method(method, chosen, unchanged=decoded, detecting=False)[name]
            scores[quantizer] = Measurement.pooled(list(trials[quantizer].values())).psnr
        start = max(scores, key=lambda quantizer: scores[quantizer])
        evaluation.best_quantizers[name] = start
        if run.truth:
            best = Filtered(dataclasses.replace(spp, quantizer=start))
            trials[start] = run.method(best, chosen, unchanged=decoded)[name]
        evaluation.cells[SPP_BEST][name] = trials[start]
        run.total += (len(trials) - EXPECTED_TRIALS) * sum(unit.frames for unit in chosen)
        run.advance(0, f"{SPP_BEST}, {name}")


class _Run:
    """Measures units, or takes them from the cache."""

    def __init__(
        self, cache: Cache, device: str, limit: int | None, progress: OnProgress, truth: Truth | None
    ) -> None:
        self.cache = cache
        self.device = device
        self.limit = limit
        self.progress = progress
        self.truth = truth
        self.total = 0
        self.done = 0

    def method(
        self,
        method: Method,
        units: Sequence[_Unit],
        unfiltered: list[tuple[str, str]] | None = None,
        *,
        unchanged: Cells | None = None,
        detecting: bool = True,
    ) -> dict[str, dict[str, Measurement]]:
        """Measurements of one method by variant and clip.

        What FFmpeg's filter has nothing to work with is left out and named in `unfiltered` if that is given. For what
        it leaves as it is the measurements in `unchanged` stand. Either is an error otherwise. The detector, if there
        is one, looks at the frames unless `detecting` is off.
        """
        cells: dict[str, dict[str, Measurement]] = defaultdict(dict)
        with released(method):
            for unit in units:
                try:
                    cells[unit.variant.name][unit.clip.name] = self._cell(method, unit, detecting)
                except UnfilteredError:
                    if unchanged is not None:
                        shown = unchanged[unit.variant.name][unit.clip.name]
                        cells[unit.variant.name][unit.clip.name] = shown
                    elif unfiltered is not None:
                        unfiltered.append((unit.clip.name, unit.variant.name))
                    else:
                        raise
        return dict(cells)

    def _cell(self, method: Method, unit: _Unit, detecting: bool) -> Measurement:
        meters: list[Meter] = [QualityMeter(self.device)]
        if self.truth and detecting:
            meters.append(AgreementMeter(self.truth, unit.pristine))
        keys = [self._key(method, unit, meter) for meter in meters]
        missing = {
            name: meter for name, meter in zip(keys, meters, strict=True) if not self._is_known(name, meter)
        }
        if missing:
            detail = f"{method.name}, {unit.clip.name}, {unit.variant.name}"
            _measure(
                method, unit, list(missing.values()), self.limit, lambda count: self.advance(count, detail)
            )
        else:
            # Nothing to wait for: it counts neither as work done nor as work to do.
            self.total -= unit.frames
        for name, meter in missing.items():
            self.cache.put(name, meter.record())
        quality, *found = (self.cache.get(name) or {} for name in keys)
        agreement = Agreement.from_record(found[0]) if found else None
        return dataclasses.replace(Measurement.from_record(quality), agreement=agreement)

    def _is_known(self, name: str, meter: Meter) -> bool:
        """Whether the cache has the measurement, as this version reads it."""
        record = self.cache.get(name)
        if record is None:
            return False
        try:
            meter.check(record)
        except ValueError:
            return False  # another version's, or damaged: measured again
        return True

    def _key(self, method: Method, unit: _Unit, meter: Meter) -> str:
        return key(
            method=method.identity,
            pristine=[unit.clip.pristine, *file_identity(unit.pristine)],
            compressed=[unit.variant.file, *file_identity(unit.compressed)],
            frames=self.limit,
            **meter.identity(),
        )

    def advance(self, count: int, detail: str) -> None:
        """Report `count` further frames."""
        self.done += count
        self.progress(self.done, max(self.total, self.done), detail)


def _measure(
    method: Method, unit: _Unit, meters: Sequence[Meter], limit: int | None, advance: Callable[[int], None]
) -> None:
    """Show all frames to `meters`, in one pass: a network restores them once."""
    empty = True
    for batch in in_batches(_pairs(method, unit, limit), BATCH):
        empty = False
        for meter in meters:
            meter.add(batch)
        advance(len(batch))
    if empty:
        raise CarfixError(f"{unit.compressed} has no frames; build the dataset again")


def _pairs(method: Method, unit: _Unit, limit: int | None) -> Iterator[Pair]:
    """Pristine and shown frames of the same index: a dataset's variants keep every frame."""
    wanted = wanted_range(0, limit)
    pristine = select(read_frames(unit.pristine), wanted)
    for reference, frame in itertools.zip_longest(pristine, method.frames(unit.compressed, wanted)):
        if reference is None or frame is None:
            raise CarfixError(
                f"{unit.compressed} by {method.name} and {unit.pristine} differ in their number of frames; "
                "build the dataset again"
            )
        yield reference, frame


def _unit(dataset: Path, clip: Clip, variant: Variant, limit: int | None) -> _Unit:
    return _Unit(
        clip=clip,
        variant=variant,
        pristine=dataset / clip.pristine,
        compressed=dataset / variant.file,
        frames=clip.frames if limit is None else min(limit, clip.frames),
    )
