"""What commands take for values: lists, sizes, times, bit rates, splits, pairs of key and value."""

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Literal, cast

from carfix.errors import UsageError
from carfix.video.address import FILE

#: FFmpeg's time syntax: [[HH:]MM:]SS[.m], or a number with a unit.
_CLOCK = re.compile(r"(?:(?:(\d+):)?(\d{1,2}):)?(\d+(?:\.\d*)?|\.\d+)")
_UNITS = {"us": 1e-6, "ms": 1e-3, "s": 1.0}
_SUFFIXES = {"": 1, "k": 1_000, "m": 1_000_000}


def path_of(name: str) -> Path:
    """The path of a file as it was typed: `-` stands for a pipe, `./-` is a file of that name."""
    path = Path(name)
    return path.absolute() if path == Path("-") and name != "-" else path


def output_path_of(name: str) -> Path:
    """The same of a file to write. Raises `UsageError` for FFmpeg's spelling of one as an address."""
    if name.startswith(FILE):
        raise UsageError(
            f"carfix takes paths, not addresses: leave {FILE} out (or write ./{name} for such a name)"
        )
    return path_of(name)


def words(text: str) -> list[str]:
    """The non-empty parts of a comma-separated list."""
    return [part.strip() for part in text.split(",") if part.strip()]


def integers(text: str, option: str) -> list[int]:
    """A comma-separated list of integers. Raises `UsageError`."""
    try:
        return [int(part) for part in words(text)]
    except ValueError:
        raise UsageError(f"{option} takes integers separated by commas, not {text!r}") from None


def rates(text: str, option: str) -> list[int | None]:
    """A comma-separated list of bit rates as FFmpeg spells them (2M, 1500k); `none` is no cap."""
    values: list[int | None] = []
    for part in words(text):
        match = re.fullmatch(r"(\d+(?:\.\d+)?)([kKmM]?)", part)
        if part == "none":
            values.append(None)
        elif match and float(match[1]) > 0:
            values.append(round(float(match[1]) * _SUFFIXES[match[2].lower()]))
        else:
            raise UsageError(f"{option} takes bit rates such as 2M,1500k or none, not {part!r}")
    return values


def size_pair(text: str) -> tuple[int, int]:
    """`WxH`; one side may be -2: even, keeping the aspect ratio. Raises `UsageError`."""
    match = re.fullmatch(r"(-2|\d+)[x:](-2|\d+)", text)
    if match:
        width, height = int(match[1]), int(match[2])
        if (width >= 16 or width == -2) and (height >= 16 or height == -2) and max(width, height) >= 16:
            return width, height
    raise UsageError(f"a size is WIDTHxHEIGHT of at least 16x16, one side may be -2, not {text!r}")


def split_name(text: str) -> Literal["train", "val", "test"] | None:
    """A split's name; `auto` is None. Raises `UsageError`."""
    if text == "auto":
        return None
    if text not in ("train", "val", "test"):
        raise UsageError(f"--split is auto, train, val or test, not {text!r}")
    return cast(Literal["train", "val", "test"], text)


def key_values(texts: Iterable[str], option: str) -> dict[str, str]:
    """Texts of the form KEY=VALUE. Raises `UsageError`."""
    values: dict[str, str] = {}
    for text in texts:
        key, equals, value = text.partition("=")
        if not (key and equals):
            raise UsageError(f"{option} takes KEY=VALUE, not {text!r}")
        values[key] = value
    return values


def seconds(text: str | None, option: str) -> float | None:
    """FFmpeg's time syntax to seconds; None stays. Raises `UsageError`."""
    if text is None:
        return None
    for unit in sorted(_UNITS, key=len, reverse=True):
        number = text.removesuffix(unit)
        if number != text and re.fullmatch(r"\d+(\.\d*)?|\.\d+", number):
            return float(number) * _UNITS[unit]
    match = _CLOCK.fullmatch(text)
    if match is None:
        raise UsageError(f"{option} takes seconds or [HH:]MM:SS, not {text!r}")
    hours, minutes, rest = match.groups()
    return int(hours or 0) * 3600 + int(minutes or 0) * 60 + float(rest)
