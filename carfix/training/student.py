"""The network that is trained: what one step makes of its weights, of their average and of Adam's moments."""

import copy
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from carfix.net.arch import RestorationNet
from carfix.net.losses import LOSSES
from carfix.training.patches import to_unit
from carfix.training.settings import TrainSettings, learning_rate
from carfix.training.teacher import Teacher

#: Adam's second beta stays at its default; the first is the paper's 0.9.
BETAS = (0.9, 0.999)


class Term(Protocol):
    """What is added to a loss."""

    #: For the weights' description, behind the loss.
    name: str

    def record(self) -> dict[str, Any]:
        """What decides the outcome, as JSON-able fields."""
        ...

    def __call__(self, restored: Tensor, pristine: Tensor) -> Tensor:
        """Of patches `[N, 1, P, P]` in [-1, 1]."""
        ...


class Student:
    """A network on its way: its weights, their average, which is what is kept in the end, and Adam's moments."""

    def __init__(
        self,
        net: RestorationNet,
        settings: TrainSettings,
        place: torch.device,
        *,
        teacher: Teacher | None = None,
        term: Term | None = None,
    ) -> None:
        """`teacher` is on `place` already; `term` is added to the loss of `settings`."""
        self.net: RestorationNet = net.to(place).to(memory_format=torch.channels_last)  # type: ignore[call-overload] # torch's stubs lack it
        self.average = copy.deepcopy(self.net).requires_grad_(False).eval()
        self.optimizer = torch.optim.Adam(self.net.parameters(), lr=settings.lr, betas=BETAS)
        self.place, self.term = place, term
        self._settings, self._teacher = settings, teacher

    def step(self, number: int, decoded: Tensor, pristine: Tensor, forward: nn.Module) -> Tensor:
        """Learn from 8-bit codes `[N, 1, P, P]`; returns the loss, a scalar on the device.

        `number` is that of the step, from 0. `forward` computes what `net` does: itself, compiled, or wrapped for
        several processes.
        """
        settings, autocast = self._settings, self._settings.autocast
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate(settings, number)
        x = to_unit(decoded.to(self.place, non_blocking=True)).contiguous(memory_format=torch.channels_last)
        y = to_unit(pristine.to(self.place, non_blocking=True))
        target = y if self._teacher is None else self._teacher.target(x, y, number)
        with torch.autocast(self.place.type, autocast, enabled=autocast is not None):
            restored = forward(x)
        restored = restored.float()
        loss = LOSSES[settings.loss](restored, target)
        if self.term is not None:
            loss = loss + self.term(restored, y)
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        if settings.clip:
            nn.utils.clip_grad_norm_(self.net.parameters(), settings.clip)
        self.optimizer.step()
        move_average(self.average, self.net, settings.ema, number + 1)
        return loss.detach()


@torch.no_grad()
def move_average(average: nn.Module, net: nn.Module, decay: float, step: int) -> None:
    """Move the average towards the network; early on it follows quickly."""
    decay = min(decay, (1 + step) / (10 + step)) if decay else 0.0
    torch._foreach_lerp_(list(average.parameters()), list(net.parameters()), 1.0 - decay)
