"""Candidates against a reference, frame by frame: PSNR, SSIM and VMAF of the frames shown at the same time."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path

from carfix.errors import UsageError
from carfix.progress import OnProgress, silent
from carfix.quality.chosen import choose_alike
from carfix.quality.comparison_run import ComparisonRun
from carfix.quality.damage import Damage
from carfix.quality.methods import Decoded, Filtered, Method, released
from carfix.quality.metrics import metrics_device
from carfix.quality.reader import read_frames, wanted_range
from carfix.quality.results import Candidate, Comparison, Reference, Result
from carfix.quality.spp import FIRST_QUANTIZER, PostFilter, UnfilteredError, climb
from carfix.video.choice import check_stream


def compare_videos(
    *,
    reference: Path | str,
    candidates: Sequence[Path | str] | Path,
    methods: Sequence[Method] = (),
    spp_best: PostFilter | None = None,
    vmaf: bool = False,
    skip: int = 0,
    frames: int | None = None,
    shortest: bool = False,
    align_start: bool = False,
    scale: bool = False,
    stream: str | int | None = None,
    device: str = "cpu",
    progress: OnProgress = silent,
) -> Comparison:
    """Measure each candidate as decoded, then by each of `methods`, against `reference`.

    `spp_best` adds the filter with the constant quantizer of the highest mean PSNR. The first `skip` frames of
    every file are left out and `frames` compared at most. Frames pair up by presentation time (see `aligned`
    for `shortest` and `align_start`); `scale` brings candidates to the reference's size (bicubic), which is else an
    error. `stream` chooses among several videos, see `choose_alike`. PSNR and SSIM are computed on `device`, see
    `metrics_device`.
    `progress` is told the frames done, the frames in all (a guess at first) and the candidate. Damaged packets are
    passed over and counted. Raises `CarfixError` for files that cannot be read or compared, and `MissingPartError` if
    an ffmpeg with the filter or with libvmaf is missing.
    """
    if isinstance(candidates, str | Path):  # a name is a sequence, too: of letters
        candidates = [candidates]
    paths = list(dict.fromkeys(Path(candidate) for candidate in candidates))
    if not paths:
        raise UsageError("there is nothing to compare with the reference: no candidate was given")
    stream, device = check_stream(stream), metrics_device(device)
    chosen = choose_alike(list(dict.fromkeys((Path(reference), *paths))), stream)
    run = ComparisonRun(
        chosen=chosen[Path(reference)],
        wanted=wanted_range(skip, frames),
        vmaf=vmaf,
        shortest=shortest,
        align_start=align_start,
        scale=scale,
        device=device,
        progress=progress,
    )
    every = (Decoded(quantizers=True), *methods)
    for path in paths:
        # A file that is missing or broken is told at once, not after an hour with the others.
        next(read_frames(path, stream=chosen[path].stream, damage=Damage()), None)
    run.expect(len(paths) * len(every))
    results: dict[Path, list[Result]] = {path: [] for path in paths}
    # Method by method, so that no two networks hold memory at once.
    for method in every:
        with released(method):
            for path in paths:
                name = _name(path, method, paths)
                results[path].append(run.compare(Candidate(method, name, chosen[path])))
    if spp_best:
        for path in paths:
            results[path].append(_best(run, results[path][0], spp_best))
    ordered = [_with_decoder_facts(result, results[path][0]) for path in paths for result in results[path]]
    first = ordered[0]
    return Comparison(
        reference=Reference(
            chosen=run.chosen,
            frames=len(first.quality),
            width=first.width,
            height=first.height,
            damage=run.damage,
        ),
        results=ordered,
    )


def _with_decoder_facts(result: Result, decoded: Result) -> Result:
    """What the decoder of the file told: a filter's output knows no frame types, quantizers, damage and range."""
    facts = dict(zip(decoded.indices, zip(decoded.kinds, decoded.quantizers, strict=True), strict=True))
    unknown = ("", None)
    found = [facts.get(index, unknown) for index in result.indices]
    return dataclasses.replace(
        result,
        kinds=[kind for kind, _ in found],
        quantizers=[quantizer for _, quantizer in found],
        damage=decoded.damage,
        mixed_ranges=decoded.mixed_ranges,
    )


def _name(path: Path, method: Method, paths: Sequence[Path]) -> str:
    """The file's name, as long as it tells the candidates apart, and the method if it is not the decoder's."""
    name = path.name if sum(other.name == path.name for other in paths) == 1 else str(path)
    return name if isinstance(method, Decoded) else f"{name} + {method.name}"


def _best(run: ComparisonRun, decoded: Result, spp: PostFilter) -> Result:
    """The result of the constant quantizer with the highest mean PSNR; where that changes nothing, `decoded`'s."""
    trials: dict[int, Result] = {}
    scores: dict[int, float] = {}
    while (quantizer := climb(scores, FIRST_QUANTIZER)) is not None:
        method: Method = Filtered(dataclasses.replace(spp, quantizer=quantizer))
        run.expect(1)
        name = f"{decoded.name} + {method.name}"
        candidate = dataclasses.replace(decoded.candidate, method=method, name=name)
        try:
            trials[quantizer] = run.compare(candidate, vmaf=False)
        except UnfilteredError:  # a flat picture, or one that hardly lost anything
            unchanged = dataclasses.replace(candidate, method=Decoded(name=method.name))
            trials[quantizer] = dataclasses.replace(decoded, candidate=unchanged)
        scores[quantizer] = float(trials[quantizer].quality.psnr.mean())
    best = max(scores, key=lambda quantizer: scores[quantizer])
    result = trials[best]
    candidate = dataclasses.replace(result.candidate, name=f"{decoded.name} + spp-best (qp {best})")
    if run.vmaf and result.vmaf is None:
        run.expect(1)
        return run.compare(candidate)
    return dataclasses.replace(result, candidate=candidate)
