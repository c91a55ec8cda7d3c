"""Evaluations as tables for a terminal, Markdown, CSV and JSON."""

import csv
import dataclasses
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from rich.console import Console
from rich.table import Table

from carfix import __version__
from carfix.quality.detection.average_precision import Precision
from carfix.quality.evaluation import RIVALS, SPP_BEST, Evaluation, Measurement
from carfix.quality.names import heading, literal, readable

Metric = Literal["psnr", "ssim"]
METRICS: tuple[Metric, ...] = ("psnr", "ssim")
PrecisionMetric = Literal["map50", "map"]
PRECISIONS: tuple[PrecisionMetric, ...] = ("map50", "map")
TITLES = {
    "psnr": "PSNR of luma, dB",
    "ssim": "SSIM of luma",
    "map50": "mAP@0.5 of a detector, its findings on the pristine frames taken for true",
    "map": "mAP@[.5:.95] of the same",
}
#: Digits behind the point: finer differences are not visible in any picture, or are chance.
DIGITS = {"psnr": 2, "ssim": 4, "map50": 3, "map": 3}

MISSING = "-"


@dataclasses.dataclass(frozen=True)
class Grid:
    """A table before it is drawn: a row a method, a column a variant, then the mean and the gains."""

    title: str
    columns: list[str]
    rows: list[tuple[str, list[str]]]  # name and cells

    def transposed(self) -> "Grid":
        """A row a variant: for terminals that are too narrow for the columns."""
        cells = zip(*(cells for _, cells in self.rows), strict=True)
        return Grid(
            title=self.title,
            columns=[name for name, _ in self.rows],
            rows=[(column, list(row)) for column, row in zip(self.columns, cells, strict=True)],
        )

    @property
    def width(self) -> int:
        """Characters that a terminal needs for it; names of variants may break at their hyphen."""
        columns = [max(len(part) for part in column.replace("-", " ").split()) for column in self.columns]
        cells = [max(len(row[index]) for _, row in self.rows) for index in range(len(self.columns))]
        names = max(len(name) for name, _ in self.rows)
        return names + 2 + sum(max(pair) + 3 for pair in zip(columns, cells, strict=True))


def grid(evaluation: Evaluation, metric: Metric) -> Grid:
    """The table of one metric, with the mean over the variants and its gain over each rival."""
    digits = DIGITS[metric]
    index = METRICS.index(metric)
    rivals = [rival for rival in RIVALS if rival in evaluation.cells]
    means = {name: evaluation.mean(name)[index] for name in evaluation.cells}
    rows = []
    for name in evaluation.cells:
        pooled = [evaluation.pooled(name, variant) for variant in evaluation.variants()]
        cells = [f"{getattr(cell, metric):.{digits}f}" if cell else MISSING for cell in pooled]
        cells.append(f"{means[name]:.{digits}f}")
        for rival in rivals:
            gain = None if name == rival else evaluation.gain(name, rival)
            cells.append(MISSING if gain is None else f"{gain[index]:+.{digits}f}")
        rows.append((name, cells))
    columns = [*evaluation.variants(), "mean", *(f"over {rival}" for rival in rivals)]
    return Grid(title=TITLES[metric], columns=columns, rows=rows)


def precision_grid(evaluation: Evaluation, metric: PrecisionMetric) -> Grid:
    """The table of one of the detector's metrics, laid out as `grid`."""

    def number(precision: Precision | None, sign: str = "") -> str:
        return MISSING if precision is None else f"{getattr(precision, metric):{sign}.{DIGITS[metric]}f}"

    rivals = [rival for rival in RIVALS if rival in evaluation.cells]
    rows = []
    for name in evaluation.cells:
        pooled = [evaluation.pooled(name, variant) for variant in evaluation.variants()]
        cells = [number(each.precision if each else None) for each in pooled]
        cells.append(number(evaluation.precision(name)))
        cells += [
            MISSING if name == rival else number(evaluation.precision_gain(name, rival), "+")
            for rival in rivals
        ]
        rows.append((name, cells))
    columns = [*evaluation.variants(), "mean", *(f"over {rival}" for rival in rivals)]
    return Grid(title=TITLES[metric], columns=columns, rows=rows)


def grids(evaluation: Evaluation) -> list[Grid]:
    """All tables, in their order."""
    found = [grid(evaluation, metric) for metric in METRICS]
    if evaluation.detector:
        found += [precision_grid(evaluation, metric) for metric in PRECISIONS]
    return [*found, extras(evaluation)]


def extras(evaluation: Evaluation) -> Grid:
    """Per method: the smallest gain over the decoded frames of any clip and variant, and the flicker."""
    rows = []
    for name in evaluation.cells:
        shown, pristine = evaluation.flicker(name)
        gain = MISSING
        if name != RIVALS[0] and (smallest := evaluation.smallest_gain(name)):
            gain = f"{smallest[0]:+.2f} dB ({smallest[1]}, {smallest[2]})"
        rows.append((name, [gain, _number(shown), _number(pristine)]))
    return Grid(
        title="Smallest gain over decoded; flicker of static regions: mean |frame - last frame|, codes",
        columns=["smallest gain", "flicker", "pristine"],
        rows=rows,
    )


def _number(value: float | None) -> str:
    return MISSING if value is None else f"{value:.3f}"


def notes(evaluation: Evaluation) -> list[str]:
    """What a reader must know beside the numbers."""
    dataset = evaluation.dataset
    limit = dataset["frames_limit"]
    length = "all frames" if limit is None else f"at most {limit} frames each"
    lines = [f"{dataset['path']}: {len(dataset['clips'])} clips of the split {dataset['split']}, {length}"]
    if evaluation.best_quantizers:
        best = ", ".join(f"{name} {quantizer}" for name, quantizer in evaluation.best_quantizers.items())
        lines.append(f"spp-best's quantizers: {best}")
    if evaluation.detector:
        lines.append(_detector_note(evaluation))
    if evaluation.unfiltered:
        files = ", ".join(f"{clip} {variant}" for clip, variant in evaluation.unfiltered)
        lines.append(
            f"spp changed nothing in {len(evaluation.unfiltered)} files (it reads no quantizers there, or the pictures "
            f"are flat), which are left out of its row: {files}"
        )
    identical = sum(
        cell.identical
        for cells in evaluation.cells.values()
        for clips in cells.values()
        for cell in clips.values()
    )
    if identical:
        lines.append(f"{identical} frames equal the pristine ones and count as 100 dB")
    return lines


def _detector_note(evaluation: Evaluation) -> str:
    detector = evaluation.detector
    assert detector is not None
    decoded = [cell for clips in evaluation.cells[RIVALS[0]].values() for cell in clips.values()]
    truths = sum(cell.agreement.truths for cell in decoded if cell.agreement)
    return (
        f"mAP: agreement with the pristine frames, not with labels: true is what {Path(detector['path']).name} "
        f"({detector['width']}x{detector['height']}) finds in them with a score of {detector['truth_score']} or more, "
        f"{truths} boxes over all variants"
    )


def print_evaluation(evaluation: Evaluation, console: Console) -> None:
    """Draw all tables; a table that is too wide for the terminal is turned on its side."""
    for wide in grids(evaluation):
        drawn = (
            wide if wide.width <= console.width or len(wide.columns) <= len(wide.rows) else wide.transposed()
        )
        table = Table(title=heading(drawn.title), title_justify="left")
        table.add_column("")
        for column in drawn.columns:
            table.add_column(
                literal(column.replace("-", " ", 1) if drawn is wide else column), justify="right"
            )
        for name, cells in drawn.rows:
            table.add_row(*(literal(text) for text in (name, *cells)))
        console.print(table)
    for line in notes(evaluation):
        console.print(readable(line), markup=False, highlight=False, emoji=False)


def evaluation_markdown(evaluation: Evaluation) -> str:
    """All tables in GitHub's Markdown."""
    blocks = []
    for drawn in grids(evaluation):
        lines = [f"**{drawn.title}**", "", _markdown_row(["", *drawn.columns])]
        lines.append(_markdown_row(["---", *["---:"] * len(drawn.columns)]))
        lines += [_markdown_row([name, *cells]) for name, cells in drawn.rows]
        blocks.append("\n".join(lines))
    blocks.append("\n".join(f"{line}  " for line in notes(evaluation)))
    return readable("\n\n".join(blocks) + "\n")


def _markdown_row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def evaluation_csv(evaluation: Evaluation) -> str:
    """A row for every method, variant and clip; the detector's columns only where there was one."""
    fields = [field.name for field in dataclasses.fields(Measurement) if field.name != "agreement"]
    precisions = PRECISIONS if evaluation.detector else ()
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["method", "variant", "clip", *fields, *precisions])
    for method, variants in evaluation.cells.items():
        for variant, clips in variants.items():
            for clip, cell in clips.items():
                values = [getattr(cell, field) for field in fields]
                precision = cell.precision  # an empty field where there is none
                values += [getattr(precision, metric, None) for metric in precisions]
                writer.writerow([method, variant, clip, *values])
    return readable(text.getvalue())


def evaluation_json(evaluation: Evaluation) -> dict[str, Any]:
    """The schema of docs/evaluate.md."""
    return {
        "carfix": __version__,
        "dataset": dict(evaluation.dataset),
        **({"detector": dict(evaluation.detector)} if evaluation.detector else {}),
        "methods": {name: _method_json(evaluation, name) for name in evaluation.cells},
    }


def _method_json(evaluation: Evaluation, name: str) -> dict[str, Any]:
    variants: dict[str, Any] = {}
    clips: dict[str, Any] = {}
    for variant in evaluation.variants():
        if pooled := evaluation.pooled(name, variant):
            variants[variant] = _cell_json(evaluation, pooled)
            if name == SPP_BEST:
                variants[variant]["quantizer"] = evaluation.best_quantizers[variant]
        for clip, cell in evaluation.cells[name].get(variant, {}).items():
            clips.setdefault(clip, {})[variant] = _cell_json(evaluation, cell)
    psnr, ssim = evaluation.mean(name)
    shown, pristine = evaluation.flicker(name)
    gains: dict[str, Any] = {}
    for rival in RIVALS:
        if rival == name or rival not in evaluation.cells:
            continue
        gain, smallest = evaluation.gain(name, rival), evaluation.smallest_gain(name, rival)
        if gain is None or smallest is None:
            continue
        gains[rival] = {
            "psnr": gain[0],
            "ssim": gain[1],
            **_precision_json(evaluation, evaluation.precision_gain(name, rival)),
            "smallest": dict(zip(("psnr", "clip", "variant"), smallest, strict=True)),
        }
    return {
        "variants": variants,
        "mean": {"psnr": psnr, "ssim": ssim, **_precision_json(evaluation, evaluation.precision(name))},
        "gain": gains,
        "flicker": {"shown": shown, "pristine": pristine},
        "clips": clips,
    }


def _cell_json(evaluation: Evaluation, cell: Measurement) -> dict[str, Any]:
    return {
        "psnr": cell.psnr,
        "ssim": cell.ssim,
        **_precision_json(evaluation, cell.precision),
        "frames": cell.frames,
        "flicker": cell.flicker,
    }


def _precision_json(evaluation: Evaluation, precision: Precision | None) -> dict[str, float | None]:
    """Nothing without a detector; null where it finds nothing in the pristine frames."""
    if not evaluation.detector:
        return {}
    return {metric: getattr(precision, metric, None) for metric in PRECISIONS}
