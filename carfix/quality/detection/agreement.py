"""How well the findings on shown frames agree with those of the same detector on the pristine frames.

Our clips have no labels. So the truth is what the detector itself is fairly sure of in the pristine pictures: the
numbers say how far compression, and then restoring, moves the detector away from what it would have found. They do
not say how many objects there are.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from carfix.quality.detection.average_precision import Precision, mean_average_precision
from carfix.quality.detection.boxes import Detections
from carfix.quality.detection.matching import IOU_THRESHOLDS, Matches, match

#: What the detector finds in a pristine frame with at least this score is taken for true.
TRUTH_SCORE = 0.5

#: Scores are kept in this unit, so that a result from a cache is the one that was measured.
SCORE_UNIT = 1e-4
_BITS = 1 << np.arange(len(IOU_THRESHOLDS))


class Agreement:
    """Matches by class over frames; add frame by frame, or join those of many clips."""

    def __init__(self) -> None:
        self.frames = 0
        self._parts: dict[int, list[Matches]] = defaultdict(list)

    def add(self, pristine: Detections, shown: Detections) -> None:
        """A frame's findings; of the pristine ones those of `TRUTH_SCORE` and above count."""
        self.frames += 1
        for number, found in match(pristine.above(TRUTH_SCORE), shown).items():
            self._parts[number].append(found)

    @classmethod
    def pooled(cls, parts: "Iterable[Agreement]") -> "Agreement":
        """All frames of `parts` together."""
        result = cls()
        for part in parts:
            result.frames += part.frames
            for number, found in part._parts.items():
                result._parts[number] += found
        return result

    @property
    def truths(self) -> int:
        """Number of true boxes."""
        return sum(found.truths for found in self._classes().values())

    def precision(self) -> Precision | None:
        """Mean average precision; None if the truth is empty."""
        return mean_average_precision(self._classes())

    def _classes(self) -> dict[int, Matches]:
        return {number: Matches.joined(parts) for number, parts in sorted(self._parts.items())}

    def to_record(self) -> dict[str, Any]:
        """For a cache: hits as a bit for each threshold."""
        return {
            "frames": self.frames,
            "classes": {
                str(number): {
                    "truths": found.truths,
                    "scores": np.rint(found.scores / SCORE_UNIT).astype(int).tolist(),
                    "hits": (_BITS @ found.hits).tolist(),
                }
                for number, found in self._classes().items()
            },
        }

    @classmethod
    def from_record(cls, record: Mapping[str, Any]) -> "Agreement":
        """What `to_record` wrote. Raises `ValueError` for anything else."""
        result = cls()
        try:
            result.frames = int(record["frames"])
            for number, found in record["classes"].items():
                hits = np.array(found["hits"], np.int64)[None] & _BITS[:, None] != 0
                scores = (np.array(found["scores"], np.float64) * SCORE_UNIT).astype(np.float32)
                result._parts[int(number)].append(Matches(int(found["truths"]), scores, hits))
        except (KeyError, TypeError, AttributeError, OverflowError) as error:
            raise ValueError(f"no record of findings: {error}") from error
        return result
