"""Comparisons as a table for a terminal, CSV and JSON."""

import csv
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from rich.table import Table

from carfix.net.ssim import PSNR_IDENTICAL
from carfix.quality.metrics import Numbers
from carfix.quality.names import heading, literal, readable
from carfix.quality.results import Comparison, MetricName, Result

#: Low percentile that tables show beside the mean: what the worst twentieth of the frames reaches at most.
LOW_PERCENTILE = 5

HEADINGS = {"psnr": "PSNR in dB", "ssim": "SSIM", "vmaf": "VMAF"}
#: Digits behind the point: finer differences are not visible in any picture.
DIGITS = {"psnr": 2, "ssim": 4, "vmaf": 2}


def summary(values: Numbers) -> dict[str, float]:
    """Mean, least value and 5th percentile."""
    return {
        "mean": float(values.mean()),
        "min": float(values.min()),
        "p5": float(np.percentile(values, LOW_PERCENTILE)),
    }


def bit_rate_text(bit_rate: float | None) -> str:
    """In kbit/s, rounded to what matters."""
    return "-" if bit_rate is None else f"{bit_rate / 1000:,.0f} kb/s"


def metric_row(result: Result, first: Result, metric: MetricName) -> list[str]:
    """Mean, minimum, 5th percentile and gain over the first candidate, over the frames that both have."""
    values, base = result.values(metric), first.values(metric)
    if values is None or base is None:
        return ["-"] * 4
    digits = DIGITS[metric]
    before = dict(zip(first.reference_indices, base, strict=True))
    gains = [
        value - before[index]
        for index, value in zip(result.reference_indices, values, strict=True)
        if index in before
    ]
    gain = f"{np.mean(gains):+.{digits}f}" if gains and result is not first else "-"
    return [*(f"{value:.{digits}f}" for value in summary(values).values()), gain]


#: Headings of what `metric_row` gives.
METRIC_COLUMNS = ("mean", "min", f"{LOW_PERCENTILE}%", "gain")


def comparison_tables(comparison: Comparison, metrics: Sequence[MetricName]) -> list[Table]:
    """What `carfix compare` prints: a table a metric, narrow enough for any terminal."""
    reference = comparison.reference
    tables = []
    for metric in metrics:
        title = f"{HEADINGS[metric]} against {reference.path.name}, {reference.width}x{reference.height}"
        table = Table(title=heading(title), title_justify="left")
        table.add_column("candidate", overflow="fold")
        for column in (*METRIC_COLUMNS, "bit rate", "frames"):
            table.add_column(column, justify="right", no_wrap=True)
        for result in comparison.results:
            row = metric_row(result, comparison.results[0], metric)
            table.add_row(
                literal(result.name), *row, bit_rate_text(result.bit_rate), str(len(result.quality))
            )
        tables.append(table)
    return tables


def notes(comparison: Comparison) -> list[str]:
    """What a reader must know beside the numbers."""
    lines = file_notes(comparison)
    for result in comparison.results:
        if result.quality.identical:
            lines.append(
                f"{result.name}: {result.quality.identical} of {len(result.quality)} frames equal the reference "
                f"and count as {PSNR_IDENTICAL:.0f} dB"
            )
        left_out = result.unmatched
        if left_out.reference or left_out.candidate:
            lines.append(
                f"{result.name}: {left_out.reference} frames of the reference and {left_out.candidate} of the "
                "candidate have no counterpart and were left out"
            )
    return lines


def file_notes(comparison: Comparison) -> list[str]:
    """What a reader must know of the files, each told once: damage, and codes of another meaning, several videos."""
    reference = comparison.reference
    name = reference.path.name
    decoded: dict[Path, Result] = {}  # the first of each file
    for result in comparison.results:
        decoded.setdefault(result.candidate.path, result)
    damaged = {reference.path: f"{name}: {reference.damage}"} if str(reference.damage) else {}
    for path, result in decoded.items():
        if str(result.damage):
            damaged.setdefault(path, f"{result.name}: {result.damage}")
    ranges = [
        f"{result.name} and {name}: one has the full range of codes, the other the limited one; codes are compared as "
        "they are, so that pictures that look alike differ"
        for result in decoded.values()
        if result.mixed_ranges
    ]
    choices = dict.fromkeys([reference.chosen, *(result.candidate.chosen for result in decoded.values())])
    return [*filter(None, (chosen.note() for chosen in choices)), *damaged.values(), *ranges]


def comparison_csv(comparison: Comparison) -> str:
    """A row for every candidate and frame; an empty field is a number that was not measured."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["candidate", "frame", "pts_s", "psnr_y", "ssim_y", "vmaf", "type", "quantizer"])
    for result in comparison.results:
        for index in range(len(result.quality)):
            quantizer = result.quantizers[index]
            writer.writerow(
                [
                    readable(result.name),
                    result.indices[index],
                    f"{result.times[index]:.6f}",
                    f"{result.quality.psnr[index]:.6f}",
                    f"{result.quality.ssim[index]:.8f}",
                    "" if result.vmaf is None else f"{result.vmaf[index]:.6f}",
                    result.kinds[index],
                    "" if quantizer is None else f"{quantizer:.3f}",
                ]
            )
    return text.getvalue()


def comparison_json(comparison: Comparison) -> dict[str, Any]:
    """The schema of docs/compare.md."""
    reference = comparison.reference
    return {
        "reference": {
            "path": str(reference.path),
            "stream": reference.chosen.stream,
            "frames": reference.frames,
            "width": reference.width,
            "height": reference.height,
            "damaged_packets": reference.damage.packets,
            "concealed_frames": reference.damage.frames,
        },
        "candidates": [_result_json(result) for result in comparison.results],
    }


def _result_json(result: Result) -> dict[str, Any]:
    return {
        "name": result.name,
        "path": str(result.candidate.path),
        "stream": result.candidate.chosen.stream,
        "method": result.candidate.method.name,
        "psnr_y": summary(result.quality.psnr),
        "ssim_y": summary(result.quality.ssim),
        "vmaf": None if result.vmaf is None else summary(result.vmaf),
        "frames": len(result.quality),
        "identical": result.quality.identical,
        "unmatched": {"reference": result.unmatched.reference, "candidate": result.unmatched.candidate},
        "damaged_packets": result.damage.packets,
        "concealed_frames": result.damage.frames,
        "bit_rate": result.bit_rate,
        "per_frame": {
            "pts_s": result.times.tolist(),
            "psnr_y": result.quality.psnr.tolist(),
            "ssim_y": result.quality.ssim.tolist(),
            "vmaf": None if result.vmaf is None else result.vmaf.tolist(),
            "type": result.kinds,
            "quantizer": result.quantizers,
        },
    }
