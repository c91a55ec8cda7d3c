"""`carfix export`: a network as ONNX, for other programs."""

from typing import Annotated

import typer

EXAMPLES = """
**Examples**

`carfix export fast fast.onnx` - for VapourSynth (vs-mlrt), OpenVINO, TensorRT, onnxruntime

`carfix export -y runs/mine/mine.safetensors mine.onnx` - a network of your own
"""


def register(app: typer.Typer) -> None:
    """Add the command to `app`."""
    app.command("export", epilog=EXAMPLES)(export)


def export(
    name: Annotated[
        str, typer.Argument(help="Name of installed weights (see carfix models), or a file.", metavar="NAME")
    ],
    output: Annotated[str, typer.Argument(help="File to write.", metavar="OUT.onnx")],
    overwrite: Annotated[
        bool, typer.Option("-y/-n", "--overwrite/--no-overwrite", help="Replace an output that exists.")
    ] = False,
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Show tracebacks.")] = False,
) -> None:
    """Write a network as ONNX.

    Input `luma` and output `restored` are float32 [batch, 1, height, width] in [0, 1], the luma code over the largest
    code of its bit depth, limited range or full as the video is. Sizes are free; height and width are multiples of what
    the command prints. Name, SHA-256, licence and the overlap that tiles need stand in the file's metadata.
    """
    from carfix.cli.app import stderr
    from carfix.cli.values import output_path_of
    from carfix.errors import UsageError
    from carfix.net.catalog import load_model
    from carfix.net.config import margin
    from carfix.net.export import export_onnx
    from carfix.restore.pipe_reader import PIPE
    from carfix.restore.place import check_place

    path = output_path_of(output)
    if path == PIPE:
        raise UsageError("export writes a file, not to stdout: name it, as in fast.onnx")
    check_place(path, overwrite=overwrite, parents=False)
    model = load_model(name)
    export_onnx(model=model, output=path, overwrite=overwrite)
    config = model.config
    stderr.print(
        f"{path}: {model.description.name}, luma in [0, 1], height and width multiples of {config.scale}, "
        f"tiles overlap by {margin(config)} pixels a side",
        markup=False,
        soft_wrap=True,
    )
