"""`carfix restore`: compressed video in, restored video out, everything else kept."""

import sys
from typing import Annotated, Any

import typer

VIDEO, AUDIO, RANGE = "Video", "Other streams and container", "Range"
MODEL, WORK, MANY = "Model", "Work", "Many files"

EXAMPLES = """
**Examples**

`carfix restore in.mp4 out.mp4` - restore with the default model, x264 at CRF 17, everything else copied

`carfix restore -y in.mp4 -c:v libx265 -crf 20 -preset slow out.mkv` - the options that FFmpeg users know

`carfix restore camera.ts out.mkv -ss 10:00 -t 90` - a minute and a half from the tenth minute on

`carfix restore -r archive restored --jobs 2 --log-json > log.jsonl` - a tree of files, two at a time

`ffmpeg -i in.mp4 -c copy -f nut - | carfix restore - - -f y4m | detector` - through pipes, as y4m, NUT or any
container that needs no seeking (without `-c copy` FFmpeg would encode the video anew, and badly)

`carfix restore in.avi out.mp4 -c:a aac` - encode the sound too, where the container cannot hold it
"""


def register(app: typer.Typer) -> None:
    """Add the command to `app`."""
    app.command("restore", epilog=EXAMPLES)(restore)


def restore(
    names: Annotated[
        list[str],
        typer.Argument(metavar="IN... OUT", help="Videos, or folders with -r; last, the output."),
    ],
    codec: Annotated[
        str, typer.Option("-c:v", "--video-codec", help="Video encoder.", rich_help_panel=VIDEO)
    ] = "libx264",
    crf: Annotated[
        float | None,
        typer.Option(
            "-crf",
            "--crf",
            help="Constant quality; 17 unless another rate control is asked for.",
            rich_help_panel=VIDEO,
        ),
    ] = None,
    preset: Annotated[
        str | None,
        typer.Option("-preset", "--preset", help="The encoder's preset.", rich_help_panel=VIDEO),
    ] = None,
    tune: Annotated[
        str | None, typer.Option("-tune", "--tune", help="The encoder's tuning.", rich_help_panel=VIDEO)
    ] = None,
    bitrate: Annotated[
        str | None,
        typer.Option("-b:v", "--video-bitrate", help="Average bit rate, e.g. 2M.", rich_help_panel=VIDEO),
    ] = None,
    maxrate: Annotated[
        str | None,
        typer.Option(
            "-maxrate", "--maxrate", help="Largest bit rate; needs -bufsize.", rich_help_panel=VIDEO
        ),
    ] = None,
    bufsize: Annotated[
        str | None,
        typer.Option("-bufsize", "--bufsize", help="Size of the rate buffer.", rich_help_panel=VIDEO),
    ] = None,
    gop: Annotated[
        int | None,
        typer.Option("-g", "--gop", min=0, help="Frames between keyframes, at most.", rich_help_panel=VIDEO),
    ] = None,
    pix_fmt: Annotated[
        str | None,
        typer.Option(
            "-pix_fmt", "--pix-fmt", help="Pixel format; the input's if not given.", rich_help_panel=VIDEO
        ),
    ] = None,
    encoder_option: Annotated[
        list[str] | None,
        typer.Option(
            "-x",
            "--encoder-option",
            metavar="KEY=VALUE",
            help="Any other option of the encoder; may be repeated.",
            rich_help_panel=VIDEO,
        ),
    ] = None,
    audio: Annotated[
        str,
        typer.Option(
            "-c:a", "--audio-codec", help="copy, none, or an encoder such as aac.", rich_help_panel=AUDIO
        ),
    ] = "copy",
    audio_bitrate: Annotated[
        str | None,
        typer.Option(
            "-b:a", "--audio-bitrate", help="Bit rate of encoded sound, e.g. 128k.", rich_help_panel=AUDIO
        ),
    ] = None,
    no_subtitles: Annotated[
        bool, typer.Option("-sn", "--no-subtitles", help="Leave subtitles out.", rich_help_panel=AUDIO)
    ] = False,
    stream: Annotated[
        str | None,
        typer.Option(
            "--stream",
            metavar="N|v:N",
            help="Which of several videos is restored: its number in the file, or v:N among the videos. "
            "The others are copied.",
            rich_help_panel=VIDEO,
        ),
    ] = None,
    format: Annotated[
        str | None,
        typer.Option(
            "-f", "--format", help="Container, where the output's name does not say.", rich_help_panel=AUDIO
        ),
    ] = None,
    movflags: Annotated[
        str | None,
        typer.Option(
            "-movflags",
            "--movflags",
            metavar="FLAGS",
            help="FFmpeg's flags of MP4 and MOV, such as +faststart.",
            rich_help_panel=AUDIO,
        ),
    ] = None,
    start: Annotated[
        str | None,
        typer.Option("-ss", "--start", metavar="TIME", help="Begin here.", rich_help_panel=RANGE),
    ] = None,
    duration: Annotated[
        str | None,
        typer.Option("-t", "--duration", metavar="TIME", help="Restore so much.", rich_help_panel=RANGE),
    ] = None,
    end: Annotated[
        str | None, typer.Option("-to", "--end", metavar="TIME", help="End here.", rich_help_panel=RANGE)
    ] = None,
    model: Annotated[
        str,
        typer.Option(
            "-m",
            "--model",
            help="Name of installed weights (see carfix models), a file, or auto: the full network on a GPU; "
            "on a CPU fast, or medium with eight cores or more or AMX.",
            rich_help_panel=MODEL,
        ),
    ] = "auto",
    device: Annotated[
        str, typer.Option("--device", help="auto, cpu, cuda[:N], mps or vulkan.", rich_help_panel=MODEL)
    ] = "auto",
    precision: Annotated[
        str, typer.Option("--precision", help="auto, fp32, bf16 or fp16.", rich_help_panel=MODEL)
    ] = "auto",
    tile: Annotated[
        int | None,
        typer.Option(
            "--tile", help="Side of the windows that the network sees, in pixels.", rich_help_panel=MODEL
        ),
    ] = None,
    batch: Annotated[
        int | None, typer.Option("--batch", help="Frames computed at once.", rich_help_panel=MODEL)
    ] = None,
    strength: Annotated[
        str,
        typer.Option(
            "--strength",
            help="Share of the network's correction that frames take: a number from 0 to 2, or auto, by each frame's "
            "quantizer and by what its picture looks like.",
            rich_help_panel=MODEL,
        ),
    ] = "auto",
    ensemble: Annotated[
        int,
        typer.Option(
            "--ensemble",
            help="In how many orientations the network sees each picture: 1, 2 or 4. The mean is a little better, and "
            "takes as many times as long.",
            rich_help_panel=MODEL,
        ),
    ] = 1,
    hwaccel: Annotated[
        str,
        typer.Option(
            "-hwaccel",
            "--hwaccel",
            metavar="KIND[:DEVICE]",
            help="Decode on a GPU: none, auto, or a kind that this FFmpeg knows, such as cuda (NVDEC).",
            rich_help_panel=WORK,
        ),
    ] = "none",
    overwrite: Annotated[
        bool,
        typer.Option(
            "-y/-n", "--overwrite/--no-overwrite", help="Replace an output that exists.", rich_help_panel=WORK
        ),
    ] = False,
    keep_times: Annotated[
        bool,
        typer.Option(
            "--keep-times",
            help="Give the output the input's modification time, which archives are sorted and deleted by.",
            rich_help_panel=WORK,
        ),
    ] = False,
    segment: Annotated[
        float,
        typer.Option(
            "--segment",
            metavar="SECONDS",
            help="How much video is saved at a time: a stopped run repeats no more than that.",
            rich_help_panel=WORK,
        ),
    ] = 20.0,
    resume: Annotated[
        bool,
        typer.Option("--resume/--no-resume", help="Go on where a stopped run ended.", rich_help_panel=WORK),
    ] = True,
    recursive: Annotated[
        bool,
        typer.Option(
            "-r",
            "--recursive",
            help="Walk folders and mirror their tree; symbolic links to folders are not followed.",
            rich_help_panel=MANY,
        ),
    ] = False,
    include: Annotated[
        list[str] | None,
        typer.Option(
            "--include",
            metavar="GLOB",
            help="In folders, take only files whose name or path matches, whatever their suffix; may be repeated.",
            rich_help_panel=MANY,
        ),
    ] = None,
    exclude: Annotated[
        list[str] | None,
        typer.Option(
            "--exclude",
            metavar="GLOB",
            help="In folders, leave out files whose name or path matches; may be repeated.",
            rich_help_panel=MANY,
        ),
    ] = None,
    min_age: Annotated[
        str | None,
        typer.Option(
            "--min-age",
            metavar="TIME",
            help="Skip files changed less than so long ago (seconds or [HH:]MM:SS): they may still be recorded.",
            rich_help_panel=MANY,
        ),
    ] = None,
    jobs: Annotated[
        int,
        typer.Option(
            "--jobs",
            help="Files at a time, each in its own process, which divide cores and GPUs.",
            rich_help_panel=MANY,
        ),
    ] = 1,
    fail_fast: Annotated[
        bool, typer.Option("--fail-fast", help="Stop at the first failure.", rich_help_panel=MANY)
    ] = False,
    strict: Annotated[
        bool,
        typer.Option(
            "--strict",
            help="Damaged input counts as failed, although what can be decoded is restored.",
            rich_help_panel=WORK,
        ),
    ] = False,
    dry_run: Annotated[
        bool,
        typer.Option(
            "--dry-run",
            help="Only say what would be done, how long it would take and how large it would get.",
            rich_help_panel=WORK,
        ),
    ] = False,
    log_json: Annotated[
        bool,
        typer.Option("--log-json", help="Write events as JSON lines to stdout.", rich_help_panel=WORK),
    ] = False,
    progress: Annotated[
        str,
        typer.Option("--progress", help="auto, rich, plain or none.", rich_help_panel=WORK),
    ] = "auto",
    verbose: Annotated[
        bool, typer.Option("--verbose", "-v", help="Show tracebacks behind errors.", rich_help_panel=WORK)
    ] = False,
    quiet: Annotated[
        bool, typer.Option("--quiet", "-q", help="Show nothing but errors.", rich_help_panel=WORK)
    ] = False,
) -> None:
    """Restore compressed video: decode, remove the artifacts, encode again, and keep everything else of the file.

    Presentation times, sound, subtitles, chapters, attachments, metadata, colour, rotation and bit depth stay as
    they are. The output appears under its name only when it is complete and verified. A run that was stopped is
    continued by the same command.
    """
    from carfix.cli.app import stderr
    from carfix.cli.pipe_options import check_pipe_options
    from carfix.cli.values import key_values, output_path_of, path_of, seconds
    from carfix.errors import Interrupted, UsageError
    from carfix.interruption import was_interrupted
    from carfix.restore.models import EngineChoice
    from carfix.restore.pipe_reader import PIPE
    from carfix.restore.progress import MODES
    from carfix.restore.run import restore_files, restore_through_pipe
    from carfix.restore.strength import parse_strength
    from carfix.restore.tasks import plan_tasks
    from carfix.restore.telling import Teller
    from carfix.video.encoder_settings import EncoderSettings
    from carfix.video.hwaccel import NONE
    from carfix.video.segments import DEFAULT_SEGMENT_SECONDS

    if len(names) < 2:
        raise UsageError("restore takes an input and an output")
    paths = [path_of(name) for name in names[:-1]] + [output_path_of(names[-1])]
    modes = {name: name for name in MODES}
    if progress not in modes:
        raise UsageError(f"--progress is {', '.join(MODES)}, not {progress!r}")
    encoder = EncoderSettings(
        codec=codec,
        crf=crf,
        preset=preset,
        bitrate=bitrate,
        maxrate=maxrate,
        bufsize=bufsize,
        gop=gop,
        tune=tune,
        pix_fmt=pix_fmt,
        options=key_values(encoder_option or [], "-x"),
    )
    chosen: dict[str, Any] = {
        "model": model,
        "device": device,
        "precision": precision,
        "tile": tile,
        "batch": batch,
        "ensemble": ensemble,
        "strength": parse_strength(strength),
    }
    if PIPE in paths:
        check_pipe_options(
            len(paths),
            {
                **{"--log-json": log_json, "--dry-run": dry_run, "-ss": start, "-t": duration, "-to": end},
                **{
                    "--keep-times": keep_times,
                    "-movflags": movflags,
                    "-b:a": audio_bitrate,
                    "--hwaccel": hwaccel != NONE,
                },
                **{"-r": recursive, "--include": include, "--exclude": exclude, "--min-age": min_age},
                **{"--jobs": jobs != 1, "--fail-fast": fail_fast, "--no-resume": not resume},
                "--segment": segment != DEFAULT_SEGMENT_SECONDS,
            },
        )
        teller = Teller(stderr, mode=modes[progress], quiet=quiet, many=False, log=None)
        choice = EngineChoice(**chosen)
        restore_through_pipe(
            *paths,
            teller=teller,
            format=format,
            encoder=encoder,
            audio_codec=audio,
            subtitles=not no_subtitles,
            stream=stream,
            choice=choice,
            overwrite=overwrite,
            strict=strict,
        )
        return
    tasks = plan_tasks(
        paths[:-1],
        paths[-1],
        recursive=recursive,
        include=include or [],
        exclude=exclude or [],
        format=format,
        codec=encoder.codec,
    )
    many = len(paths) > 2 or paths[0].is_dir()
    if min_age is not None and not many:
        raise UsageError("--min-age is for several files or a folder: leave it out")
    log = sys.stdout if log_json else None
    try:
        restore_files(
            tasks=tasks,
            teller=Teller(stderr, mode=modes[progress], quiet=quiet, many=many, log=log),
            many=many,
            dry_run=dry_run,
            jobs=jobs,
            fail_fast=fail_fast,
            strict=strict,
            min_age=seconds(min_age, "--min-age") or 0.0,
            encoder=encoder,
            **chosen,
            audio_codec=audio,
            audio_bitrate=audio_bitrate,
            subtitles=not no_subtitles,
            stream=stream,
            hwaccel=hwaccel,
            format=format,
            start=seconds(start, "-ss"),
            duration=seconds(duration, "-t"),
            end=seconds(end, "-to"),
            overwrite=overwrite,
            segment_seconds=segment,
            resume=resume,
            keep_times=keep_times,
            movflags=movflags,
        )
    except (KeyboardInterrupt, RuntimeError) as error:
        if not was_interrupted(error):
            raise
        raise Interrupted("interrupted; the same command goes on after the last finished segment") from None
