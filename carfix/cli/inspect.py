"""`carfix inspect`: a line a file of an archive."""

from pathlib import Path
from typing import Annotated

import typer

EXAMPLES = """
**Examples**

`carfix inspect archive/*.mp4` - which files are worth restoring?

`carfix inspect archive/*.mp4 --json > archive.json` - the same for a script
"""


def register(app: typer.Typer) -> None:
    """Add the command to `app`."""
    app.command("inspect", epilog=EXAMPLES)(inspect)


def inspect(
    # Whether a file can be read is found one by one: the others are looked at nevertheless.
    files: Annotated[list[Path], typer.Argument(help="Video files.", metavar="FILE...", readable=False)],
    model: Annotated[str, typer.Option("--model", "-m", help="Network to predict for.")] = "auto",
    stream: Annotated[
        str | None,
        typer.Option(
            "--stream",
            metavar="N|v:N",
            help="Which of several videos is looked at: its number in the file, or v:N among the videos.",
        ),
    ] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda[:N], mps or vulkan.")] = "auto",
    precision: Annotated[str, typer.Option(help="auto, fp32, bf16 or fp16.")] = "auto",
    json_: Annotated[bool, typer.Option("--json", help="Write JSON to stdout.")] = False,
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Show tracebacks.")] = False,
) -> None:
    """Tell which files are worth restoring: codec, bits a pixel, quantizer, predicted gain, time it takes.

    Nothing is restored; a sample of each file's frames is decoded.
    """
    import json
    import sys

    from carfix.cli.app import report_error, stderr, table_console
    from carfix.cli.progress import counted
    from carfix.errors import EXIT_FAILED, CarfixError
    from carfix.quality.gain import installed_fit
    from carfix.quality.inspect import Inspection, inspect_file, measure_speed
    from carfix.quality.inspect_table import inspection_notes, inspection_table
    from carfix.quality.methods import open_restored, released
    from carfix.video.choice import check_stream

    check_stream(stream)
    restored = open_restored(model, device=device, precision=precision)
    description = restored.model.description
    fit = installed_fit(description.name, description.sha256)
    with released(restored):
        speed = measure_speed(restored)
    found: list[Inspection] = []
    with counted(stderr) as stage:
        progress = stage("files")
        for number, path in enumerate(files, 1):
            try:
                found.append(inspect_file(path, stream=stream, fit=fit, seconds_per_pixel=speed))
            except CarfixError as error:
                report_error(error, verbose=verbose)
            progress(number, len(files), path.name)
    if json_:
        document = {"model": restored.name, "files": [inspection.to_json() for inspection in found]}
        sys.stdout.write(json.dumps(document, indent=1) + "\n")
    elif found:
        table_console().print(inspection_table(found))
        for line in inspection_notes(found, restored.name, fit):
            stderr.print(line, markup=False, soft_wrap=True)
    if len(found) < len(files):
        raise typer.Exit(EXIT_FAILED)
