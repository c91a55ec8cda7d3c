"""Datasets: pristine clips, their encoded variants, and a manifest that says how each came to be."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from carfix import __version__
from carfix.errors import CarfixError, UsageError
from carfix.lock import alone_in
from carfix.progress import OnProgress, silent
from carfix.training.clip import FOLDER, Built, ClipJob, build_clip, discard, folder_of, install
from carfix.training.encoding import check_encodings
from carfix.training.finding import find_clips
from carfix.training.naming import BURN_IN, PLACE, Origin, name_sources
from carfix.training.pack import pack_corpus
from carfix.training.places import check_sources, check_targets, make_folder
from carfix.training.recipe import BuildReport, Recipe
from carfix.training.sources import is_interlaced
from carfix.training.workers import workers
from carfix.video.manifest import FILE_NAME, Clip, Manifest, read_manifest, write_manifest


def build_dataset(
    *,
    sources: Sequence[Path],
    output: Path,
    recipe: Recipe,
    jobs: int = 1,
    progress: OnProgress = silent,
) -> BuildReport:
    """Build or extend the dataset in the folder `output`: only what is missing is made.

    A source that cannot be read is left out and named in the report. `progress` gets the number of clips done,
    their total and the last one's name. Interrupted, it stops at once; what is finished is kept. Raises `CarfixError`
    if nothing can be written or another process builds there, `UsageError` for a recipe without encodings or with
    some that the encoder refuses, for one that packs clips with text in them, and for an output that would lie where
    a source is.
    """
    packed = recipe.pack is not None
    if not recipe.encodings and not recipe.drawn and not packed:
        raise UsageError("a dataset needs at least one encoding")
    if packed and recipe.burn_in:
        raise UsageError(
            "text is written into clips when their dataset is built: not both --pack and --burn-in"
        )
    if not packed:
        check_encodings(recipe.encodings)
    check_sources(sources, output, None if packed else output / FOLDER)
    paths = list(find_clips(list(sources), stills=recipe.stills, without=output))
    if not paths:
        raise CarfixError(f"no video, picture or folder of frames among {', '.join(map(str, sources))}")
    if packed:
        return pack_corpus(paths, output, recipe, jobs, progress)
    clips = _known_clips(output)
    jobs_to_do = _jobs(paths, output, recipe, clips)
    check_targets(paths, [folder_of(output, name) for name in jobs_to_do])
    make_folder(output / FOLDER)
    with alone_in(output):
        if _known_clips(output) != clips:
            raise CarfixError(f"another carfix has just worked in {output}; run the command again")
        return _build(jobs_to_do, clips, output, jobs, progress)


def _known_clips(output: Path) -> dict[str, Clip]:
    path = output / FILE_NAME
    if not path.exists():
        return {}
    try:
        return dict(read_manifest(output).clips)
    except CarfixError as error:
        if error.__cause__ is None:  # not damaged, but a newer carfix's
            raise
        raise CarfixError(
            f"{path} cannot be read ({error.__cause__!r}); correct that, or delete it or move it away, and all clips "
            "are built again"
        ) from error


def _jobs(
    paths: Sequence[Path], output: Path, recipe: Recipe, clips: Mapping[str, Clip]
) -> dict[str, ClipJob]:
    origins = {
        name: Origin(
            source=clip.source,
            sha256=clip.source_sha256,
            place=clip.settings.get(PLACE),
            burn_in=BURN_IN in clip.settings,
        )
        for name, clip in clips.items()
    }
    return {
        name: ClipJob(
            name=name,
            source=named.path,
            sha256=named.sha256,
            output=output,
            recipe=recipe,
            known=clips.get(name),
        )
        for name, named in name_sources(paths, output, origins, burn_in=recipe.burn_in).items()
    }


def _build(
    jobs: Mapping[str, ClipJob], clips: dict[str, Clip], output: Path, at_once: int, progress: OnProgress
) -> BuildReport:
    """Build the clips, `at_once` of them at a time, and add each to `clips` and the manifest when it is done."""
    report = BuildReport([], [], {})
    try:
        with workers(at_once) as run:
            for done, (name, outcome) in enumerate(
                run(build_clip, {name: (job,) for name, job in jobs.items()}), 1
            ):
                try:
                    built = outcome()
                except CarfixError as error:
                    report.failed[str(jobs[name].source)] = str(error)
                else:
                    before = clips.get(name)
                    gone = before.variants.keys() - built.clip.variants.keys() if before else set()
                    if gone:
                        report.dropped[name] = sorted(gone)
                    _add(built, clips, output)
                    (report.built if built.changed else report.kept).append(name)
                    if built.made and is_interlaced(jobs[name].source):
                        report.interlaced.append(name)
                    if built.damaged:
                        report.damaged.append(name)
                progress(done, len(jobs), name)
    except BaseException:
        for name in jobs:
            discard(output, name)
        raise
    return report


def _add(built: Built, clips: dict[str, Clip], output: Path) -> None:
    before = clips.get(built.clip.name)
    if built.made:
        install(output, built.clip, before)
    if built.clip != before:
        clips[built.clip.name] = built.clip
        write_manifest(output, Manifest(carfix=__version__, clips=clips))
