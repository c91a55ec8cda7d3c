"""`carfix train`: a dataset to weights."""

from pathlib import Path
from typing import Annotated

import typer

EXAMPLES = """
**Examples**

`carfix train data --arch fast --scale 2 --features 32 --blocks 6 --loss psnr --steps 60000` - a fast network,
from scratch

`carfix train data --loss psnr --steps 100000 --minutes 9` - the full one, nine minutes at a time

`carfix train data --loss both --init car-cnn-mse --lr 1e-4` - fine-tune

`carfix train data --arch fast --scale 2 --features 32 --blocks 6 --init fast --loss psnr
--detector yolox.onnx --patch 192 --batch 6 --lr 4e-4 --steps 2000` - for your own detector

`torchrun --nproc-per-node 4 -m carfix train data` - on four GPUs
"""
NETWORK, OPTIMISER, RUNNING, COMPUTING = "Network", "Optimiser", "Run", "Computing"


def register(app: typer.Typer) -> None:
    """Add the command to `app`."""
    app.command("train", epilog=EXAMPLES)(train)


def train(
    dataset: Annotated[
        Path, typer.Argument(metavar="DATASET", readable=False, help="Folder that `carfix dataset` built.")
    ],
    arch: Annotated[str, typer.Option(help="car-cnn or fast.", rich_help_panel=NETWORK)] = "car-cnn",
    scale: Annotated[
        int | None,
        typer.Option(min=1, help="fast: side of a cell in pixels; 4 if not given.", rich_help_panel=NETWORK),
    ] = None,
    features: Annotated[
        int, typer.Option(min=1, help="Features of each layer.", rich_help_panel=NETWORK)
    ] = 64,
    blocks: Annotated[
        int | None,
        typer.Option(min=1, help="Residual blocks; default: 15, of fast 4.", rich_help_panel=NETWORK),
    ] = None,
    loss: Annotated[
        str, typer.Option(help="mse, ssim, both (alpha 0.79) or psnr.", rich_help_panel=OPTIMISER)
    ] = "both",
    steps: Annotated[
        int, typer.Option(min=1, help="Length of the whole training.", rich_help_panel=OPTIMISER)
    ] = 20_000,
    batch: Annotated[int, typer.Option(min=1, help="Patches a step.", rich_help_panel=OPTIMISER)] = 128,
    patch: Annotated[
        int, typer.Option(min=16, help="Side of a patch in pixels.", rich_help_panel=OPTIMISER)
    ] = 64,
    lr: Annotated[float, typer.Option(help="Adam's learning rate.", rich_help_panel=OPTIMISER)] = 1e-4,
    schedule: Annotated[str, typer.Option(help="cosine or constant.", rich_help_panel=OPTIMISER)] = "cosine",
    warmup: Annotated[
        int | None,
        typer.Option(
            min=0,
            help="Steps of linear warm-up; default: 200, at most a tenth of all.",
            rich_help_panel=OPTIMISER,
        ),
    ] = None,
    ema: Annotated[
        float,
        typer.Option(
            min=0, max=0.99999, help="Decay of averaged weights, 0: none.", rich_help_panel=OPTIMISER
        ),
    ] = 0.999,
    clip: Annotated[
        float, typer.Option(min=0, help="Largest gradient norm, 0: none.", rich_help_panel=OPTIMISER)
    ] = 0.5,
    frames: Annotated[
        int, typer.Option(min=1, help="Frames used of each encoded clip.", rich_help_panel=OPTIMISER)
    ] = 24,
    seed: Annotated[
        int, typer.Option(help="Equal seeds give equal trainings.", rich_help_panel=OPTIMISER)
    ] = 0,
    run: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            help="Folder of checkpoints, log and weights; runs/NAME if not given.",
            rich_help_panel=RUNNING,
        ),
    ] = None,
    name: Annotated[str | None, typer.Option(help="Name of the weights.", rich_help_panel=RUNNING)] = None,
    licence: Annotated[
        str, typer.Option(help="Licence that the weights state as their own.", rich_help_panel=RUNNING)
    ] = "",
    init: Annotated[
        str | None,
        typer.Option(
            help="Weights to start from (a name or a path); they may have fewer blocks (each is then repeated).",
            rich_help_panel=RUNNING,
        ),
    ] = None,
    teacher: Annotated[
        str | None,
        typer.Option(help="Distil from these weights (a name or a path), too.", rich_help_panel=OPTIMISER),
    ] = None,
    teacher_share: Annotated[
        float | None,
        typer.Option(
            min=0,
            max=1,
            help="The teacher's share of the target at first, 0.5 if not given; falls to 0.",
            rich_help_panel=OPTIMISER,
        ),
    ] = None,
    detector: Annotated[
        Path | None,
        typer.Option(
            metavar="ONNX",
            help="A YOLO detector that should see in restored patches what it sees in pristine ones.",
            rich_help_panel=OPTIMISER,
        ),
    ] = None,
    detector_weight: Annotated[
        float | None,
        typer.Option(
            min=0,
            help="Weight of the detector's part of the loss; 1 if not given.",
            rich_help_panel=OPTIMISER,
        ),
    ] = None,
    minutes: Annotated[
        float | None, typer.Option(help="Stop after so long, with a checkpoint.", rich_help_panel=RUNNING)
    ] = None,
    validate_every: Annotated[
        int, typer.Option(min=1, help="Steps between validations.", rich_help_panel=RUNNING)
    ] = 500,
    checkpoint_seconds: Annotated[
        float, typer.Option(min=0, help="Seconds between checkpoints.", rich_help_panel=RUNNING)
    ] = 60.0,
    device: Annotated[
        str, typer.Option(help="auto, cpu, cuda[:N] or mps.", rich_help_panel=COMPUTING)
    ] = "auto",
    precision: Annotated[
        str, typer.Option(help="auto, fp32 or bf16 (mixed).", rich_help_panel=COMPUTING)
    ] = "auto",
    compile_net: Annotated[
        bool,
        typer.Option("--compile/--no-compile", help="torch.compile the network.", rich_help_panel=COMPUTING),
    ] = False,
    allow_leaks: Annotated[
        bool,
        typer.Option(
            "--allow-leaks",
            help="Train even if validation or test clips show frames of training clips.",
            rich_help_panel=RUNNING,
        ),
    ] = False,
    tensorboard: Annotated[
        bool, typer.Option("--tensorboard", help="Write TensorBoard events too.", rich_help_panel=RUNNING)
    ] = False,
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Show tracebacks.")] = False,
) -> None:
    """Train a network on a dataset; run it again to continue where it stopped.

    Checkpoints resume exactly: a killed run loses at most the time since the last one. The weights that are best
    on the validation clips (with --detector, the last ones) are written to RUN/NAME.safetensors.
    """
    from carfix.cli.app import stderr
    from carfix.cli.progress import counted
    from carfix.errors import UsageError
    from carfix.net.catalog import SUFFIX, resolve
    from carfix.net.config import CarCnnConfig, Config, FastConfig
    from carfix.training.keeper import LOSSES_OF_STRUCTURE
    from carfix.training.processes import rank_and_world
    from carfix.training.settings import TrainSettings, auto_precision, pick_device
    from carfix.training.train import train as run_training

    config: Config
    if arch == CarCnnConfig.architecture:
        if scale is not None:
            # Without --arch fast, which was meant, it would train for days what the recipe of a fast network says.
            raise UsageError("car-cnn has no --scale: it works on whole pixels; give --arch fast, too")
        config = CarCnnConfig(features=features, blocks=blocks or CarCnnConfig.blocks)
    elif arch == FastConfig.architecture:
        config = FastConfig(
            scale=scale or FastConfig.scale, features=features, blocks=blocks or FastConfig.blocks
        )
    else:
        raise UsageError(f"--arch is car-cnn or fast, not {arch!r}")
    if teacher is None and teacher_share is not None:
        raise UsageError("--teacher-share goes with --teacher")
    if detector is None and detector_weight is not None:
        raise UsageError("--detector-weight goes with --detector")
    settings = TrainSettings(
        config=config,
        loss=loss,
        steps=steps,
        batch=batch,
        patch=patch,
        lr=lr,
        schedule=schedule,
        warmup=warmup,
        ema=ema,
        clip=clip,
        frames=frames,
        seed=seed,
        precision=auto_precision(pick_device(device)) if precision == "auto" else precision,
    )
    # The file's name, as `-m` takes it, is the weights' all the same.
    name = (name or "").removesuffix(SUFFIX) or (
        f"{arch}-{loss}" if arch == CarCnnConfig.architecture else arch
    )
    term = None
    if detector is not None:
        from carfix.quality.detection.teaching import DetectorLoss

        term = DetectorLoss(detector, weight=1.0 if detector_weight is None else detector_weight, patch=patch)
    with counted(stderr) as stage:
        result = run_training(
            dataset=dataset,
            run=run or Path("runs") / name,
            name=name,
            settings=settings,
            device=device,
            init=resolve(init) if init is not None else None,
            teacher=resolve(teacher) if teacher is not None else None,
            teacher_share=0.5 if teacher_share is None else teacher_share,
            minutes=minutes,
            validate_every=validate_every,
            checkpoint_seconds=checkpoint_seconds,
            compile_net=compile_net,
            allow_leaks=allow_leaks,
            tensorboard=tensorboard,
            term=term,
            licence=licence,
            say=lambda line: stderr.print(f"carfix: {line}", markup=False, soft_wrap=True),
            progress=stage("steps"),
            loading=stage("encodings loaded"),
        )
    if rank_and_world()[0] != 0:
        return  # the first of several processes validates, and tells
    which = "best" if term is None else "last"
    unit = "in SSIM" if loss in LOSSES_OF_STRUCTURE else "dB"
    best = (
        "no validation yet" if result.best is None else f"{which} validation gain {result.best:+.4f} {unit}"
    )
    state = "finished" if result.finished else "stopped"
    kept = "the same command goes on from here" if result.best is None else f"weights in {result.weights}"
    stderr.print(f"{state} at step {result.step} of {steps}, {best}; {kept}", markup=False, soft_wrap=True)
