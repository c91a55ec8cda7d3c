"""Where a dataset goes: never where a source lies, since what carfix writes may replace what is there."""

import os
from collections.abc import Iterable, Sequence
from pathlib import Path

from carfix.errors import CarfixError, UsageError
from carfix.video.faults import reason

#: What a packed folder says of its files: see `carfix.training.pack`.
NOTES = "corpus.json"

#: Device and number: the same for every name of a file or folder, through links and whatever the case of letters.
Identity = tuple[int, int]


def identity(path: Path) -> Identity | None:
    """What tells a file or folder from all others; None if there is none at `path`."""
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_dev, status.st_ino


def _resolved(path: Path) -> Path:
    """Without links; `Path.resolve` raises where they lead in a circle, which is told by who opens it."""
    return Path(os.path.realpath(path))


def check_sources(sources: Sequence[Path], output: Path, clips: Path | None = None) -> None:
    """Raise `UsageError` if one of `sources` is the folder `output`, or is or lies in `clips`, the folder in it that
    carfix keeps clips in.
    """
    own, kept = identity(output), identity(clips) if clips is not None else None
    for source in sources:
        resolved = _resolved(source)
        here = own is not None and identity(resolved) == own
        if here or (kept is not None and kept in map(identity, (resolved, *resolved.parents))):
            raise UsageError(
                f"the source {source} lies where carfix would write to (in {output}); give another folder last"
            )


def check_targets(clips: Sequence[Path], targets: Iterable[Path]) -> None:
    """Raise `UsageError` if one of `targets` is, contains or lies in one of `clips`, which are files and folders."""
    found: dict[Identity | None, Path] = {}
    above: dict[Path, Path] = {}
    for clip in clips:
        resolved = _resolved(clip)
        found[identity(resolved)] = clip
        above |= dict.fromkeys(resolved.parents, clip)
    around = {identity(folder): clip for folder, clip in above.items()}
    for known in (found, around):
        known.pop(None, None)  # not there any more, or not to be seen: nothing can be told of it
    seen: dict[Path, Identity | None] = {}
    for target in targets:
        resolved = _resolved(target)
        for path in (resolved, *resolved.parents):
            if path not in seen:
                seen[path] = identity(path)
        source = around.get(seen[resolved])
        for path in (resolved, *resolved.parents):
            source = source or found.get(seen[path])
        if source is not None:
            raise UsageError(
                f"{target} would be written where the source {source} lies; give another folder last"
            )


def make_folder(folder: Path) -> None:
    """Create `folder` and those above it. Raises `CarfixError`."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise CarfixError(f"cannot make the folder {folder}: {reason(error)}") from error
