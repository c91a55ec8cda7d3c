"""The training loop: Adam on aligned patches, averaged weights, validation, and exact resume."""

import contextlib
import copy
import dataclasses
import time
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from carfix.errors import CarfixError, UsageError
from carfix.lock import alone_in
from carfix.net.arch import RestorationNet, build
from carfix.net.checkpoint import Description, load_checkpoint, save_checkpoint
from carfix.net.config import Config
from carfix.net.grow import can_deepen, deepen
from carfix.net.losses import LOSSES
from carfix.training.divergence import check_gains, check_state
from carfix.training.leaks import by_clip, find_leaks
from carfix.training.log import Log
from carfix.training.patches import FramePairs, PatchSampler, load_pairs, to_unit
from carfix.training.places import make_folder
from carfix.training.processes import (
    any_process,
    join_processes,
    leave_processes,
    place_of_process,
    rank_and_world,
)
from carfix.training.settings import TrainSettings, check, check_run, learning_rate
from carfix.training.state import Progress, load_state, save_state
from carfix.training.teacher import Teacher
from carfix.training.validation import Gains, ValidationSet
from carfix.video.manifest import read_manifest

#: Adam's second beta stays at its default; the first is the paper's 0.9.
BETAS = (0.9, 0.999)
#: Losses whose best weights are those of the highest SSIM; the others' are those of the highest PSNR.
LOSSES_OF_STRUCTURE = ("ssim", "both")


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


@dataclasses.dataclass(frozen=True, kw_only=True)
class TrainResult:
    """How a run of `train` ended."""

    step: int
    finished: bool  # False if the time was up first
    best: float | None  # of the validations: gain in dB, with `LOSSES_OF_STRUCTURE` in SSIM
    weights: Path


def train(
    *,
    dataset: Path,
    run: Path,
    name: str,
    settings: TrainSettings,
    device: str = "auto",
    init: Path | None = None,
    teacher: Path | None = None,
    teacher_share: float = 0.5,
    minutes: float | None = None,
    validate_every: int = 500,
    validation_frames: int = 60,
    checkpoint_seconds: float = 60.0,
    compile_net: bool = False,
    allow_leaks: bool = False,
    tensorboard: bool = False,
    term: Term | None = None,
    licence: str = "",
    say: Callable[[str], None] = lambda line: None,
    progress: Callable[[int, int, str], None] = lambda step, total, text: None,
    loading: Callable[[int, int, str], None] = lambda done, total, text: None,
) -> TrainResult:
    """Train `settings.config` on `dataset`, keeping everything in the folder `run`; continues what lies there.

    Writes `run/NAME.safetensors` whenever validation improves. `init` is a warm start, which may have fewer
    residual blocks: they are then repeated (see `carfix.net.grow`). `teacher` is a network to distil from, of which
    the target takes `teacher_share` at first (see `carfix.training.teacher`). `term` is added to the loss; what it is
    about no validation measures, so the weights of the latest validation are kept instead of the best. `licence` is
    what the weights state as their own. `minutes` ends the run early, with a checkpoint. Raises `CarfixError` if `run`
    belongs to other settings or another process trains there, and when the training diverges (the checkpoint and the
    best weights before that stay), `UsageError` for settings that cannot be right.
    """
    check(settings)
    check_run(name, minutes)
    started = time.monotonic()
    rank, world = rank_and_world()
    place = place_of_process(device)
    join_processes(place, world)
    torch.manual_seed(settings.seed)
    net = build(settings.config)
    total_steps, warm = 0, None
    if init is not None:
        warm = load_checkpoint(init)
        net = _warm_start(warm.net, settings.config, init)
        total_steps = warm.description.steps
    net = net.to(place).to(memory_format=torch.channels_last)  # type: ignore[call-overload] # torch's stubs lack it
    ema = copy.deepcopy(net).requires_grad_(False).eval()
    optimizer = torch.optim.Adam(net.parameters(), lr=settings.lr, betas=BETAS)
    autocast = torch.bfloat16 if settings.precision == "bf16" else None
    record, guide = settings.record() | {"name": name, "init": warm and warm.description.sha256}, None
    if teacher is not None:
        model = load_checkpoint(teacher)
        if settings.patch % model.config.scale:
            raise UsageError(
                f"--patch {settings.patch} is no multiple of {model.config.scale}, the side of the teacher's cells"
            )
        record |= {"teacher": model.description.sha256, "teacher_share": teacher_share}
        guide = Teacher(net=model.net.to(place), share=teacher_share, steps=settings.steps, autocast=autocast)
    if term is not None:
        record |= term.record()
    read_manifest(dataset)  # a mistyped one leaves no folder behind
    make_folder(run)
    with alone_in(run) if rank == 0 else contextlib.nullcontext():
        state = load_state(run, record, net, ema, optimizer) or Progress(settings=record)
        if state.step and rank == 0:
            how = "is finished" if state.step >= settings.steps else f"goes on at step {state.step}"
            say(f"the training in {run} {how}; to begin anew, give another --output")
        loader = loading if rank == 0 else (lambda done, total, text: None)
        pairs, held_out = (
            load_pairs(dataset, split, frames=settings.frames, progress=loader) for split in ("train", "val")
        )
        if not allow_leaks and (leaks := find_leaks(_thumbnails(pairs), _thumbnails(held_out))):
            raise CarfixError(
                f"{dataset}: the validation clip {leaks[0].held_out} shows a frame of the training clip "
                f"{leaks[0].training}; build one of them again with the other's --split, or add --allow-leaks"
            )
        sampler = PatchSampler(
            pairs,
            patch=settings.patch,
            batch=settings.batch // world,
            grid=settings.config.scale,
            seed=settings.seed,
            rank=rank,
        )
        if rank == 0 and (small := sorted({pair.clip for pair in pairs} - sampler.clips)):
            say(
                f"{len(small)} of the training clips, {small[0]} among them, are smaller than a patch of "
                f"{settings.patch}x{settings.patch} and are not trained on; a smaller --patch takes them"
            )
        validation = ValidationSet(held_out, validation_frames)
        weights = run / f"{name}.safetensors"
        summary = training_summary(dataset, sampler.clips)
        keeper = _Keeper(
            run, weights, name, settings, state, net, ema, optimizer, total_steps, summary, licence, term
        )
        stepper: nn.Module = net
        if world > 1:
            stepper = nn.parallel.DistributedDataParallel(net)
        if compile_net:
            stepper = torch.compile(stepper)  # type: ignore[assignment]
        log = Log(run, state.step, tensorboard=tensorboard) if rank == 0 else None
        saved = time.monotonic()
        losses: list[Tensor] = []
        text = ""
        loss_of = LOSSES[settings.loss]
        for decoded, pristine in sampler.batches(state.step, settings.steps):
            rate = learning_rate(settings, state.step)
            for group in optimizer.param_groups:
                group["lr"] = rate
            x = to_unit(decoded.to(place, non_blocking=True)).contiguous(memory_format=torch.channels_last)
            y = to_unit(pristine.to(place, non_blocking=True))
            target = y if guide is None else guide.target(x, y, state.step)
            with torch.autocast(place.type, autocast, enabled=autocast is not None):
                restored = stepper(x)
            restored = restored.float()
            loss = loss_of(restored, target)
            if term is not None:
                loss = loss + term(restored, y)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            if settings.clip:
                nn.utils.clip_grad_norm_(net.parameters(), settings.clip)
            optimizer.step()
            state.step += 1
            move_average(ema, net, settings.ema, state.step)
            losses.append(loss.detach())
            last = state.step == settings.steps
            late = minutes is not None and time.monotonic() - started > 60 * minutes
            if world > 1:
                late = any_process(late, place)
            validates = state.step % validate_every == 0 or last
            saves = last or late or time.monotonic() - saved >= checkpoint_seconds
            if rank == 0 and (validates or saves):
                check_state(net, losses, settings, state, weights)
            if validates:
                if rank == 0 and log is not None:
                    gains = validation.measure(ema, place, autocast)
                    check_gains(gains, settings, state, weights)
                    mean = float(torch.stack(losses).mean())
                    log.write(state.step, time.monotonic() - started, rate, mean, gains)
                    text = f"loss {mean:.4f}, gain {gains.psnr:+.3f} dB (worst {gains.worst:+.3f}), "
                    text += f"SSIM {gains.ssim:+.4f}"
                    keeper.offer(gains)
                losses.clear()
            if rank == 0:
                if saves:
                    keeper.save()
                    saved = time.monotonic()
                progress(state.step, settings.steps, text)
            if late:
                break
    del stepper
    leave_processes(world)
    return TrainResult(
        step=state.step, finished=state.step >= settings.steps, best=state.best, weights=weights
    )


def _thumbnails(pairs: Sequence[FramePairs]) -> dict[str, Tensor]:
    return by_clip((pair.clip, pair.pristine) for pair in pairs)


def _warm_start(net: RestorationNet, config: Config, path: Path) -> RestorationNet:
    """`net` as the beginning of a training of `config`: as it is, or deepened."""
    if net.config == config:
        fresh = build(config)  # a loaded network is frozen
        fresh.load_state_dict(net.state_dict())
        return fresh
    if can_deepen(net.config, config):
        return deepen(net, config)
    raise UsageError(f"{path} is of another architecture than the one to train: {net.config}")


class _Keeper:
    """Writes checkpoints, and the best weights when validation improves."""

    def __init__(
        self,
        run: Path,
        weights: Path,
        name: str,
        settings: TrainSettings,
        state: Progress,
        net: RestorationNet,
        ema: RestorationNet,
        optimizer: torch.optim.Optimizer,
        earlier_steps: int,
        training_data: str,
        licence: str,
        term: Term | None,
    ) -> None:
        self._run, self._weights, self._name, self._settings = run, weights, name, settings
        self._state, self._net, self._ema, self._optimizer = state, net, ema, optimizer
        self._earlier_steps, self._training_data = earlier_steps, training_data
        self._licence, self._term = licence, term

    def save(self) -> None:
        save_state(self._run, self._state, self._net, self._ema, self._optimizer)

    def offer(self, gains: Gains) -> None:
        """Keep the averaged weights if they are the best so far by what the loss is about; with a term in any case."""
        score = gains.ssim if self._settings.loss in LOSSES_OF_STRUCTURE else gains.psnr
        # (Not "<=": no best may be followed by what is not a number.)
        if self._term is None and self._state.best is not None and not score > self._state.best:
            return
        self._state.best = score
        description = Description(
            name=self._name,
            config=self._settings.config,
            loss=self._settings.loss + (f"+{self._term.name}" if self._term is not None else ""),
            steps=self._earlier_steps + self._state.step,
            training_data=self._training_data,
            gains={"psnr": gains.psnr, "ssim": gains.ssim},
            licence=self._licence,
        )
        save_checkpoint(self._weights, self._ema, description)


def training_summary(dataset: Path, names: Collection[str] | None = None) -> str:
    """One line on the data: how many clips (of these names, if given) and encodings, under which licences."""
    clips = [clip for clip in read_manifest(dataset).select("train") if names is None or clip.name in names]
    encodings = sum(len(clip.variants) for clip in clips)
    photos = sum(clip.still for clip in clips)
    licences = sorted({clip.licence for clip in clips if clip.licence})
    return f"{len(clips) - photos} clips and {photos} photographs in {encodings} encodings" + (
        f" ({'; '.join(licences)})" if licences else ""
    )


@torch.no_grad()
def move_average(ema: nn.Module, net: nn.Module, decay: float, step: int) -> None:
    """Move the average towards the network; early on it follows quickly."""
    decay = min(decay, (1 + step) / (10 + step)) if decay else 0.0
    torch._foreach_lerp_(list(ema.parameters()), list(net.parameters()), 1.0 - decay)
