"""`carfix detect`: a detector's boxes before and after restoring."""

from pathlib import Path
from typing import Annotated

import typer

EXAMPLES = """
**Examples**

`carfix detect in.mp4 out.mp4 --detector yolox.onnx` - boxes on the decoded frames beside boxes on the restored ones

`carfix detect in.mp4 --detector yolox.onnx --frames 100 --json` - the counts alone, for a script

`carfix detect in.mp4 --detector yolox.onnx --reference pristine.mp4 -m fast` - nearer to the pristine findings?
"""


def register(app: typer.Typer) -> None:
    """Add the command to `app`."""
    app.command("detect", epilog=EXAMPLES)(detect)


def detect(
    clip: Annotated[Path, typer.Argument(help="Video to look at.", metavar="CLIP", readable=False)],
    output: Annotated[
        Path | None,
        typer.Argument(
            help="Video to write: decoded left, restored right, without sound.",
            metavar="[OUT]",
            show_default=False,
            readable=False,
        ),
    ] = None,
    detector: Annotated[
        Path,
        typer.Option(
            "--detector",
            help="YOLO detector: an ONNX file of YOLOX or YOLOv8/11.",
            show_default=False,
            readable=False,
        ),
    ] = ...,  # type: ignore[assignment]  # required
    model: Annotated[str, typer.Option("--model", "-m", help="Network by name or path.")] = "auto",
    score: Annotated[float, typer.Option(help="Count and draw objects with this score or more.")] = 0.3,
    reference: Annotated[
        Path | None,
        typer.Option(
            "--reference",
            help="The pristine video: measure the agreement with its findings (mAP).",
            readable=False,
        ),
    ] = None,
    frames: Annotated[int | None, typer.Option(min=1, help="Look at the first frames alone.")] = None,
    stream: Annotated[
        str | None,
        typer.Option(
            "--stream",
            metavar="N|v:N",
            help="Which of several videos is looked at: its number in the file, or v:N among the videos. "
            "Of a reference with a single video it is that one.",
        ),
    ] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda[:N], mps or vulkan.")] = "auto",
    precision: Annotated[str, typer.Option(help="auto, fp32, bf16 or fp16.")] = "auto",
    strength: Annotated[
        str,
        typer.Option(help="Share of the network's correction, 0 to 2, or auto: as carfix restore takes it."),
    ] = "auto",
    overwrite: Annotated[
        bool, typer.Option("-y/-n", "--overwrite/--no-overwrite", help="Replace an output that exists.")
    ] = False,
    json_: Annotated[bool, typer.Option("--json", help="Write JSON to stdout.")] = False,
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Show tracebacks.")] = False,
) -> None:
    """Run an object detector on the decoded and on the restored frames, side by side.

    Detections are counted by class. Needs `pip install "carfix[detect]"`.
    """
    import json
    import sys

    from carfix.cli.app import stderr, table_console
    from carfix.cli.progress import counted
    from carfix.quality.detection.detect import detect_video
    from carfix.quality.detection.detector import Detector
    from carfix.quality.detection.tables import detected_json, detected_notes, detected_table
    from carfix.quality.methods import open_restored
    from carfix.restore.engine import check_device
    from carfix.restore.strength import parse_strength
    from carfix.video.choice import check_stream

    check_stream(stream)
    check_device(device, precision)
    yolo = Detector(detector, device=device)
    restored = open_restored(model, device=device, precision=precision, strength=parse_strength(strength))
    with counted(stderr) as stage:
        detected = detect_video(
            source=clip,
            detector=yolo,
            restored=restored,
            output=output,
            reference=reference,
            score=score,
            frames=frames,
            stream=stream,
            overwrite=overwrite,
            progress=stage("frames"),
        )
    if json_:
        sys.stdout.write(json.dumps(detected_json(detected), indent=1) + "\n")
    else:
        table_console().print(detected_table(detected))
    for line in detected_notes(detected):
        stderr.print(line, markup=False, soft_wrap=True)
