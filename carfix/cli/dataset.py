"""`carfix dataset`: pristine clips to the paper's variants."""

from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape

from carfix.cpu import cores

SOURCES_HELP = "Video files, folders of frames, photographs, or folders of these."
EXAMPLES = """
**Examples**

`carfix dataset clips/ data --size 910x512` - the paper's 12 variants of each clip

`carfix dataset photos/ data --stills --size 640x-2 --draw 6 --no-grid` - photographs as short clips

`carfix dataset clips/ data --size 640x-2 --draw 6 --no-grid --burn-in` - beside them: the same with text in the picture

`carfix dataset clips/ corpus --size 640x-2 --pack 12` - a corpus that travels; `carfix dataset corpus data` unpacks it

`carfix dataset tests/*.mp4 data --split test --crf 23,29 --maxrate none` - two levels without a cap
"""


def register(app: typer.Typer) -> None:
    """Add the command to `app`."""
    app.command("dataset", epilog=EXAMPLES)(dataset)


def dataset(
    paths: Annotated[
        list[Path],
        typer.Argument(
            metavar="SRC... OUT", readable=False, help=f"{SOURCES_HELP} Last, the dataset's folder."
        ),
    ],
    size: Annotated[
        str | None, typer.Option(help="Scale the pristine clips before encoding: WxH, one side may be -2.")
    ] = None,
    crf: Annotated[str, typer.Option(help="CRFs of the grid.")] = "29,35,41,47",
    maxrate: Annotated[
        str, typer.Option(help="Caps of the grid, e.g. 2000k,1M or none; bufsize is twice the cap.")
    ] = "2M,1500k,1M",
    preset: Annotated[str, typer.Option(help="x264 presets of the grid.")] = "medium",
    profile: Annotated[
        str, typer.Option(help="x264 profiles of the grid; auto leaves the choice to x264.")
    ] = "auto",
    grid: Annotated[
        bool, typer.Option("--grid/--no-grid", help="Encode the grid of all these settings.")
    ] = True,
    draw: Annotated[
        int, typer.Option(min=0, help="Further encodings a clip, drawn from many presets and codecs.")
    ] = 0,
    scale_caps: Annotated[
        bool, typer.Option("--scale-caps/--no-scale-caps", help="Scale the caps by pixel rate below 1080p30.")
    ] = True,
    burn_in: Annotated[
        bool,
        typer.Option(
            "--burn-in/--no-burn-in",
            help="Write clocks, names, boxes and lines into the clips, pristine and encoded, or show a screen instead.",
        ),
    ] = False,
    start: Annotated[int, typer.Option(min=0, help="First frame to take of each clip.")] = 0,
    frames: Annotated[int, typer.Option(min=1, help="Frames to take of each clip, at most.")] = 100,
    stills: Annotated[
        bool,
        typer.Option(
            "--stills/--no-stills", help="Pictures in folders are photographs, each a clip, not frames."
        ),
    ] = False,
    still_frames: Annotated[int, typer.Option(min=2, help="Length of a clip made from a photograph.")] = 12,
    split: Annotated[
        str, typer.Option(help="auto (by the clip's name: 80/10/10), train, val or test.")
    ] = "auto",
    licence: Annotated[
        str, typer.Option(help="Licence note that the manifest keeps for these sources.")
    ] = "",
    pack: Annotated[
        int | None,
        typer.Option(
            metavar="CRF",
            min=0,
            max=30,
            help="Make no variants but nearly lossless luma files, 12 is good: a corpus that travels.",
        ),
    ] = None,
    jobs: Annotated[
        int, typer.Option("--jobs", "-j", min=1, help="Clips encoded at once.", show_default="all cores")
    ] = len(cores()),
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Show tracebacks.")] = False,
) -> None:
    """Build the paper's compressed variants of pristine clips, with a manifest.

    Each clip is scaled first (never after encoding, so that the block grid survives), kept losslessly, and
    encoded with x264 at every CRF and cap. Running it again only makes what is missing.
    """
    from carfix.cli.app import stderr
    from carfix.cli.progress import counted
    from carfix.cli.values import integers, rates, size_pair, split_name, words
    from carfix.errors import EXIT_FAILED, UsageError
    from carfix.training.dataset import build_dataset
    from carfix.training.encoding import paper_grid
    from carfix.training.recipe import Recipe

    if len(paths) < 2:
        raise UsageError(
            "dataset needs at least one source and the dataset's folder: carfix dataset SRC... OUT"
        )
    profiles = [None if name == "auto" else name for name in words(profile)]
    encodings = (
        paper_grid(integers(crf, "--crf"), rates(maxrate, "--maxrate"), words(preset), profiles)
        if grid
        else []
    )
    recipe = Recipe(
        encodings=encodings,
        drawn=draw,
        size=size_pair(size) if size else None,
        start=start,
        frames=frames,
        still_frames=still_frames,
        stills=stills,
        scale_caps=scale_caps,
        licence=licence,
        split=split_name(split),
        burn_in=burn_in,
        pack=pack,
    )
    with counted(stderr) as stage:
        report = build_dataset(
            sources=paths[:-1], output=paths[-1], recipe=recipe, jobs=jobs, progress=stage("clips")
        )
    for source, reason in sorted(report.failed.items()):
        stderr.print(f"carfix: left out {escape(source)}: {escape(reason)}", soft_wrap=True)
    if report.interlaced:
        stderr.print(
            f"carfix: {len(report.interlaced)} clips are interlaced, {escape(report.interlaced[0])} among them: their "
            "frames show two moments, line by line, and networks learn that, while restore shows them fields; "
            "deinterlace such video before (ffmpeg -i IN -vf bwdif -c:v ffv1 OUT.mkv)",
            soft_wrap=True,
        )
    if report.damaged:
        stderr.print(
            f"carfix: {len(report.damaged)} clips have damaged frames, {escape(report.damaged[0])} among them: what "
            "decoders put there counts as pristine; give whole files, or a --start and --frames without them",
            soft_wrap=True,
        )
    if report.dropped:
        variants = sum(map(len, report.dropped.values()))
        stderr.print(
            f"carfix: {variants} variants of {len(report.dropped)} clips were removed: they were of another --size, "
            "--start or --frames, of another source, or with text in other fonts, and this run did not ask for them",
            soft_wrap=True,
        )
    clips = "clip" if len(report.built) == 1 else "clips"
    stderr.print(f"{len(report.built)} {clips} built, {len(report.kept)} kept, {len(report.failed)} failed")
    if report.failed:
        raise typer.Exit(EXIT_FAILED)
