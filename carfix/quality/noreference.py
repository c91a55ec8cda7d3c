"""What can be said of a file without a pristine reference: quantizers, blockiness, and pictures before and after."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from rich.table import Table

from carfix.errors import CarfixError
from carfix.progress import OnProgress, silent
from carfix.quality.blockiness import blockiness
from carfix.quality.chosen import Chosen, choose
from carfix.quality.damage import Damage
from carfix.quality.methods import Restored
from carfix.quality.metrics import Numbers
from carfix.quality.names import literal
from carfix.quality.reader import Wanted, read_frames, select

#: Frames that are restored, evenly over the file: enough to judge by, soon done on a CPU.
SAMPLES = 12


@dataclasses.dataclass(frozen=True, kw_only=True)
class Assessment:
    """One file; arrays of one entry a frame, or one a restored sample."""

    chosen: Chosen  # the video of the file
    width: int
    height: int
    indices: list[int]  # numbers of the frames in the file
    times: Numbers  # seconds; numbers of the frames where the file states no times
    kinds: list[str]
    quantizers: list[float | None]
    blockiness: Numbers
    samples: list[int]  # places of the restored frames in these arrays
    restored_blockiness: Numbers
    restored: Restored
    damage: Damage  # what the decoder met

    @property
    def path(self) -> Path:
        """The file."""
        return self.chosen.path

    @property
    def mean_quantizer(self) -> float | None:
        """Over all frames; None if the decoder exports none."""
        known = [value for value in self.quantizers if value is not None]
        return float(np.mean(known)) if known else None


def assess_video(
    path: Path,
    restored: Restored,
    *,
    wanted: Wanted = None,
    samples: int = SAMPLES,
    stream: str | None = None,
    progress: OnProgress = silent,
) -> Assessment:
    """Decode the `wanted` frames of `path` and restore `samples` of them; `stream` chooses among several videos.

    `progress` is told the samples done. Damaged packets are passed over and counted. Raises `CarfixError` for a file
    that cannot be read or has no such video or frames.
    """
    damage = Damage()
    chosen = choose(path, stream)
    indices, times, kinds, quantizers, grid = [], [], [], [], []
    width = height = 0
    decoded = read_frames(path, stream=chosen.stream, quantizers=True, damage=damage)
    for frame in select(decoded, wanted):
        indices.append(frame.index)
        times.append(float(frame.index) if frame.time is None else frame.time)
        kinds.append(frame.kind)
        quantizers.append(frame.quantizer)
        grid.append(blockiness(frame.luma))
        height, width = frame.luma.shape
    if not indices:
        raise CarfixError(f"{path} has no frames in the range that was asked for")
    count = min(samples, len(indices))
    places = sorted({int(place) for place in np.linspace(0, len(indices) - 1, count)})
    after = []
    numbers = [indices[place] for place in places]
    for frame in restored.frames(path, numbers, Damage(), stream=chosen.stream):
        after.append(blockiness(frame.luma))
        progress(len(after), len(places), f"{restored.name}, {path.name}")
    return Assessment(
        chosen=chosen,
        width=width,
        height=height,
        indices=indices,
        times=np.array(times),
        kinds=kinds,
        quantizers=quantizers,
        blockiness=np.array(grid),
        samples=places,
        restored_blockiness=np.array(after),
        restored=restored,
        damage=damage,
    )


#: Headings of `assessment_row`.
COLUMNS = ("file", "mean quantizer", "blockiness", "restored", "frames", "samples")


def assessment_row(assessment: Assessment) -> list[str]:
    """One row of the table; both blockiness figures are of the restored samples, so that they compare."""
    before = assessment.blockiness[assessment.samples].mean()
    quantizer = assessment.mean_quantizer
    return [
        assessment.path.name,
        "-" if quantizer is None else f"{quantizer:.1f}",
        f"{before:.3f}",
        f"{assessment.restored_blockiness.mean():.3f}",
        str(len(assessment.indices)),
        str(len(assessment.samples)),
    ]


def assessments_table(assessments: Sequence[Assessment]) -> Table:
    """A row a file, for a terminal."""
    table = Table()
    for column in COLUMNS:
        table.add_column(column, justify="left" if column == COLUMNS[0] else "right")
    for assessment in assessments:
        table.add_row(*(literal(text) for text in assessment_row(assessment)))
    return table


def assessment_notes(assessment: Assessment) -> list[str]:
    """What a reader must know beside the numbers."""
    damage = f"{assessment.path.name}: {assessment.damage}" if str(assessment.damage) else ""
    return [*filter(None, (assessment.chosen.note(), damage))]


def assessments_json(assessments: Sequence[Assessment]) -> dict[str, Any]:
    """The schema of docs/compare.md."""
    return {
        "candidates": [
            {
                "name": assessment.path.name,
                "path": str(assessment.path),
                "stream": assessment.chosen.stream,
                "width": assessment.width,
                "height": assessment.height,
                "frames": len(assessment.indices),
                "damaged_packets": assessment.damage.packets,
                "concealed_frames": assessment.damage.frames,
                "model": assessment.restored.name,
                "mean_quantizer": assessment.mean_quantizer,
                "blockiness": {
                    "before": float(assessment.blockiness[assessment.samples].mean()),
                    "after": float(assessment.restored_blockiness.mean()),
                },
                "per_frame": {
                    "pts_s": assessment.times.tolist(),
                    "type": assessment.kinds,
                    "quantizer": assessment.quantizers,
                    "blockiness": assessment.blockiness.tolist(),
                },
                "samples": {
                    "frame": [assessment.indices[place] for place in assessment.samples],
                    "blockiness_after": assessment.restored_blockiness.tolist(),
                },
            }
            for assessment in assessments
        ]
    }
