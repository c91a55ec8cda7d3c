"""`carfix models`: the installed weights, from what their files say of themselves."""

import math
from pathlib import Path
from typing import Annotated, Any

import typer

EXAMPLES = """
**Examples**

`carfix models` - what is installed, and what each network gains

`carfix models runs/mine/mine.safetensors --json` - a file of your own, for scripts
"""


def register(app: typer.Typer) -> None:
    """Add the command to `app`."""
    app.command("models", epilog=EXAMPLES)(models)


def models(
    names: Annotated[
        list[str] | None,
        typer.Argument(
            help="Names or weights files to describe; default: all that are installed.", metavar="[NAME]..."
        ),
    ] = None,
    json_: Annotated[bool, typer.Option("--json", help="Write JSON to stdout.")] = False,
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Show tracebacks.")] = False,
) -> None:
    """List the networks: architecture, loss, parameters, cost, measured gain, licence, SHA-256."""
    import json
    import sys

    from rich.table import Table

    from carfix.cli.app import table_console
    from carfix.net.catalog import installed, resolve
    from carfix.quality.names import literal

    paths = [resolve(name) for name in names] if names else list(installed().values())
    found = [_described(path) for path in paths]
    if json_:
        sys.stdout.write(json.dumps({"models": found}, indent=1) + "\n")
        return
    # No box and short headings: all of it fits a terminal of 80 columns.
    table = Table(box=None, padding=(0, 1, 0, 0))
    for heading in ("name", "arch.", "loss"):
        table.add_column(heading, no_wrap=True)
    for heading in ("params", "radius", "MAC/px", "gain dB"):
        table.add_column(heading, justify="right", no_wrap=True)
    for heading in ("licence", "SHA-256"):
        table.add_column(heading, no_wrap=True)
    for model in found:
        gain = model["gains"].get("psnr")
        table.add_row(
            literal(model["name"]),
            model["architecture"],
            literal(model["loss"]),
            f"{model['parameters'] / 1000:,.0f}k",
            str(model["receptive_field_radius"]),
            f"{model['multiply_adds_per_pixel']:,.0f}",
            "-" if gain is None else f"{gain:+.2f}",
            literal(model["licence"] or "-"),
            model["sha256"][:8],
        )
    table_console().print(table if found else "no weights are installed")


def _described(path: Path) -> dict[str, Any]:
    """One model as `--json` prints it."""
    from carfix.net.checkpoint import read_description
    from carfix.net.config import multiply_adds_per_pixel, parameter_count, receptive_field_radius

    description = read_description(path)
    config = description.config
    return {
        "name": description.name,
        "path": str(path),
        "architecture": description.config.architecture,
        "loss": description.loss,
        "steps": description.steps,
        "parameters": parameter_count(config),
        "receptive_field_radius": receptive_field_radius(config),
        "multiply_adds_per_pixel": multiply_adds_per_pixel(config),
        # JSON has no NaN: what a training that failed left in its file.
        "gains": {name: gain if math.isfinite(gain) else None for name, gain in description.gains.items()},
        "training_data": description.training_data,
        "licence": description.licence,
        "sha256": description.sha256,
    }
