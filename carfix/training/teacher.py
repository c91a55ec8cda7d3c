"""Distillation: the target is drawn towards what a trained network makes of the same patches.

What the encoder threw away cannot be predicted, and to a student it is noise in every gradient. A teacher's output is
the predictable part alone. Its share of the target falls to zero over the training, so that the student ends on the
pristine frames and is not bound to the teacher's mistakes.
"""

import dataclasses
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from carfix.errors import UsageError
from carfix.net.arch import RestorationNet
from carfix.net.checkpoint import load_checkpoint
from carfix.training.settings import TrainSettings


@dataclasses.dataclass(frozen=True, kw_only=True)
class Teacher:
    """A frozen network and its share of the target."""

    net: RestorationNet
    share: float  # at the first step, 0 to 1; falls linearly to 0 at the last
    steps: int
    autocast: torch.dtype | None
    sha256: str = ""  # of its weights

    def record(self) -> dict[str, Any]:
        """What decides the outcome of a training, as JSON-able fields."""
        return {"teacher": self.sha256, "teacher_share": self.share}

    @torch.no_grad()
    def target(self, decoded: Tensor, pristine: Tensor, step: int) -> Tensor:
        """What the student is to make of `decoded`; all `[N, 1, H, W]` in [-1, 1].

        The teacher sees the patches as they are and mirrored, and the mean counts: a self-ensemble is a little
        better than the network itself, and the mirror image is the one change that trainings know.
        """
        share = self.share * max(0.0, 1 - step / self.steps)
        if share == 0:
            return pristine
        with torch.autocast(decoded.device.type, self.autocast, enabled=self.autocast is not None):
            restored = self.net(decoded).float()
            mirrored = self.net(decoded.flip(-1)).float().flip(-1)
        return torch.lerp(pristine, (restored + mirrored) / 2, share)


def load_teacher(path: Path, share: float, settings: TrainSettings, place: torch.device) -> Teacher:
    """The network in the file `path`, on `place`, for a training of `settings`.

    Raises `CheckpointError` if it cannot be read, `UsageError` for patches that are not of its whole cells.
    """
    model = load_checkpoint(path)
    if settings.patch % model.config.scale:
        raise UsageError(
            f"--patch {settings.patch} is no multiple of {model.config.scale}, the side of the teacher's cells"
        )
    return Teacher(
        net=model.net.to(place),
        share=share,
        steps=settings.steps,
        autocast=settings.autocast,
        sha256=model.description.sha256,
    )
