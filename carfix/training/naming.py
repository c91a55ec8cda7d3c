"""Clips' names: unique within a dataset, the same at every run, and what decides a clip's split."""

import contextlib
import dataclasses
import hashlib
import os
import re
import unicodedata
from collections.abc import Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from carfix.cpu import cores
from carfix.errors import CarfixError
from carfix.training.sources import source_sha256
from carfix.video.manifest import Split

#: Percent of the clips that become validation and test clips.
VAL_PERCENT = 10
TEST_PERCENT = 10

#: Where a clip's settings keep the place of its source.
PLACE = "path"
#: Where they keep that text was written into the clip, and what its name ends in then.
BURN_IN, BURN_IN_SUFFIX = "burn_in", "-burn-in"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Origin:
    """Where a clip that is there already came from."""

    source: str  # the file's or folder's name
    sha256: str
    place: str | None  # None: carfix did not yet keep it
    burn_in: bool = False


@dataclasses.dataclass(frozen=True, kw_only=True)
class Named:
    """A source under the name of its clip."""

    path: Path
    sha256: str | None  # None: not yet known


def split_of(name: str) -> Split:
    """The split of a clip: decided by its name alone, so that adding clips moves none."""
    percent = int.from_bytes(hashlib.sha256(name.encode()).digest()[:4], "big") % 100
    if percent < TEST_PERCENT:
        return "test"
    return "val" if percent < TEST_PERCENT + VAL_PERCENT else "train"


def without_burn_in(name: str) -> str:
    """The name of the clip that shows the same without text."""
    return "".join(name.rpartition(BURN_IN_SUFFIX)[::2])


def source_name(path: Path) -> str:
    """The name of a source's file or folder, also where the path has none, as `.`."""
    return path.resolve().name if path.name in ("", "..") else path.name


def place_of(source: Path, output: Path) -> str:
    """The path of a source from the dataset's folder on, so that both can move together."""
    named = source.parent.resolve() / source.name
    try:
        return Path(os.path.relpath(named, os.path.realpath(output))).as_posix()
    except ValueError:  # on another drive
        return named.as_posix()


def clip_names(paths: Sequence[Path]) -> dict[str, Path]:
    """A name for each clip: its file name without suffix, made unique by its folder's name."""
    names: dict[str, Path] = {}
    for path in paths:
        full = source_name(path)
        name = _clean(Path(full).stem if path.is_file() else full)
        if name in names:
            name = f"{_clean(path.parent.name)}-{_clean(full)}"
        while name in names:
            name += "-2"
        names[name] = path
    return names


def _clean(text: str) -> str:
    """Letters and digits of any script stay. Composed, since file systems differ in how they spell an umlaut."""
    return re.sub(r"[^\w.-]+", "_", unicodedata.normalize("NFC", text)).strip("._-") or "clip"


def name_sources(
    paths: Sequence[Path], output: Path, known: Mapping[str, Origin], *, burn_in: bool = False
) -> dict[str, Named]:
    """A name for each source: the one that it has in the dataset `output`, else one that no other source has there.

    `known` is what the dataset holds. A source that changed where it lies keeps its name. A source's clip with text
    in it (`burn_in`) has another name than the one without.
    """
    suffix = BURN_IN_SUFFIX if burn_in else ""
    wanted = {name + suffix: path for name, path in clip_names(paths).items()}
    foreign = {name for name, origin in known.items() if origin.burn_in != burn_in}
    known = {name: origin for name, origin in known.items() if name not in foreign}
    sources = {origin.source for origin in known.values()}
    sha256s = _sha256s(
        [path for name, path in wanted.items() if name in known or source_name(path) in sources]
    )
    named: dict[str, Named] = {}
    others: dict[str, Path] = {}
    for name, path in wanted.items():
        if name in known and sha256s.get(path) == known[name].sha256:
            named[name] = Named(path=path, sha256=sha256s[path])
        else:
            others[name] = path
    # Named otherwise in another run: among other sources, or by an earlier carfix.
    earlier = {(known[name].source, known[name].sha256): name for name in known.keys() - named.keys()}
    for wish, path in others.items():
        sha256 = sha256s.get(path)
        found = earlier.pop((source_name(path), sha256), None) if sha256 is not None else None
        name = found or _free_name(wish, place_of(path, output), sha256, known, named.keys() | foreign)
        named[name] = Named(path=path, sha256=sha256)
    return named


def _free_name(
    wish: str, place: str, sha256: str | None, known: Mapping[str, Origin], gone: Collection[str]
) -> str:
    """`wish`, or one made of it if that is gone or another source's. What cannot be read (no `sha256`) is none's."""

    def taken(name: str) -> bool:
        origin = known.get(name)
        if name in gone or origin is None or sha256 is None:
            return name in gone
        return sha256 != origin.sha256 and place != origin.place

    name = f"{wish}-{sha256[:8]}" if taken(wish) and sha256 is not None else wish
    while taken(name):
        name += "-2"
    return name


def _sha256s(paths: Sequence[Path]) -> dict[Path, str]:
    """Of those that can be read; whoever needs the others will say what is wrong with them."""
    found: dict[Path, str] = {}

    def add(path: Path) -> None:
        with contextlib.suppress(CarfixError):
            found[path] = source_sha256(path)

    with ThreadPoolExecutor(len(cores())) as pool:
        try:
            list(pool.map(add, paths))
        except BaseException:
            pool.shutdown(cancel_futures=True)  # Ctrl-C: not all of them first
            raise
    return found
