"""Found objects as arrays, how much boxes overlap, and the removal of repeated findings."""

import dataclasses

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
Integers = NDArray[np.int64]

#: Two boxes of one class that overlap more than this are one object found twice: what YOLOX and Ultralytics take.
NMS_IOU = 0.45


@dataclasses.dataclass(frozen=True)
class Detections:
    """The objects of one frame, highest scores first."""

    boxes: Floats  # [N, 4]: left, top, right, bottom in pixels of the frame
    scores: Floats  # [N], 0 to 1
    classes: Integers  # [N]

    def __len__(self) -> int:
        return len(self.scores)

    def __getitem__(self, which: NDArray[np.bool_] | Integers | slice) -> "Detections":
        return Detections(self.boxes[which], self.scores[which], self.classes[which])

    def above(self, score: float) -> "Detections":
        """Those with at least this score."""
        return self[self.scores >= score]


def overlaps(boxes: Floats, others: Floats) -> Floats:
    """Intersection over union of every pair, `[N, 4]` and `[M, 4]` to `[N, M]`; 0 for boxes without area."""
    low = np.maximum(boxes[:, None, :2], others[None, :, :2])
    high = np.minimum(boxes[:, None, 2:], others[None, :, 2:])
    shared = np.prod(np.clip(high - low, 0, None), axis=2)
    union = _areas(boxes)[:, None] + _areas(others)[None] - shared
    result: Floats = np.divide(shared, union, out=np.zeros_like(shared), where=union > 0)
    return result


def _areas(boxes: Floats) -> Floats:
    areas: Floats = np.prod(np.clip(boxes[:, 2:] - boxes[:, :2], 0, None), axis=1)
    return areas


def without_repeats(found: Detections, limit: float = NMS_IOU) -> Detections:
    """Greedy non-maximum suppression, class by class: of boxes that overlap more than `limit` the best one stays."""
    found = found[np.argsort(-found.scores, kind="stable")]
    kept = np.zeros(len(found), np.bool_)
    for number in np.unique(found.classes):
        waiting = np.nonzero(found.classes == number)[0]
        while len(waiting):
            best, rest = waiting[0], waiting[1:]
            kept[best] = True
            waiting = rest[overlaps(found.boxes[best : best + 1], found.boxes[rest])[0] <= limit]
    return found[kept]
