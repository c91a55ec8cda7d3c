"""What `carfix detect` found, as a table for a terminal and as JSON."""

from typing import Any

from rich.table import Table

from carfix import __version__
from carfix.quality.detection.agreement import TRUTH_SCORE
from carfix.quality.detection.average_precision import Precision
from carfix.quality.detection.dataset import detector_json
from carfix.quality.detection.detect import Detected, Tally
from carfix.quality.names import heading, literal

MISSING = "-"


def detected_table(detected: Detected) -> Table:
    """A row a class, then all of them, and with a reference the agreement with it."""
    table = Table(title=heading(_title(detected)), title_justify="left")
    table.add_column("")
    for side in ("decoded", detected.model):
        table.add_column(literal(side), justify="right")
        table.add_column("mean score", justify="right")
    for name in detected.classes():
        table.add_row(literal(name), *_cells(detected.before, name), *_cells(detected.after, name))
    table.add_section()
    table.add_row("all", *_cells(detected.before), *_cells(detected.after))
    if detected.reference is not None:
        before, after = detected.precision() or (None, None)
        for label, metric in (("mAP@0.5", "map50"), ("mAP@[.5:.95]", "map")):
            table.add_row(label, _number(before, metric), "", _number(after, metric), "")
    return table


def _title(detected: Detected) -> str:
    return f"{detected.source.name}: {detected.frames} frames, detections with a score of {detected.score:g} or more"


def detected_notes(detected: Detected) -> list[str]:
    """What a reader must know beside the numbers."""
    files = [(detected.source, detected.damage)]
    if detected.reference is not None:
        files.append((detected.reference, detected.reference_damage))
    lines = [note for chosen in detected.chosen if (note := chosen.note())]
    lines += [f"{path.name}: {damage}" for path, damage in files if str(damage)]
    if detected.reference is None:
        return lines
    truths = detected.before.agreement.truths
    line = f"true is what the detector finds in {detected.reference.name} with a score of {TRUTH_SCORE} or more: "
    line += f"{truths} boxes, not labels" if truths else "nothing, so that there is no mAP"
    return [*lines, line]


def _cells(tally: Tally, name: str | None = None) -> list[str]:
    mean = tally.mean_score(name)
    return [str(tally.count(name)), MISSING if mean is None else f"{mean:.3f}"]


def _number(precision: Precision | None, metric: str) -> str:
    return MISSING if precision is None else f"{getattr(precision, metric):.3f}"


def detected_json(detected: Detected) -> dict[str, Any]:
    """The schema of docs/detect.md."""
    document: dict[str, Any] = {
        "carfix": __version__,
        "clip": str(detected.source),
        "stream": detected.chosen[0].stream,
        "output": None if detected.output is None else str(detected.output),
        "model": detected.model,
        "detector": detector_json(detected.detector),
        "score": detected.score,
        "frames": detected.frames,
        "damaged_packets": detected.damage.packets,
        "concealed_frames": detected.damage.frames,
        "before": _side_json(detected.before),
        "after": _side_json(detected.after),
    }
    if detected.reference is not None:
        document["reference"] = {
            "path": str(detected.reference),
            "truths": detected.before.agreement.truths,
            "damaged_packets": detected.reference_damage.packets,
            "concealed_frames": detected.reference_damage.frames,
        }
        before, after = detected.precision() or (None, None)
        for side, precision in (("before", before), ("after", after)):
            document[side] |= {metric: getattr(precision, metric, None) for metric in ("map50", "map")}
    return document


def _side_json(tally: Tally) -> dict[str, Any]:
    return {
        "detections": tally.count(),
        "mean_score": tally.mean_score(),
        "classes": {
            name: {"detections": tally.count(name), "mean_score": tally.mean_score(name)}
            for name in sorted(tally.scores)
        },
    }
