"""A detector on one video, before and after restoring: counts, a video to look at, agreement with a reference."""

import contextlib
import dataclasses
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from carfix.errors import CarfixError, UsageError
from carfix.progress import OnProgress, silent
from carfix.quality.alignment import aligned
from carfix.quality.chosen import Chosen, choose_alike
from carfix.quality.damage import Damage
from carfix.quality.detection.agreement import Agreement
from carfix.quality.detection.average_precision import Precision
from carfix.quality.detection.boxes import Detections
from carfix.quality.detection.detector import CANDIDATE_SCORE, Detector
from carfix.quality.detection.drawing import drawn
from carfix.quality.detection.frames import as_decoded, colour_picture
from carfix.quality.detection.side_by_side import CODEC, SideBySide
from carfix.quality.methods import Restored, released
from carfix.quality.reader import LumaFrame, read_frames, select, wanted_range
from carfix.restore.place import check_place, same_file
from carfix.video.muxer import suffix_holds
from carfix.video.source import SourceInfo, probe

#: Score from which an object is drawn and counted, where nothing else is said: YOLOX's own demonstration takes it.
SHOWN_SCORE = 0.3


@dataclasses.dataclass
class Tally:
    """What was found in the frames of one side."""

    names: Sequence[str]
    scores: dict[str, list[float]] = dataclasses.field(default_factory=dict)  # by class
    agreement: Agreement = dataclasses.field(default_factory=Agreement)  # empty without a reference

    def add(self, found: Detections) -> None:
        """The objects of a further frame."""
        for number, score in zip(found.classes.tolist(), found.scores.tolist(), strict=True):
            self.scores.setdefault(self.names[number], []).append(score)

    def count(self, name: str | None = None) -> int:
        """Number of objects of a class, or of all."""
        return len(self._chosen(name))

    def mean_score(self, name: str | None = None) -> float | None:
        """Of a class, or of all objects; None if there is none."""
        chosen = self._chosen(name)
        return float(np.mean(chosen)) if chosen else None

    def _chosen(self, name: str | None) -> list[float]:
        if name is not None:
            return self.scores.get(name, [])
        return [score for scores in self.scores.values() for score in scores]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Detected:
    """One video's objects, before and after."""

    source: Path
    output: Path | None
    reference: Path | None
    chosen: Sequence[Chosen]  # the videos of the source and of the reference
    model: str
    detector: Detector
    score: float
    frames: int
    before: Tally
    after: Tally
    damage: Damage  # what the decoder of the source met, and that of the reference
    reference_damage: Damage

    def classes(self) -> list[str]:
        """Names of what was found, the most frequent first."""
        names = {*self.before.scores, *self.after.scores}
        return sorted(names, key=lambda name: (-self.before.count(name) - self.after.count(name), name))

    def precision(self) -> tuple[Precision, Precision] | None:
        """Agreement with the reference before and after; None without one, or if nothing is found in it."""
        before, after = self.before.agreement.precision(), self.after.agreement.precision()
        return (before, after) if before and after else None


def detect_video(
    *,
    source: Path,
    detector: Detector,
    restored: Restored,
    output: Path | None = None,
    reference: Path | None = None,
    score: float = SHOWN_SCORE,
    frames: int | None = None,
    stream: str | None = None,
    overwrite: bool = False,
    progress: OnProgress = silent,
) -> Detected:
    """Find objects in the frames of `source` as decoded and as `restored`, at most in the first `frames`.

    Objects of at least `score` are counted, and drawn side by side into the video `output`. With `reference`, all
    findings are measured against those on its frames of the same times; see `Agreement`. `stream` chooses among several
    videos, see `choose_alike`. `progress` is told the frames done, a guess of all, and the file. Damaged packets are
    passed over and counted. Raises `CarfixError` for files that cannot be read, written or compared, and `UsageError`
    for a score that cannot be and for a name that says no container.
    """
    if not CANDIDATE_SCORE <= score <= 1:
        raise UsageError(f"--score is {CANDIDATE_SCORE} to 1, not {score}")
    files = [source] if reference is None else [source, reference]
    chosen = choose_alike(list(dict.fromkeys(files)), stream)
    info = probe(source, str(chosen[source].stream))
    if output is not None:
        _check_output(output, (source, reference), overwrite)
    before, after = Tally(detector.names), Tally(detector.names)
    damage, reference_damage = Damage(), Damage()
    expected, done = _expected(info, frames), 0
    with contextlib.ExitStack() as stack:
        stack.enter_context(released(restored))
        video = stack.enter_context(SideBySide(output, info)) if output is not None else None
        wanted = wanted_range(0, frames)
        pristines = None
        if reference is not None:
            decoded = read_frames(reference, stream=chosen[reference].stream, damage=reference_damage)
            pristines = select(decoded, wanted)
        every = restored.frames(source, wanted, damage, stream=info.stream)
        for pristine, shown in _pairs(pristines, every, (str(reference), str(source))):
            pictures, found = [], []
            # The decoded side first: the picture takes the restored luma when it is shown.
            for frame, tally in ((as_decoded(shown), before), (shown, after)):
                pictures.append(colour_picture(frame))
                found.append(detector.detect(pictures[-1]))
                tally.add(found[-1].above(score))
            if pristine is not None:
                truth = detector.detect(colour_picture(pristine))
                for tally, findings in zip((before, after), found, strict=True):
                    tally.agreement.add(truth, findings)
            if video is not None:
                left, right = (
                    drawn(picture, findings.above(score), detector.names, caption)
                    for picture, findings, caption in zip(
                        pictures, found, ("decoded", restored.name), strict=True
                    )
                )
                assert shown.picture is not None
                video.write(left, right, shown.picture.pts)
            done += 1
            progress(done, max(done, expected), source.name)
        if not done:
            raise CarfixError(f"{source} has no frames")
    return Detected(
        source=source,
        output=output,
        reference=reference,
        chosen=list(chosen.values()),
        model=restored.name,
        detector=detector,
        score=score,
        frames=done,
        before=before,
        after=after,
        damage=damage,
        reference_damage=reference_damage,
    )


def _check_output(output: Path, inputs: Sequence[Path | None], overwrite: bool) -> None:
    for path in inputs:
        if path is not None and same_file(path, output):
            raise CarfixError(f"the output {output} is the input {path}; name another file")
    check_place(output, overwrite=overwrite, parents=False)
    if not suffix_holds(output.suffix, CODEC):
        raise UsageError(f"{output.name!r} names no container of {CODEC}: write .mp4, .mkv or .mov")


def _pairs(
    pristine: Iterator[LumaFrame] | None, shown: Iterator[LumaFrame], names: tuple[str, str]
) -> Iterator[tuple[LumaFrame | None, LumaFrame]]:
    """Each restored frame, with the reference's frame of the same time if there is a reference."""
    if pristine is None:
        for frame in shown:
            yield None, frame
        return
    for first, second in aligned(pristine, shown, names=names, strict=True):
        if first.luma.shape != second.luma.shape:
            sizes = [f"{frame.luma.shape[1]}x{frame.luma.shape[0]}" for frame in (second, first)]
            raise CarfixError(
                f"{names[1]} is {sizes[0]} and the reference {names[0]} {sizes[1]}: they cannot be compared"
            )
        yield first, second


def _expected(info: SourceInfo, frames: int | None) -> int:
    """How many frames there will be, as far as the container knows; 0 where it does not."""
    guess = round(info.duration * info.rate) if info.duration else 0
    return guess if frames is None else min(guess or frames, frames)
