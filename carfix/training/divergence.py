"""A training that has diverged ends, and leaves what it had: nothing that is not a number is kept or continued."""

import math
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from carfix.errors import CarfixError
from carfix.training.settings import TrainSettings
from carfix.training.state import Progress
from carfix.training.validation import Gains


def check_state(
    net: nn.Module, losses: Sequence[Tensor], settings: TrainSettings, state: Progress, weights: Path
) -> None:
    """Raise `CarfixError` if one of `losses` or of the network's weights is not finite."""
    if losses and not bool(torch.stack(list(losses)).isfinite().all()):
        raise _diverged("the loss", settings, state, weights)
    # The last step may have done it: no loss tells of that yet.
    if not all(bool(parameter.isfinite().all()) for parameter in net.parameters()):
        raise _diverged("a weight of the network", settings, state, weights)


def check_gains(gains: Gains, settings: TrainSettings, state: Progress, weights: Path) -> None:
    """Raise `CarfixError` if the validation's result is not finite."""
    if not all(math.isfinite(gain) for gain in (gains.psnr, gains.ssim, gains.worst)):
        raise _diverged("the validation gain", settings, state, weights)


def _diverged(what: str, settings: TrainSettings, state: Progress, weights: Path) -> CarfixError:
    left = "" if state.best is None else f"; the best weights before that stay in {weights}"
    return CarfixError(
        f"the training has diverged: at step {state.step} of {settings.steps} {what} is not a finite number; "
        f"train anew, into another --output, with a --lr below {settings.lr:g}{left}"
    )
