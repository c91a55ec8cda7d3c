"""`carfix bench`: how fast this machine restores."""

from pathlib import Path
from typing import Annotated

import typer

EXAMPLES = """
**Examples**

`carfix bench` - a made-up clip of 1280x720, half a minute

`carfix bench camera.mp4 -m fast -m runs/mine/mine.safetensors` - two networks on your own footage

`carfix bench --size 1080p --device cuda --json > bench.json` - for a script
"""

#: What people call sizes, in pixels.
SIZES = {
    "360p": (640, 360),
    "480p": (854, 480),
    "720p": (1280, 720),
    "1080p": (1920, 1080),
    "2160p": (3840, 2160),
}


def register(app: typer.Typer) -> None:
    """Add the command to `app`."""
    app.command("bench", epilog=EXAMPLES)(bench)


def bench(
    clip: Annotated[
        Path | None,
        typer.Argument(
            help="Video to measure on; default: a clip is made up.", metavar="[CLIP]", readable=False
        ),
    ] = None,
    model: Annotated[
        list[str] | None,
        typer.Option("--model", "-m", help="Network by name or path, repeatable; default: auto."),
    ] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda[:N], mps or vulkan.")] = "auto",
    precision: Annotated[str, typer.Option(help="auto, fp32, bf16 or fp16.")] = "auto",
    tile: Annotated[
        int | None, typer.Option("--tile", help="Side of the windows that the network sees, in pixels.")
    ] = None,
    size: Annotated[
        str | None,
        typer.Option(
            metavar="WxH",
            help=f"Size of the made-up clip, 1280x720 or one of {', '.join(SIZES)}; default: 720p.",
        ),
    ] = None,
    preset: Annotated[
        str | None,
        typer.Option(
            "--preset", "-preset", help="x264's, for encoding and for whole restores; default: medium."
        ),
    ] = None,
    hwaccel: Annotated[
        str,
        typer.Option(
            "--hwaccel", "-hwaccel", metavar="KIND[:DEVICE]", help="Decode on a GPU, as restore does."
        ),
    ] = "none",
    seconds: Annotated[float, typer.Option(help="Time for each stage, about.")] = 3.0,
    json_: Annotated[bool, typer.Option("--json", help="Write JSON to stdout.")] = False,
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Show tracebacks.")] = False,
) -> None:
    """Measure this machine: decoding, inference, encoding and whole restores, beside its ceilings and rivals.

    Everything is measured in interleaved rounds of the same run; medians are shown. The rivals are the same network
    in eager PyTorch and in onnxruntime, and FFmpeg's spp.
    """
    import json
    import sys

    from carfix.cli.app import stderr, table_console
    from carfix.cli.progress import counted
    from carfix.errors import UsageError
    from carfix.progress import silent
    from carfix.quality.bench import run
    from carfix.quality.bench.tables import bench_tables, notes

    if clip is not None and size is not None:
        raise UsageError("--size is the made-up clip's; a clip has its own")
    with counted(stderr) as stage:
        update = stage("measurements")
        result = run.bench(
            clip=clip,
            size=run.SIZE if size is None else _size(size),
            models=model or ["auto"],
            device=device,
            precision=precision,
            tile=tile,
            preset=preset,
            hwaccel=hwaccel,
            seconds=seconds,
            # A bench is short: in a log, only its result is of interest.
            progress=update if stderr.is_terminal else silent,
        )
    if json_:
        sys.stdout.write(json.dumps(result.to_json(), indent=1) + "\n")
    else:
        console = table_console()
        for table in bench_tables(result):
            console.print(table)
            console.print()
    for line in notes(result):
        stderr.print(line, markup=False, soft_wrap=True)


def _size(text: str) -> tuple[int, int]:
    """Raises `UsageError`."""
    from carfix.cli.values import size_pair
    from carfix.errors import UsageError

    if text in SIZES:
        return SIZES[text]
    width, height = size_pair(text)
    if min(width, height) < 0:
        raise UsageError(f"--size is WIDTHxHEIGHT or one of {', '.join(SIZES)}, not {text!r}")
    return width, height
