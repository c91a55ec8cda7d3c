"""File patterns on Windows, whose shells leave them to programs."""

import os
from collections.abc import Sequence
from glob import glob

#: Options that want a pattern for themselves.
_PATTERNS = ("--include", "--exclude")


def expanded(arguments: Sequence[str]) -> list[str]:
    """`arguments` with the names that a pattern or `~` among them stands for, as a Unix shell gives them.

    What is there by that very name (`cam[1].mp4`) and what matches nothing stay as they are.
    """
    found: list[str] = []
    for before, argument in zip(["", *arguments], arguments, strict=False):
        kept = argument.startswith("-") or before in _PATTERNS or os.path.exists(argument)  # noqa: PTH110
        name = argument if kept else os.path.expanduser(argument)  # noqa: PTH111
        found += (not kept and sorted(glob(name, recursive=True))) or [name]  # noqa: PTH207
    return found
