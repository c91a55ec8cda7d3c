"""The before/after page of a file that has no reference."""

from pathlib import Path
from typing import Any

import numpy as np

from carfix.quality.damage import Damage
from carfix.quality.methods import Decoded, released
from carfix.quality.noreference import COLUMNS, Assessment, assessment_notes, assessment_row
from carfix.quality.report.page import rounded_quantizers, write_page
from carfix.quality.report.pictures import Pictures, colorspace_of, encoded, rgb

#: Digits of the blockiness that the curves are drawn from, and that readouts show.
CURVE_DIGITS = 4
DIGITS = 3


def write_noreference_report(path: Path, assessment: Assessment) -> None:
    """Write the page of `assessment` to `path`. Raises `CarfixError` if it cannot be written."""
    shown = moments(assessment)
    numbers = [assessment.indices[place] for place in shown]
    columns = []
    for method in (Decoded(), assessment.restored):
        with released(method):
            found = method.frames(
                assessment.path, sorted(set(numbers)), Damage(), stream=assessment.chosen.stream
            )
            frames = list(found)
        columns.append({frame.index: rgb(frame, colorspace_of(frame)) for frame in frames})
    images = encoded([[column[number] for column in columns] for number in numbers])
    write_page(path, page_content(assessment, shown, images))


def moments(assessment: Assessment) -> dict[int, str]:
    """Places of the samples to show: of the worst, the median and the best quality, by the decoder's word.

    Where the decoder exports no quantizers, blockiness tells.
    """
    known = all(assessment.quantizers[place] is not None for place in assessment.samples)
    measure = [
        (assessment.quantizers[place] or 0.0) if known else float(assessment.blockiness[place])
        for place in assessment.samples
    ]
    what = "quantizer" if known else "blockiness"
    order = [assessment.samples[i] for i in np.argsort(measure, kind="stable")]
    found: dict[int, str] = {}
    for place, label in (
        (order[-1], f"highest {what}"),
        (order[len(order) // 2], f"median {what}"),
        (order[0], f"lowest {what}"),
    ):
        found[place] = f"{found[place]}, {label}" if place in found else label
    return found


def page_content(assessment: Assessment, shown: dict[int, str], images: Pictures) -> dict[str, Any]:
    """What the template needs."""
    name = assessment.path.name
    after: list[float | None] = [None] * len(assessment.indices)
    for place, value in zip(assessment.samples, assessment.restored_blockiness, strict=True):
        after[place] = round(float(value), CURVE_DIGITS)
    before = np.round(assessment.blockiness, CURVE_DIGITS).tolist()
    names = ["decoded", assessment.restored.name]
    quantizers = rounded_quantizers(assessment.quantizers)
    return {
        "title": name,
        "subtitle": f"{assessment.width}x{assessment.height}, {len(assessment.indices)} frames, no reference",
        "tables": [
            {"title": "Without a reference", "columns": list(COLUMNS), "rows": [assessment_row(assessment)]}
        ],
        "notes": [
            "Blockiness 1.0: the block grid cannot be told from the rest of the picture.",
            *assessment_notes(assessment),
        ],
        "lossless": images.lossless,
        "data": {
            "names": names,
            "pictures": names,
            "sides": [0, 1],
            "frames": assessment.indices,
            "times": np.round(assessment.times, 4).tolist(),
            "metrics": [{"title": "blockiness", "digits": DIGITS, "curves": [before, after]}],
            "kinds": [assessment.kinds] * 2,
            "quantizers": [quantizers] * 2,
            "moments": [
                {"label": label, "place": place, "pictures": uris}
                for (place, label), uris in zip(shown.items(), images.uris, strict=True)
            ],
        },
    }
