"""One bench: everything set up, measured in the same rounds, and put in relation."""

import contextlib
import functools
import math
from collections.abc import Sequence
from pathlib import Path

from carfix.errors import UsageError
from carfix.net.catalog import load_model
from carfix.net.checkpoint import Model
from carfix.net.config import multiply_adds_per_pixel
from carfix.progress import OnProgress, silent
from carfix.quality.bench import ceilings, peers, stages
from carfix.quality.bench.clip import Sample, generate_clip, open_sample
from carfix.quality.bench.machine import describe_machine, torch_device
from carfix.quality.bench.results import BenchResult, ClipFacts, EndToEnd, ModelResult, Peer
from carfix.quality.bench.rounds import ROUNDS, Measured, Rate, Task, measure
from carfix.restore.engine import Engine, open_engine, uses_accelerator
from carfix.restore.engine.overlap import prepare
from carfix.scratch import scratch
from carfix.video.hwaccel import NONE

#: Seconds that a stage is measured for, about: half a minute in all for a fast network on a CPU.
SECONDS = 3.0
#: What engines compute in. torch has no product of 16-bit integers: they are held against fp32, which they stand for.
PRECISIONS = (*ceilings.DTYPES, "int16")
#: The size of the made-up clip: what most cameras record that are worth restoring.
SIZE = (1280, 720)


class _Subject:
    """A network under test: its engine and the names of its tasks."""

    def __init__(self, model: Model, engine: Engine, prefix: str) -> None:
        self.model = model
        self.engine = engine
        self.inference = f"{prefix}inference"
        self.end_to_end = f"{prefix}end to end"
        self.peers: dict[str, str] = {}  # task to what tables call it
        self.prefix = prefix
        self.starts: list[float] = []  # seconds before the first frame, a value a restore

    @property
    def precision(self) -> str:
        """Of the engine, as its description says; auto is settled there."""
        words = self.engine.description.replace(",", " ").split()
        return next((word for word in words if word in PRECISIONS), "fp32")

    @property
    def ceiling(self) -> str:
        """The precision of the matrix product that the engine is held against."""
        return self.precision if self.precision in ceilings.DTYPES else "fp32"


def bench(
    *,
    clip: Path | None = None,
    size: tuple[int, int] = SIZE,
    models: Sequence[str] = ("auto",),
    device: str = "auto",
    precision: str = "auto",
    tile: int | None = None,
    preset: str | None = None,
    hwaccel: str = NONE,
    seconds: float = SECONDS,
    progress: OnProgress = silent,
) -> BenchResult:
    """Measure the stages of a restore, the whole of it, the machine's ceilings and rivals.

    `clip` is a video to measure on; without it one of `size` (width and height in pixels, even) is made up. `models`,
    `device`, `precision`, `tile` and `hwaccel` are those of `restore_video`; `preset` is the encoder's, `seconds` what
    one stage gets, about. `progress` is told the runs done, the runs in all and what runs now.

    Raises `CarfixError` for a clip that cannot be read or a model that does not exist, `UsageError` for values that
    cannot be right, `MissingPartError` for a device that is not there. What else is missing is left out, and the
    result says why.
    """
    if not 0 < seconds < math.inf:
        raise UsageError(f"--seconds must be positive and finite, not {seconds:g}")
    if min(size) < 16 or size[0] % 2 or size[1] % 2:
        raise UsageError(f"a size is even and at least 16x16, not {size[0]}x{size[1]}")
    accelerator = uses_accelerator(device)
    with contextlib.ExitStack() as stack:
        names = list(dict.fromkeys(models))
        subjects: list[_Subject] = []
        for name in names:
            model = load_model(name, accelerator=accelerator)
            engine = open_engine(model, device=device, precision=precision, tile=tile)
            stack.callback(engine.close)
            subjects.append(_Subject(model, engine, f"{name}: " if len(names) > 1 else ""))
        machine = describe_machine(device)
        folder = stack.enter_context(scratch("carfix-bench-"))
        path = generate_clip(folder / "clip.mp4", *size) if clip is None else clip
        sample = open_sample(path, generated=clip is None, hwaccel=hwaccel)
        for subject in subjects:
            prepare(subject.engine, *sample.planes[0].shape)
        alone = _stage_tasks(sample, preset, folder)
        tasks = alone + _ceiling_tasks(subjects, torch_device(device))
        for subject in subjects:
            tasks += _subject_tasks(subject, sample, preset, torch_device(device))
        spp = [peers.spp_peer(quality, sample) for quality in peers.SPP_QUALITIES]
        measured = measure(tasks + spp, seconds=seconds, progress=progress)
        for subject in subjects:
            subject.peers |= {task.name: task.name for task in spp}
        return BenchResult(
            machine=machine,
            clip=_facts(sample),
            settings={
                "seconds": seconds,
                "rounds": ROUNDS,
                "device": device,
                "precision": precision,
                "tile": tile,
                "preset": preset,
                "hwaccel": str(sample.info.hwaccel or NONE),
            },
            products={
                kind: measured.rates[name]
                for kind in ceilings.DTYPES
                if (name := ceilings.product_name(kind)) in measured.rates
            },
            copy=measured.rates.get(ceilings.COPY),
            stages={task.name: measured.rates[task.name] for task in alone},
            models=tuple(_result(subject, sample, measured) for subject in subjects),
            left_out=measured.left_out,
        )


def _stage_tasks(sample: Sample, preset: str | None, folder: Path) -> list[Task]:
    return [
        stages.decoding(sample),
        stages.reading_luma(sample),
        stages.writing_luma(sample),
        stages.encoding(stages.ENCODE, sample, preset, folder),
        stages.encoding(stages.ENCODE_ULTRAFAST, sample, "ultrafast", folder),
    ]


def _ceiling_tasks(subjects: Sequence[_Subject], device: str | None) -> list[Task]:
    if device is None:
        return []  # torch, which measures them, cannot compute there
    precisions = dict.fromkeys(["fp32", *(subject.ceiling for subject in subjects)])
    products = [ceilings.matrix_product(device, kind) for kind in precisions]
    return [*products, ceilings.copy_bandwidth(device)]


def _subject_tasks(subject: _Subject, sample: Sample, preset: str | None, device: str | None) -> list[Task]:
    """Inference, the whole restore, and the rivals that run the same network."""
    tasks = [
        stages.inferring(subject.inference, sample, subject.engine),
        stages.restoring(subject.end_to_end, sample, subject.engine, preset, subject.starts),
    ]
    place = device or "cpu"
    # A GPU is at its best with whole frames; a CPU with what its caches hold.
    tile = peers.EAGER_TILE if place == "cpu" else None
    what = f", windows {tile}" if tile else ""
    for kind in ("fp32",) if place == "cpu" else ("fp32", "fp16"):
        build = functools.partial(peers.eager, subject.model, place, kind, tile)
        tasks.append(_peer(subject, f"eager PyTorch {kind}{what}", sample, build))
    build = functools.partial(peers.onnxruntime, subject.model, place)
    tasks.append(_peer(subject, "onnxruntime fp32", sample, build))
    return tasks


def _peer(subject: _Subject, name: str, sample: Sample, build: "functools.partial[peers.Restore]") -> Task:
    task = peers.network_peer(
        subject.prefix + name, sample, min(subject.engine.batch, peers.MOST_FRAMES), build
    )
    subject.peers[task.name] = name
    return task


def _facts(sample: Sample) -> ClipFacts:
    info = sample.info
    return ClipFacts(
        path=None if sample.generated else str(info.path),
        codec=info.codec,
        width=info.width,
        height=info.height,
        pix_fmt=info.pix_fmt,
        frames=sample.total,
        fps=float(info.rate),
    )


def _result(subject: _Subject, sample: Sample, measured: Measured) -> ModelResult:
    rates = measured.rates
    description = subject.model.description
    inference = rates[subject.inference]
    cost = multiply_adds_per_pixel(subject.model.config)
    product = rates.get(ceilings.product_name(subject.ceiling))
    share = None if product is None else inference.times(2 * cost * sample.megapixels / 1e6).over(product)
    return ModelResult(
        name=description.name,
        sha256=description.sha256,
        engine=subject.engine.description,
        precision=subject.precision,
        multiply_adds_per_pixel=cost,
        inference=inference,
        ceiling=subject.ceiling,
        ceiling_share=share,
        end_to_end=_end_to_end(subject, rates) if subject.end_to_end in rates else None,
        peers=tuple(
            Peer(name=name, rate=rates[task], speedup=inference.over(rates[task]))
            for task, name in subject.peers.items()
            if task in rates
        ),
    )


def _end_to_end(subject: _Subject, rates: dict[str, Rate]) -> EndToEnd:
    rate, inference = rates[subject.end_to_end], rates[subject.inference]
    parts = {name: rates[name] for name in (stages.DECODE, stages.ENCODE)} | {"inference": inference}
    slowest = min(parts, key=lambda name: parts[name].median)
    serial = [*parts.values(), rates[stages.READ_LUMA], rates[stages.WRITE_LUMA]]
    sequence = Rate(
        tuple(
            1 / sum(1 / value for value in values) for values in zip(*(r.values for r in serial), strict=True)
        )
    )
    return EndToEnd(
        rate=rate,
        start_seconds=min(subject.starts),
        slowest=slowest,
        of_slowest=rate.over(parts[slowest]),
        of_inference=rate.over(inference),
        of_sequence=rate.over(sequence),
    )
