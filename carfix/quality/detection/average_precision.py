"""Average precision as COCO defines it: of one class, and the mean over classes and overlap thresholds.

After `COCOeval.accumulate` of pycocotools: precision made non-increasing over recall, read at 101 recalls.
"""

import dataclasses
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from carfix.quality.detection.matching import Matches

#: The recalls at which precision is read: 0, 0.01, ..., 1.
RECALLS = np.linspace(0, 1, 101)


@dataclasses.dataclass(frozen=True)
class Precision:
    """Mean average precision over the classes that occur in the truth, 0 to 1."""

    map50: float  # a box counts from an overlap of 0.5
    map: float  # mean over the overlaps 0.50, 0.55, ..., 0.95


def average_precision(scores: NDArray[np.floating], hits: NDArray[np.bool_], truths: int) -> float:
    """Of one class at one overlap: `scores` and `hits` are `[D]`, findings of all frames; `truths` is above 0.

    The mean over `RECALLS` of the highest precision that is reached at this recall or a higher one; 0 where the
    findings never reach it.
    """
    order = np.argsort(-scores, kind="stable")
    right = np.cumsum(hits[order])
    recall = right / truths
    precision = right / np.arange(1, len(order) + 1)
    envelope = np.maximum.accumulate(precision[::-1])[::-1]
    places = np.searchsorted(recall, RECALLS, side="left")
    reached = places < len(envelope)
    return float(envelope[places[reached]].sum() / len(RECALLS))


def mean_average_precision(classes: Mapping[int, Matches]) -> Precision | None:
    """Over the classes with a true box at all; None if there is none. Findings of other classes do not count."""
    rows = [
        [average_precision(found.scores, hits, found.truths) for hits in found.hits]
        for found in classes.values()
        if found.truths
    ]
    if not rows:
        return None
    return Precision(map50=float(np.mean([row[0] for row in rows])), map=float(np.mean(rows)))
