"""Which found boxes hit a true one: COCO's greedy matching, for all of its overlap thresholds at once.

After `COCOeval.evaluateImg` of pycocotools (Lin et al., "Microsoft COCO", ECCV 2014), without crowds and areas.
"""

import dataclasses

import numpy as np
from numpy.typing import NDArray

from carfix.quality.detection.boxes import Detections, Floats, overlaps

#: Intersection over union from which a box is a hit: 0.50, 0.55, ..., 0.95.
IOU_THRESHOLDS: Floats = (np.arange(50, 100, 5) / 100).astype(np.float32)

#: Most findings of one class that count in a frame.
MOST_FINDINGS = 100


@dataclasses.dataclass(frozen=True)
class Matches:
    """Findings of one class, in one frame or many."""

    truths: int  # number of true boxes
    scores: Floats  # [D], of the findings
    hits: NDArray[np.bool_]  # [T, D]: whether a finding hit a true box, at each of `IOU_THRESHOLDS`

    @classmethod
    def joined(cls, parts: "list[Matches]") -> "Matches":
        """All findings of `parts`, in their order."""
        return cls(
            truths=sum(part.truths for part in parts),
            scores=np.concatenate([part.scores for part in parts]),
            hits=np.concatenate([part.hits for part in parts], axis=1),
        )


def match(truth: Detections, found: Detections) -> dict[int, Matches]:
    """The findings of one frame against its true boxes, by class.

    The best finding takes the true box that it overlaps most, if by the threshold at least; a true box is taken
    once, and what finds it again is a miss.
    """
    result = {}
    for number in sorted({*truth.classes.tolist(), *found.classes.tolist()}):
        true = truth[truth.classes == number]
        ours = found[found.classes == number]
        ours = ours[np.argsort(-ours.scores, kind="stable")[:MOST_FINDINGS]]
        result[number] = Matches(
            truths=len(true), scores=ours.scores, hits=_hits(overlaps(ours.boxes, true.boxes))
        )
    return result


def _hits(shared: Floats) -> NDArray[np.bool_]:
    """`[T, D]` from the overlaps `[D, G]` of findings, best first, with true boxes."""
    levels = np.arange(len(IOU_THRESHOLDS))
    hits = np.zeros((len(levels), len(shared)), np.bool_)
    if not shared.shape[1]:
        return hits
    free = np.ones((len(levels), shared.shape[1]), np.bool_)
    for index, row in enumerate(shared):
        left = np.where(free, row, np.float32(-1))
        nearest = left.argmax(axis=1)
        hits[:, index] = left[levels, nearest] >= IOU_THRESHOLDS
        free[levels, nearest] &= ~hits[:, index]
    return hits
