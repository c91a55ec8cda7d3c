"""A detector on the clips of a dataset, as one of the meters of `carfix evaluate`.

A dataset has no colour: the detector is shown gray pictures, their luma taken to be of the limited range, pristine and
compressed alike.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from carfix.quality.detection.agreement import TRUTH_SCORE, Agreement
from carfix.quality.detection.boxes import NMS_IOU, Detections
from carfix.quality.detection.detector import CANDIDATE_SCORE, Detector
from carfix.quality.detection.frames import gray_picture
from carfix.quality.meters import Pair
from carfix.quality.reader import LumaFrame


class Truth:
    """What a detector finds in pristine frames, looked for once for all methods and variants."""

    def __init__(self, detector: Detector) -> None:
        self.detector = detector
        self._found: dict[Path, dict[int, Detections]] = defaultdict(dict)

    def of(self, clip: Path, frame: LumaFrame) -> Detections:
        """The findings of `TRUTH_SCORE` and above in a frame of the file `clip`."""
        known = self._found[clip]
        if frame.index not in known:
            known[frame.index] = self.look(frame).above(TRUTH_SCORE)
        return known[frame.index]

    def look(self, frame: LumaFrame) -> Detections:
        """All findings in a frame."""
        return self.detector.detect(gray_picture(frame.luma, frame.bit_depth))


class AgreementMeter:
    """Matches of the findings on shown frames with those on the frames of the file `clip`; see `Agreement`."""

    def __init__(self, truth: Truth, clip: Path) -> None:
        self._truth = truth
        self._clip = clip
        self._agreement = Agreement()

    def identity(self) -> Mapping[str, object]:
        """See `Meter`."""
        return {"detector": [self._truth.detector.identity, TRUTH_SCORE, CANDIDATE_SCORE, NMS_IOU]}

    def add(self, pairs: Sequence[Pair]) -> None:
        """See `Meter`."""
        for pristine, shown in pairs:
            self._agreement.add(self._truth.of(self._clip, pristine), self._truth.look(shown))

    def record(self) -> dict[str, Any]:
        """See `Meter`."""
        return self._agreement.to_record()

    def check(self, record: Mapping[str, Any]) -> None:
        """See `Meter`."""
        Agreement.from_record(record)


def detector_json(detector: Detector) -> dict[str, Any]:
    """Which detector measured, and what it counts."""
    return {
        "path": str(detector.path),
        "sha256": detector.sha256,
        "width": detector.width,
        "height": detector.height,
        "candidate_score": CANDIDATE_SCORE,
        "truth_score": TRUTH_SCORE,
    }
