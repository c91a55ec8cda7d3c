"""`carfix evaluate`: the paper's tables over a dataset."""

from pathlib import Path
from typing import Annotated

import typer

EXAMPLES = """
**Examples**

`carfix evaluate data` - decoded, spp, spp-best and every installed network on the val split

`carfix evaluate data -m car-cnn -m runs/mine/mine.safetensors --no-spp` - two networks alone

`carfix evaluate data --detector yolox.onnx -m fast` - does a detector find more after restoring?

`carfix evaluate data --split test --markdown > tables.md` - the tables for a paper
"""


def register(app: typer.Typer) -> None:
    """Add the command to `app`."""
    app.command("evaluate", epilog=EXAMPLES)(evaluate)


def evaluate(
    dataset: Annotated[
        Path, typer.Argument(metavar="DATASET", readable=False, help="Folder that `carfix dataset` built.")
    ],
    model: Annotated[
        list[str] | None,
        typer.Option(
            "--model",
            "-m",
            help="Network by name or path, repeatable; default: all installed; none: no network.",
        ),
    ] = None,
    split: Annotated[str, typer.Option(help="val, test, train or all.")] = "val",
    variant: Annotated[
        list[str] | None, typer.Option(help="Take this variant only, e.g. crf29-2000k; repeatable.")
    ] = None,
    spp: Annotated[bool, typer.Option("--spp/--no-spp", help="Measure FFmpeg's spp.")] = True,
    spp_best: Annotated[
        bool | None,
        typer.Option(
            "--spp-best/--no-spp-best",
            help="Search spp's best constant quantizer for each variant; default: as --spp.",
            show_default=False,
        ),
    ] = None,
    spp_quality: Annotated[int, typer.Option(help="spp's quality, 0 to 6.")] = 3,
    detector: Annotated[
        Path | None,
        typer.Option(
            "--detector",
            help="YOLO detector (ONNX): also measure how far its findings agree with those on the pristine frames.",
            readable=False,
        ),
    ] = None,
    frames: Annotated[
        int | None, typer.Option(min=1, help="Measure this many frames of each clip, at most.")
    ] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda[:N], mps or vulkan.")] = "auto",
    precision: Annotated[str, typer.Option(help="auto, fp32, bf16 or fp16.")] = "auto",
    ensemble: Annotated[
        int,
        typer.Option(
            help="Orientations in which the networks see each picture, 1, 2 or 4: as carfix restore."
        ),
    ] = 1,
    strength: Annotated[
        str,
        typer.Option(help="Share of the networks' correction, 0 to 2, or auto: as carfix restore takes it."),
    ] = "auto",
    cache: Annotated[
        bool, typer.Option("--cache/--no-cache", help="Keep measurements in the dataset's folder.")
    ] = True,
    json_: Annotated[bool, typer.Option("--json", help="Write JSON to stdout.")] = False,
    csv: Annotated[bool, typer.Option("--csv", help="Write CSV: a row a method, variant and clip.")] = False,
    markdown: Annotated[bool, typer.Option("--markdown", help="Write the tables as Markdown.")] = False,
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Show tracebacks.")] = False,
) -> None:
    """Measure PSNR and SSIM of networks and of FFmpeg's spp on a dataset.

    Rebuilds Tables 1 and 2 of the CAR-CNN paper, with --detector also its question whether a detector finds more
    after restoring. A rerun computes only what changed.
    """
    import json
    import sys

    from carfix.cli.app import stderr, table_console
    from carfix.cli.progress import counted
    from carfix.errors import UsageError
    from carfix.net.catalog import installed
    from carfix.quality import tables
    from carfix.quality.detection.detector import Detector
    from carfix.quality.evaluate import evaluate_dataset
    from carfix.quality.methods import open_several
    from carfix.quality.metrics import metrics_device
    from carfix.quality.spp import PostFilter
    from carfix.restore.engine import check_device
    from carfix.restore.engine.ensemble import check_ensemble
    from carfix.restore.strength import parse_strength

    if json_ + csv + markdown > 1:
        raise UsageError("--json, --csv and --markdown all write to stdout: take one of them")
    if split not in ("train", "val", "test", "all"):
        raise UsageError(f"--split is train, val, test or all, not {split!r}")
    names = list(installed()) if model is None else [name for name in model if name != "none"]
    share = parse_strength(strength)
    check_ensemble(ensemble)
    check_device(device, precision)
    models = open_several(names, device=device, precision=precision, ensemble=ensemble, strength=share)
    yolo = Detector(detector, device=device) if detector else None
    post_filter = PostFilter("spp", quality=spp_quality)
    with counted(stderr) as stage:
        evaluation = evaluate_dataset(
            dataset=dataset,
            models=models,
            split=split,
            spp=post_filter if spp else None,
            spp_best=post_filter if (spp if spp_best is None else spp_best) else None,
            frames=frames,
            variants=variant or (),
            detector=yolo,
            device=metrics_device(device),
            cache=cache,
            progress=stage("frames"),
        )
    if json_:
        sys.stdout.write(json.dumps(tables.evaluation_json(evaluation), indent=1) + "\n")
    elif csv:
        sys.stdout.write(tables.evaluation_csv(evaluation))
    elif markdown:
        sys.stdout.write(tables.evaluation_markdown(evaluation))
    else:
        tables.print_evaluation(evaluation, table_console())
