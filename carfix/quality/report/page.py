"""Comparisons as one self-contained HTML page: table, curves, before/after pictures, zoom lens."""

import functools
from collections.abc import Sequence
from importlib import resources
from pathlib import Path
from typing import Any

import jinja2
import numpy as np

from carfix import __version__
from carfix.quality.compare_tables import DIGITS, HEADINGS, METRIC_COLUMNS, bit_rate_text, metric_row, notes
from carfix.quality.metrics import Numbers
from carfix.quality.names import readable
from carfix.quality.report.pictures import Moment, Pictures, moments, pictures, positions
from carfix.quality.report.place import write_whole
from carfix.quality.results import Comparison, MetricName, Result

#: Digits of the numbers that the curves are drawn from: a tenth of what the tables show.
CURVE_DIGITS = {"psnr": 3, "ssim": 5, "vmaf": 2}

PAGE = "page.html.j2"
STYLE = ("vendor/uPlot.min.css", "page.css")
SCRIPT = ("vendor/uPlot.iife.min.js", "page.js")
LICENCE = "vendor/uPlot.LICENSE.txt"


def write_report(path: Path, comparison: Comparison, metrics: Sequence[MetricName]) -> None:
    """Write the page of `comparison` to `path`. Raises `CarfixError` if it cannot be written.

    The frames that it shows are decoded, filtered or restored once more.
    """
    shown = moments(comparison)
    write_page(path, comparison_page(comparison, metrics, shown, pictures(comparison, shown)))


def write_page(path: Path, content: dict[str, Any]) -> None:
    """Write one page. Raises `CarfixError` if it cannot be written."""
    text = _template().render(
        **content,
        version=__version__,
        style="\n".join(_part(name) for name in STYLE),
        script="\n".join(_part(name) for name in SCRIPT),
        licence=_part(LICENCE),
    )
    write_whole(path, readable(text).encode())


def comparison_page(
    comparison: Comparison, metrics: Sequence[MetricName], shown: Sequence[Moment], images: Pictures
) -> dict[str, Any]:
    """What the template needs to show a comparison; `images` belong to the moments `shown`."""
    first = comparison.results[0]
    reference = comparison.reference
    tables = [
        {
            "title": HEADINGS[metric],
            "columns": ["candidate", *METRIC_COLUMNS, "bit rate", "frames"],
            "rows": [
                [
                    result.name,
                    *metric_row(result, first, metric),
                    bit_rate_text(result.bit_rate),
                    len(result.quality),
                ]
                for result in comparison.results
            ],
        }
        for metric in metrics
    ]
    return {
        "title": reference.path.name,
        "subtitle": f"{reference.width}x{reference.height}, {reference.frames} frames compared, luma",
        "tables": tables,
        "notes": notes(comparison),
        "lossless": images.lossless,
        "data": _comparison_data(comparison, metrics, shown, images),
    }


def _comparison_data(
    comparison: Comparison, metrics: Sequence[MetricName], shown: Sequence[Moment], images: Pictures
) -> dict[str, Any]:
    """What the page's script works on: curves over all frames, and the moments with their pictures."""
    indices = sorted(set().union(*(result.reference_indices for result in comparison.results)))
    times = {
        index: float(time)
        for result in comparison.results
        for index, time in zip(result.reference_indices, result.times, strict=True)
    }
    places = {index: place for place, index in enumerate(indices)}
    names = [result.name for result in comparison.results]
    return {
        "names": names,
        "pictures": ["reference", *names],
        # Before and after: the first candidate, and the last one or the reference if there is but one.
        "sides": [1, len(names) if len(names) > 1 else 0],
        "frames": indices,
        "times": [round(times[index], 4) for index in indices],
        "metrics": [
            {
                "title": HEADINGS[metric],
                "digits": DIGITS[metric],
                "curves": [_curve(result, metric, indices) for result in comparison.results],
            }
            for metric in metrics
        ],
        "kinds": [_facts(result.kinds, result, indices) for result in comparison.results],
        "quantizers": [
            _facts(rounded_quantizers(result.quantizers), result, indices) for result in comparison.results
        ],
        "moments": [
            {"label": moment.label, "place": places[moment.reference_index], "pictures": uris}
            for moment, uris in zip(shown, images.uris, strict=True)
        ],
    }


def rounded_quantizers(quantizers: Sequence[float | None]) -> list[float | None]:
    """As precise as a curve can show."""
    return [None if value is None else round(value, 2) for value in quantizers]


def _curve(result: Result, metric: MetricName, indices: Sequence[int]) -> list[float | None]:
    values: Numbers | None = result.values(metric)
    if values is None:
        return [None] * len(indices)
    return _facts(np.round(values, CURVE_DIGITS[metric]).tolist(), result, indices)


def _facts(values: Sequence[Any], result: Result, indices: Sequence[int]) -> list[Any]:
    """The result's values in the order of the reference's frames, None where it has no counterpart."""
    where = positions(result)
    return [values[where[index]] if index in where else None for index in indices]


def _part(name: str) -> str:
    return resources.files("carfix.quality.report").joinpath(name).read_text(encoding="utf-8")


@functools.cache
def _template() -> jinja2.Template:
    environment = jinja2.Environment(
        loader=jinja2.FunctionLoader(_part),
        autoescape=True,  # names of files are strangers' text
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template(PAGE)
