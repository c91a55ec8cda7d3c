"""Which of a file's videos is measured."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path

from av.container import InputContainer

from carfix.video.choice import check_stream, find_video, videos_of
from carfix.video.source import open_input


@dataclasses.dataclass(frozen=True)
class Chosen:
    """One video of a file: its number there, and how many there are."""

    path: Path
    stream: int
    videos: int
    asked: bool  # whether somebody chose it

    def note(self) -> str:
        """What a reader must know; nothing where there was no choice, or where it was the reader's."""
        if self.asked or self.videos < 2:
            return ""
        which = f"of its {self.videos} videos, stream {self.stream} is looked at"
        return f"{self.path.name}: {which}; --stream takes another"


def choose(path: Path, wanted: str | None) -> Chosen:
    """The video of `path` that `wanted` specifies, or the one that a restore takes unasked.

    Raises `UsageError` for what specifies no stream, `CarfixError` for a file that cannot be read or has no such video.
    """
    check_stream(wanted)
    with open_input(path) as container:
        return choose_in(container, path, wanted)


def choose_in(container: InputContainer, path: Path, wanted: str | None) -> Chosen:
    """The same of a file that is open."""
    stream = find_video(container, path, wanted)
    # Others were announced and never sent.
    videos = sum(1 for each in videos_of(container.streams) if each.width)
    return Chosen(path, stream.index, videos, wanted is not None)


def choose_alike(paths: Sequence[Path], wanted: str | None) -> dict[Path, Chosen]:
    """Of every file the video that `wanted` specifies; of those that hold a single one, that one.

    So the second camera of a recorder's file meets the file that was made of it alone. Raises what `choose` does, also
    if none of the files has such a video.
    """
    check_stream(wanted)
    found = {path: choose(path, None) for path in paths}
    several = [path for path, chosen in found.items() if chosen.videos > 1]
    if wanted is not None:
        for path in several or list(found):
            found[path] = choose(path, wanted)
    return found
