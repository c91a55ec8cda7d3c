"""`carfix inspect`: a line a file of an archive."""

from pathlib import Path
from typing import Annotated

import typer

#: Stands behind the level of a video that was encoded again.
AGAIN = "*"

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
    from datetime import timedelta

    from rich.table import Table

    from carfix.cli.app import report_error, stderr, table_console
    from carfix.cli.progress import counted
    from carfix.errors import EXIT_FAILED, CarfixError
    from carfix.quality.gain import installed_fit
    from carfix.quality.inspect import Inspection, inspect_file, measure_speed
    from carfix.quality.methods import open_restored, released
    from carfix.quality.names import literal
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
    else:
        table = Table(box=None, padding=(0, 1, 0, 0))
        table.add_column("file", overflow="fold")
        table.add_column("codec")
        for heading in ("size", "fps", "bits/px", "quantizer", "level", "gain dB", "time"):
            table.add_column(heading, justify="right", no_wrap=True)
        for each in found:
            gain = "-"
            if each.predicted_gain is not None:
                gain = f"{each.predicted_gain:+.2f} ±{each.gain_error:.2f}"
            table.add_row(
                literal(str(each.path)),
                each.codec,
                f"{each.width}x{each.height}",
                "-" if each.fps is None else f"{each.fps:.4g}",
                "-" if each.bits_per_pixel is None else f"{each.bits_per_pixel:.4f}",
                "-" if each.mean_quantizer is None else f"{each.mean_quantizer:.1f}",
                "-" if each.level is None else f"{each.level:.0f}{AGAIN if each.encoded_again else ''}",
                gain,
                "-" if each.seconds is None else str(timedelta(seconds=round(each.seconds))),
            )
        if not found:
            raise typer.Exit(EXIT_FAILED)
        table_console().print(table)
        for each in found:
            if note := each.chosen.note():
                stderr.print(note, markup=False, soft_wrap=True)
        note = "" if fit else f"; no prediction of the gain was fitted for these weights of {restored.name}"
        if any(each.encoded_again for each in found):
            stderr.print(
                f"{AGAIN}: looks compressed harder than its stream tells: encoded again", soft_wrap=True
            )
        stderr.print(f"gain and time by {restored.name}, inference alone{note}", markup=False, soft_wrap=True)
    if len(found) < len(files):
        raise typer.Exit(EXIT_FAILED)
