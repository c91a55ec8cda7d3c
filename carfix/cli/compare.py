"""`carfix compare`: candidates against a reference."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from carfix.quality.methods import Restored

#: What is measured unasked.
METRIC = "psnr,ssim"

EXAMPLES = """
**Examples**

`carfix compare pristine.mp4 decoded.mp4 restored.mp4` - PSNR and SSIM of two files

`carfix compare pristine.mp4 camera.mp4 --spp --spp-best --model fast` - FFmpeg's spp and a network as rivals

`carfix compare pristine.mp4 camera.mp4 restored.mp4 --html report.html` - a page to look at

`carfix compare --no-reference camera.mp4 --html look.html` - is this file worth restoring?

`carfix compare pristine.mp4 camera.mp4 --metric psnr,ssim,vmaf --json > numbers.json`
"""


def register(app: typer.Typer) -> None:
    """Add the command to `app`."""
    app.command("compare", epilog=EXAMPLES)(compare)


def compare(
    files: Annotated[
        list[Path],
        typer.Argument(
            help="The pristine video, then those to measure.", metavar="REF CAND...", readable=False
        ),
    ],
    metric: Annotated[
        str, typer.Option("--metric", help="Any of psnr, ssim, vmaf, separated by commas.")
    ] = METRIC,
    spp: Annotated[bool, typer.Option("--spp", help="Add each candidate behind FFmpeg's spp.")] = False,
    spp_qp: Annotated[
        int | None,
        typer.Option("--spp-qp", help="Constant quantizer for --spp, --fspp, --uspp; alone it means --spp."),
    ] = None,
    spp_quality: Annotated[
        int | None, typer.Option("--spp-quality", help="Quality of the filters; default: FFmpeg's own.")
    ] = None,
    spp_best: Annotated[
        bool, typer.Option("--spp-best", help="Add spp with the constant quantizer of the highest PSNR.")
    ] = False,
    fspp: Annotated[bool, typer.Option("--fspp", help="Add each candidate behind FFmpeg's fspp.")] = False,
    uspp: Annotated[bool, typer.Option("--uspp", help="Add each candidate behind FFmpeg's uspp.")] = False,
    model: Annotated[
        list[str] | None,
        typer.Option("--model", "-m", help="Add each candidate restored by this network; repeatable."),
    ] = None,
    skip: Annotated[int, typer.Option(min=0, help="Leave out the first frames of every file.")] = 0,
    frames: Annotated[int | None, typer.Option(min=1, help="Compare this many frames at most.")] = None,
    shortest: Annotated[
        bool, typer.Option("--shortest", help="Compare the frames that both have, whatever else there is.")
    ] = False,
    align_start: Annotated[
        bool, typer.Option("--align-start", help="Take the first frames as simultaneous.")
    ] = False,
    scale: Annotated[
        bool, typer.Option("--scale", help="Scale candidates of another size to the reference's.")
    ] = False,
    stream: Annotated[
        str | None,
        typer.Option(
            "--stream",
            metavar="N|v:N",
            help="Which of several videos is measured, in every file: its number there, or v:N among the videos. "
            "Of a file with a single video it is that one.",
        ),
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
    json_: Annotated[bool, typer.Option("--json", help="Write JSON to stdout.")] = False,
    csv: Annotated[bool, typer.Option("--csv", help="Write CSV to stdout: a row a frame.")] = False,
    no_reference: Annotated[
        bool,
        typer.Option(
            "--no-reference",
            help="There is no pristine video: show quantizers, and blockiness before and after a network.",
        ),
    ] = False,
    html: Annotated[
        Path | None,
        typer.Option("--html", help="Write a page with curves and pictures to this file.", readable=False),
    ] = None,
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Show tracebacks.")] = False,
) -> None:
    """Measure how close videos are to a reference: PSNR, SSIM and VMAF, frame by frame.

    Frames are paired by presentation time. FFmpeg's post-processing and carfix's networks can be added as
    further candidates without encoding anything.
    """
    import json
    import sys

    from carfix.cli.app import stderr, table_console
    from carfix.cli.progress import counted
    from carfix.errors import UsageError
    from carfix.quality import compare_tables
    from carfix.quality.compare import compare_videos
    from carfix.quality.methods import Filtered, Method, open_restored, open_several
    from carfix.quality.report.page import write_report
    from carfix.quality.report.place import check_page
    from carfix.quality.results import parse_metrics
    from carfix.quality.spp import FilterName, PostFilter
    from carfix.restore.engine import check_device
    from carfix.restore.engine.ensemble import check_ensemble
    from carfix.restore.strength import parse_strength
    from carfix.video.choice import check_stream

    if json_ and csv:
        raise UsageError("--json and --csv both write to stdout: take one of them")
    share = parse_strength(strength)
    check_ensemble(ensemble)
    check_device(device, precision)
    if html is not None:
        check_page(html, files)
    if no_reference:
        if csv or (html is not None and len(files) > 1) or len(model or ()) > 1:
            raise UsageError(
                "--no-reference goes without --csv, with one -m at most, and --html with one file"
            )
        ignored = {
            "--metric": metric != METRIC,
            "--spp": spp,
            "--spp-qp": spp_qp is not None,
            "--spp-quality": spp_quality is not None,
            "--spp-best": spp_best,
            "--fspp": fspp,
            "--uspp": uspp,
            "--shortest": shortest,
            "--align-start": align_start,
            "--scale": scale,
        }
        if given := [option for option, is_given in ignored.items() if is_given]:
            raise UsageError(f"--no-reference compares with nothing: leave {', '.join(given)} out")
        network = open_restored(
            (model or ["auto"])[0], device=device, precision=precision, ensemble=ensemble, strength=share
        )
        _assess(files, network, skip, frames, stream, html, json_, verbose)
        return
    if len(files) < 2:
        raise UsageError("compare needs a reference and a candidate: carfix compare REF CAND...")
    metrics = parse_metrics(metric)
    check_stream(stream)
    if spp_quality is not None and not (spp or spp_best or fspp or uspp or spp_qp is not None):
        raise UsageError("--spp-quality is for a filter: add --spp, --spp-best, --fspp or --uspp")
    asked: list[tuple[FilterName, bool]] = [("fspp", fspp), ("uspp", uspp)]
    asked.insert(0, ("spp", spp or (spp_qp is not None and not (fspp or uspp))))
    methods: list[Method] = [
        Filtered(PostFilter(name, quality=spp_quality, quantizer=spp_qp)) for name, wanted in asked if wanted
    ]
    methods += open_several(
        model or (), device=device, precision=precision, ensemble=ensemble, strength=share
    )
    with counted(stderr) as stage:
        comparison = compare_videos(
            reference=files[0],
            candidates=files[1:],
            methods=methods,
            spp_best=PostFilter("spp", quality=spp_quality) if spp_best else None,
            vmaf="vmaf" in metrics,
            skip=skip,
            frames=frames,
            shortest=shortest,
            align_start=align_start,
            scale=scale,
            stream=stream,
            device=device,
            progress=stage("frames"),
        )
    if json_:
        sys.stdout.write(json.dumps(compare_tables.comparison_json(comparison), indent=1) + "\n")
    elif csv:
        sys.stdout.write(compare_tables.comparison_csv(comparison))
    else:
        table_console().print(*compare_tables.comparison_tables(comparison, metrics), sep="\n")
    for line in compare_tables.notes(comparison):
        stderr.print(line, markup=False, soft_wrap=True)
    if html is not None:
        sys.stdout.flush()  # the numbers are there whatever becomes of the page
        write_report(html, comparison, metrics)


def _assess(
    files: list[Path],
    restored: "Restored",
    skip: int,
    frames: int | None,
    stream: str | None,
    html: Path | None,
    json_: bool,
    verbose: bool,
) -> None:
    """`compare --no-reference`; a file that cannot be read does not keep it from the others."""
    import json
    import sys

    from carfix.cli.app import report_error, stderr, table_console
    from carfix.cli.progress import counted
    from carfix.errors import EXIT_FAILED, CarfixError
    from carfix.quality.methods import released
    from carfix.quality.noreference import (
        Assessment,
        assess_video,
        assessment_notes,
        assessments_json,
        assessments_table,
    )
    from carfix.quality.reader import wanted_range
    from carfix.quality.report.noreference import write_noreference_report
    from carfix.video.choice import check_stream

    check_stream(stream)
    found: list[Assessment] = []
    with counted(stderr) as stage, released(restored):
        for path in files:
            try:
                found.append(
                    assess_video(
                        path,
                        restored,
                        wanted=wanted_range(skip, frames),
                        stream=stream,
                        progress=stage(f"samples of {path.name}"),
                    )
                )
            except CarfixError as error:
                report_error(error, verbose=verbose)
    if json_:
        sys.stdout.write(json.dumps(assessments_json(found), indent=1) + "\n")
    elif found:
        table_console().print(assessments_table(found))
    for assessment in found:
        for line in assessment_notes(assessment):
            stderr.print(line, markup=False, soft_wrap=True)
    if html is not None and found:
        sys.stdout.flush()
        write_noreference_report(html, found[0])
    if len(found) < len(files):
        raise typer.Exit(EXIT_FAILED)
