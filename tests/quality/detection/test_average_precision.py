import numpy as np
import pytest

from carfix.quality.detection.agreement import Agreement
from carfix.quality.detection.average_precision import average_precision, mean_average_precision
from carfix.quality.detection.boxes import Detections, overlaps, without_repeats
from carfix.quality.detection.matching import IOU_THRESHOLDS, Matches, match


def detections(*rows: tuple[float, float, float, float, float, int]) -> Detections:
    """Rows of left, top, right, bottom, score, class."""
    table = np.array(rows, np.float32).reshape(-1, 6)
    return Detections(table[:, :4], table[:, 4], table[:, 5].astype(np.int64))


@pytest.mark.parametrize(
    ("hits", "truths", "expected"),
    [
        ([True], 1, 1.0),
        ([], 3, 0.0),
        ([False, False], 1, 0.0),
        # Recall 0.5 at precision 1, then 1.0 at 2/3: the recalls 0 to 0.50 are 51 of the 101.
        ([True, False, True], 2, (51 + 50 * 2 / 3) / 101),
        # Never beyond recall 0.5.
        ([True], 2, 51 / 101),
        # A first miss is forgotten as soon as the precision rises: 1/2, then 2/3 holds for every recall.
        ([False, True, True], 2, 2 / 3),
    ],
)
def test_average_precision_of_cases_worked_out_by_hand(
    hits: list[bool], truths: int, expected: float
) -> None:
    scores = np.linspace(0.9, 0.1, len(hits))
    flags = np.array(hits, np.bool_)
    assert average_precision(scores, flags, truths) == pytest.approx(expected)
    # The order in which they are given does not matter, only the scores do.
    assert average_precision(scores[::-1], flags[::-1], truths) == pytest.approx(expected)


def test_map_is_the_mean_over_classes_with_a_truth_and_over_overlaps() -> None:
    truth = detections((0, 0, 10, 10, 0.9, 0), (20, 0, 30, 10, 0.9, 2))
    # The person overlaps by 62 %: a hit at 0.50, 0.55 and 0.60. The car is exact. There is no true dog.
    found = detections((0, 0, 6.2, 10, 0.8, 0), (20, 0, 30, 10, 0.7, 2), (0, 0, 10, 10, 0.99, 16))
    precision = mean_average_precision(match(truth, found))
    assert precision is not None
    assert precision.map50 == pytest.approx(1)
    assert precision.map == pytest.approx((0.3 + 1) / 2)
    assert mean_average_precision(match(detections(), found)) is None


def test_a_true_box_is_taken_once_by_the_best_score() -> None:
    truth = detections((0, 0, 10, 10, 1, 0), (100, 0, 110, 10, 1, 0))
    # The sure one overlaps less than the second, which finds the same object again; the last one is of another class.
    found = detections((0, 0, 8, 10, 0.6, 0), (0, 0, 6, 10, 0.9, 0), (100, 0, 110, 10, 0.5, 1))
    matches = match(truth, found)
    assert matches[0].truths == 2 and matches[1].truths == 0
    assert matches[0].scores.tolist() == pytest.approx([0.9, 0.6])
    assert matches[0].hits[0].tolist() == [True, False]  # at 0.50
    # From 0.65 on the sure one is no hit, and leaves the box to the other.
    level = IOU_THRESHOLDS.tolist().index(np.float32(0.65))
    assert matches[0].hits[level].tolist() == [False, True]
    assert not matches[0].hits[-1].any()
    assert not matches[1].hits.any()


def test_a_finding_takes_the_box_that_it_overlaps_most() -> None:
    truth = detections((0, 0, 10, 10, 1, 0), (1, 0, 11, 10, 1, 0))
    found = detections((1, 0, 11, 10, 0.9, 0), (0, 0, 10, 10, 0.8, 0))
    assert match(truth, found)[0].hits.all()


def test_frames_of_many_clips_are_ranked_together() -> None:
    box = (0, 0, 10, 10)
    first, second = Agreement(), Agreement()
    first.add(detections((*box, 0.9, 0)), detections((*box, 0.3, 0)))
    second.add(detections((*box, 0.5, 0)), detections((50, 50, 60, 60, 0.6, 0)))
    second.add(detections((*box, 0.49, 0)), detections((*box, 0.2, 0)))  # too uncertain to be true
    assert first.precision() == mean_average_precision(
        {0: Matches(1, np.ones(1, np.float32), np.ones((10, 1), bool))}
    )
    pooled = Agreement.pooled([first, second])
    assert (pooled.frames, pooled.truths) == (3, 2)
    # Ranked: miss 0.6, hit 0.3, miss 0.2: precision 1/2 up to recall 0.5.
    found = pooled.precision()
    assert found is not None and found.map50 == pytest.approx(51 / 2 / 101)
    again = Agreement.from_record(pooled.to_record())
    assert again.precision() == found and again.frames == 3
    assert again.to_record() == pooled.to_record()


def test_overlaps_and_repeats() -> None:
    boxes = detections(
        (0, 0, 10, 10, 0.5, 0), (0, 0, 10, 5, 0.9, 0), (5, 5, 15, 15, 0.7, 0), (0, 0, 10, 10, 0.4, 1)
    )
    shared = overlaps(boxes.boxes, boxes.boxes)
    assert shared[0, 1] == pytest.approx(0.5) and shared[0, 2] == pytest.approx(25 / 175)
    assert np.diag(shared) == pytest.approx(1)
    assert overlaps(np.zeros((1, 4), np.float32), boxes.boxes).tolist() == [[0, 0, 0, 0]]
    # The first is the second again; of another class it may stay.
    kept = without_repeats(boxes)
    assert kept.scores.tolist() == pytest.approx([0.9, 0.7, 0.4])
    assert kept.classes.tolist() == [0, 0, 1]
