"""What a training leaves: checkpoints to go on from, and the best weights."""

import dataclasses
from collections.abc import Callable, Collection
from pathlib import Path

from carfix.net.catalog import SUFFIX
from carfix.net.checkpoint import CheckpointError, Description, load_checkpoint, save_checkpoint
from carfix.training.settings import TrainSettings
from carfix.training.state import Progress, save_state
from carfix.training.student import Student
from carfix.training.validation import Gains
from carfix.video.manifest import read_manifest

#: Losses whose best weights are those of the highest SSIM; the others' are those of the highest PSNR.
LOSSES_OF_STRUCTURE = ("ssim", "both")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Keeper:
    """Writes checkpoints, and the best weights when validation improves."""

    run: Path  # the folder of checkpoints and weights
    name: str  # of the weights
    settings: TrainSettings
    state: Progress
    student: Student
    earlier_steps: int  # of the weights that it began with
    training_data: str
    licence: str

    @property
    def weights(self) -> Path:
        """The file of the best weights."""
        return weights_of(self.run, self.name)

    @property
    def _measure(self) -> str:
        """Which of `Gains` the best weights have most of."""
        return "ssim" if self.settings.loss in LOSSES_OF_STRUCTURE else "psnr"

    def save(self) -> None:
        """Write a checkpoint. Raises `CarfixError` if that cannot be."""
        save_state(self.run, self.state, self.student.net, self.student.average, self.student.optimizer)

    def go_on(self, measure: Callable[[], Gains]) -> str | None:
        """See to it that the best weights of a run that goes on, or is finished, are there and of this licence.

        They may have been moved away, or not have outlived a crash: the averaged weights of the checkpoint, whose
        gains are what `measure` finds, take their place, and a line says so.
        """
        if self.state.best is None:
            return None
        try:
            kept = load_checkpoint(self.weights)
        except CheckpointError as error:
            self.state.best = None
            self.offer(measure())
            return f"{error}; those of step {self.state.step}, where the run is, were written there instead"
        if self.state.step >= self.settings.steps:  # no other is held against it: what is told is of the file
            self.state.best = kept.description.gains.get(self._measure, self.state.best)
        if self.licence not in ("", kept.description.licence):
            save_checkpoint(
                self.weights, kept.net, dataclasses.replace(kept.description, licence=self.licence)
            )
        return None

    def offer(self, gains: Gains) -> None:
        """Keep the averaged weights if they are the best so far by what the loss is about; with a term in any case.

        Raises `CheckpointError` if they cannot be written.
        """
        term = self.student.term
        score: float = getattr(gains, self._measure)
        # (Not "<=": no best may be followed by what is not a number.)
        if term is None and self.state.best is not None and not score > self.state.best:
            return
        self.state.best = score
        description = Description(
            name=self.name,
            config=self.settings.config,
            loss=self.settings.loss + (f"+{term.name}" if term is not None else ""),
            steps=self.earlier_steps + self.state.step,
            training_data=self.training_data,
            gains={"psnr": gains.psnr, "ssim": gains.ssim},
            licence=self.licence,
        )
        save_checkpoint(self.weights, self.student.average, description)


def weights_of(run: Path, name: str) -> Path:
    """Where a training in the folder `run` writes its best weights."""
    return run / f"{name}{SUFFIX}"


def training_summary(dataset: Path, names: Collection[str] | None = None) -> str:
    """One line on the data: how many clips (of these names, if given) and encodings, under which licences."""
    clips = [clip for clip in read_manifest(dataset).select("train") if names is None or clip.name in names]
    encodings = sum(len(clip.variants) for clip in clips)
    photos = sum(clip.still for clip in clips)
    licences = sorted({clip.licence for clip in clips if clip.licence})
    return f"{len(clips) - photos} clips and {photos} photographs in {encodings} encodings" + (
        f" ({'; '.join(licences)})" if licences else ""
    )
