"""The training loop: Adam on aligned patches, averaged weights, validation, and exact resume."""

import contextlib
import dataclasses
import functools
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from carfix.errors import CarfixError, UsageError
from carfix.lock import alone_in
from carfix.net.arch import RestorationNet, build
from carfix.net.checkpoint import load_checkpoint
from carfix.net.config import Config
from carfix.net.grow import can_deepen, deepen
from carfix.progress import OnProgress, silent
from carfix.training.divergence import check_gains, check_state
from carfix.training.keeper import Keeper, training_summary, weights_of
from carfix.training.leaks import by_clip, find_leaks
from carfix.training.log import Log
from carfix.training.patches import FramePairs, PatchSampler, encodings, load_pairs, pristine_frames
from carfix.training.places import make_folder
from carfix.training.processes import (
    any_process,
    join_processes,
    leave_processes,
    place_of_process,
    rank_and_world,
)
from carfix.training.settings import TrainSettings, check, check_name, check_run, learning_rate
from carfix.training.state import Progress, load_state
from carfix.training.student import Student, Term
from carfix.training.teacher import load_teacher
from carfix.training.validation import Gains, ValidationSet

#: What is trained on, and what validates.
SPLITS = ("train", "val")


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
    progress: OnProgress = silent,
    loading: OnProgress = silent,
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
    check_name(name)
    check_run(weights_of(run, name), minutes, init=init, teacher=teacher)
    started = time.monotonic()
    rank, world = rank_and_world()
    if rank > 0:  # the first of several processes validates, keeps, and tells
        say, progress, loading = (lambda line: None), silent, silent
    place = place_of_process(device)
    join_processes(place, world)
    torch.manual_seed(settings.seed)
    warm = None if init is None else load_checkpoint(init)
    net = build(settings.config) if warm is None else _warm_start(warm.net, settings.config, warm.path)
    guide = None if teacher is None else load_teacher(teacher, teacher_share, settings, place)
    student = Student(net, settings, place, teacher=guide, term=term)
    record = settings.record() | {"name": name, "init": warm and warm.description.sha256}
    for part in (guide, term):
        record |= {} if part is None else part.record()
    for split in SPLITS:  # before any is decoded; a mistyped dataset leaves no folder behind
        encodings(dataset, split)
    make_folder(run)
    with alone_in(run) if rank == 0 else contextlib.nullcontext():
        state = load_state(run, record, student.net, student.average, student.optimizer)
        state = state or Progress(settings=record)
        if state.step:
            how = "is finished" if state.step >= settings.steps else f"goes on at step {state.step}"
            say(f"the training in {run} {how}; to begin anew, give another --output")
        log = Log(run, state.step, state.seconds, tensorboard=tensorboard) if rank == 0 else None
        pairs, held_out = (
            load_pairs(dataset, split, frames=settings.frames, progress=loading) for split in SPLITS
        )
        if not allow_leaks:
            _check_leaks(dataset, pairs, held_out, settings.frames)
        sampler = PatchSampler(
            pairs,
            patch=settings.patch,
            batch=settings.batch // world,
            grid=settings.config.scale,
            seed=settings.seed,
            rank=rank,
        )
        if small := sorted({pair.clip for pair in pairs} - sampler.clips):
            say(
                f"{len(small)} of the training clips, {small[0]} among them, are smaller than a patch of "
                f"{settings.patch}x{settings.patch} and are not trained on; a smaller --patch takes them"
            )
        validation = ValidationSet(held_out, validation_frames)
        keeper = Keeper(
            run=run,
            name=name,
            settings=settings,
            state=state,
            student=student,
            earlier_steps=0 if warm is None else warm.description.steps,
            training_data=training_summary(dataset, sampler.clips),
            licence=licence,
        )
        if rank == 0 and (line := keeper.go_on(functools.partial(_measured, validation, student, settings))):
            say(line)
        loop = _Loop(
            keeper=keeper,
            sampler=sampler,
            validation=validation,
            log=log,
            world=world,
            started=started,
            minutes=minutes,
            validate_every=validate_every,
            checkpoint_seconds=checkpoint_seconds,
            progress=progress,
        )
        loop.run(compile_net=compile_net)
    leave_processes(world)
    return TrainResult(
        step=state.step, finished=state.step >= settings.steps, best=state.best, weights=keeper.weights
    )


def _warm_start(net: RestorationNet, config: Config, path: Path) -> RestorationNet:
    """`net` as the beginning of a training of `config`: as it is, or deepened."""
    if net.config == config:
        fresh = build(config)  # a loaded network is frozen
        fresh.load_state_dict(net.state_dict())
        return fresh
    if can_deepen(net.config, config):
        return deepen(net, config)
    raise UsageError(f"{path} is of another architecture than the one to train: {net.config}")


def _measured(validation: ValidationSet, student: Student, settings: TrainSettings) -> Gains:
    """What the averaged weights gain."""
    return validation.measure(student.average, student.place, settings.autocast)


def _check_leaks(
    dataset: Path, pairs: Sequence[FramePairs], held_out: Sequence[FramePairs], frames: int
) -> None:
    """Raises `CarfixError` if a clip that is held out, for the test too, shows a frame of one that is trained on."""
    training, validation = (
        by_clip((pair.clip, pair.pristine) for pair in some) for some in (pairs, held_out)
    )
    test = by_clip(pristine_frames(dataset, "test", frames=frames))
    for kind, clips in (("validation", validation), ("test", test)):
        if leaks := find_leaks(training, clips):
            raise CarfixError(
                f"{dataset}: the {kind} clip {leaks[0].held_out} shows a frame of the training clip "
                f"{leaks[0].training}; build one of them again with the other's --split, or add --allow-leaks"
            )


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Loop:
    """Steps, and at some of them validations and checkpoints, until all are done or the time is up."""

    keeper: Keeper
    sampler: PatchSampler
    validation: ValidationSet
    log: Log | None  # None: another process validates and keeps
    world: int  # processes that take each step together
    started: float  # on the clock of `time.monotonic`
    minutes: float | None
    validate_every: int  # steps
    checkpoint_seconds: float
    progress: OnProgress

    def run(self, *, compile_net: bool) -> None:
        """Go on from the state. Raises `CarfixError` when the training diverges, or something cannot be written."""
        keeper, settings = self.keeper, self.keeper.settings
        state, student = keeper.state, keeper.student
        # Only here: what is wrapped for several processes must be gone before they leave their group.
        forward: nn.Module = student.net
        if self.world > 1:
            forward = nn.parallel.DistributedDataParallel(forward)
        if compile_net:
            forward = torch.compile(forward)  # type: ignore[assignment]
        saved, text = time.monotonic(), ""
        losses: list[Tensor] = []  # since the last validation
        for decoded, pristine in self.sampler.batches(state.step, settings.steps):
            losses.append(student.step(state.step, decoded, pristine, forward))
            state.step += 1
            last, late = state.step == settings.steps, self._is_late()
            validates = state.step % self.validate_every == 0 or last
            saves = last or late or time.monotonic() - saved >= self.checkpoint_seconds
            if self.log is not None and (validates or saves):
                check_state(student.net, losses, settings, state, keeper.weights)
            if self.log is not None and validates:
                text = self._validate(self.log, losses)
            if validates:
                losses.clear()
            if self.log is not None and saves:
                state.seconds = self.log.seconds_with(time.monotonic() - self.started)
                keeper.save()
                saved = time.monotonic()
            self.progress(state.step, settings.steps, text)
            if late:
                break

    def _is_late(self) -> bool:
        late = self.minutes is not None and time.monotonic() - self.started > 60 * self.minutes
        return any_process(late, self.keeper.student.place) if self.world > 1 else late

    def _validate(self, log: Log, losses: Sequence[Tensor]) -> str:
        """Measure the averaged weights, log that and keep them if they are the best; a line about it."""
        settings, state, student = self.keeper.settings, self.keeper.state, self.keeper.student
        gains = _measured(self.validation, student, settings)
        check_gains(gains, settings, state, self.keeper.weights)
        loss = float(torch.stack(list(losses)).mean())
        rate = learning_rate(settings, state.step - 1)
        log.write(state.step, time.monotonic() - self.started, rate, loss, gains)
        self.keeper.offer(gains)
        gain = f"gain {gains.psnr:+.3f} dB (worst {gains.worst:+.3f}), SSIM {gains.ssim:+.4f}"
        return f"loss {loss:.4f}, {gain}"
