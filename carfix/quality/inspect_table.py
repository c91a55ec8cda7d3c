"""Inspections as a table for a terminal."""

from collections.abc import Sequence
from datetime import timedelta

from rich.table import Table

from carfix.quality.gain import GainFit
from carfix.quality.inspect import Inspection
from carfix.quality.names import literal

#: Stands for what is not known.
MISSING = "-"
#: Stands behind the level of a video that was encoded again.
AGAIN = "*"


def inspection_table(found: Sequence[Inspection]) -> Table:
    """A line a file."""
    table = Table(box=None, padding=(0, 1, 0, 0))
    table.add_column("file", overflow="fold")
    table.add_column("codec")
    for heading in ("size", "fps", "bits/px", "quantizer", "level", "gain dB", "time"):
        table.add_column(heading, justify="right", no_wrap=True)
    for each in found:
        size = f"{each.width}x{each.height}"
        table.add_row(literal(str(each.path)), each.codec, size, *_numbers(each))
    return table


def _numbers(each: Inspection) -> list[str]:
    level = _number(each.level, ".0f")
    gain = _number(each.predicted_gain, "+.2f")
    return [
        _number(each.fps, ".4g"),
        _number(each.bits_per_pixel, ".4f"),
        _number(each.mean_quantizer, ".1f"),
        level + AGAIN if each.encoded_again else level,
        gain if each.gain_error is None else f"{gain} ±{each.gain_error:.2f}",
        MISSING if each.seconds is None else str(timedelta(seconds=round(each.seconds))),
    ]


def _number(value: float | None, format: str) -> str:
    return MISSING if value is None else f"{value:{format}}"


def inspection_notes(found: Sequence[Inspection], model: str, fit: GainFit | None) -> list[str]:
    """What a reader must know beside the numbers; gains are by `fit`, for the network `model`."""
    lines = [note for each in found if (note := each.chosen.note())]
    if any(each.encoded_again for each in found):
        lines.append(f"{AGAIN}: looks compressed harder than its stream tells: encoded again")
    unknown = "" if fit else f"; no prediction of the gain was fitted for these weights of {model}"
    return [*lines, f"gain and time by {model}, inference alone{unknown}"]
