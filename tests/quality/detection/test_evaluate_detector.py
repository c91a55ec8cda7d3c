import json
from pathlib import Path

import numpy as np
import pytest
from quality.clips import write_dataset
from quality.detection.detectors import write_detector

from carfix.quality import tables
from carfix.quality.detection.boxes import Detections
from carfix.quality.detection.detector import Detector
from carfix.quality.detection.frames import gray_picture
from carfix.quality.detection.letterbox import Picture
from carfix.quality.evaluate import evaluate_dataset
from carfix.quality.spp import PostFilter

pytest.importorskip("onnx", reason="the extra export is not installed")
pytest.importorskip("onnxruntime", reason="the extra detect is not installed")


class CountingDetector(Detector):
    """Counts the pictures that it is shown."""

    looked = 0

    def detect(self, frame: Picture) -> Detections:
        self.looked += 1
        return super().detect(frame)


@pytest.fixture(scope="module")
def detector(tmp_path_factory: pytest.TempPathFactory) -> CountingDetector:
    return CountingDetector(write_detector(tmp_path_factory.mktemp("detector") / "d.onnx"), device="cpu")


def test_limited_luma_becomes_a_full_gray_picture() -> None:
    luma = np.array([[0, 16, 126, 235, 255]], np.uint8)
    picture = gray_picture(luma, 8)
    assert picture[0, :, 0].tolist() == [0, 0, 128, 255, 255]
    assert (picture == picture[:, :, :1]).all()
    assert (gray_picture(luma.astype(np.uint16) << 2, 10) == picture).all()


def test_agreement_is_measured_for_every_method(tmp_path: Path, detector: CountingDetector) -> None:
    dataset = write_dataset(tmp_path / "dataset", frames=2)
    evaluation = evaluate_dataset(dataset=dataset, spp_best=PostFilter(), detector=detector, cache=False)
    document = json.loads(json.dumps(tables.evaluation_json(evaluation)))
    assert document["detector"]["sha256"] == detector.sha256
    assert document["detector"]["truth_score"] == 0.5
    for name in ("decoded", "spp-best"):
        method = document["methods"][name]
        means = {}
        for metric in ("map50", "map"):
            values = [variant[metric] for variant in method["variants"].values()]
            # The worse the compression, the further the findings are off.
            assert 0 < values[1] < values[0] < 1
            assert method["mean"][metric] == pytest.approx(np.mean(values))
            assert 0 <= method["clips"]["clip1"]["crf41-none"][metric] <= 1
            means[metric] = method["mean"][metric]
        assert means["map"] <= means["map50"]
    gain = document["methods"]["spp-best"]["gain"]["decoded"]["map50"]
    both = (document["methods"][name]["mean"]["map50"] for name in ("spp-best", "decoded"))
    assert gain == pytest.approx(next(both) - next(both)) and gain != 0
    # Pooled over clips: all their findings ranked together, not the mean of their numbers.
    cells = evaluation.cells["decoded"]["crf41-none"]
    agreement = evaluation.pooled("decoded", "crf41-none")
    assert agreement is not None and agreement.agreement is not None
    assert agreement.agreement.truths == sum(cell.agreement.truths for cell in cells.values())  # type: ignore[union-attr]


def test_what_equals_the_pristine_frames_agrees_with_them(tmp_path: Path, detector: CountingDetector) -> None:
    dataset = write_dataset(tmp_path / "dataset", clips=1, crfs=(29,), frames=2)
    pristine = dataset / "clips/clip0/pristine.mkv"
    (dataset / "clips/clip0/crf29-none.mp4").write_bytes(pristine.read_bytes())
    evaluation = evaluate_dataset(dataset=dataset, detector=detector, cache=False)
    found = evaluation.precision("decoded")
    assert found is not None
    assert found.map50 == pytest.approx(1) and found.map == pytest.approx(1)


def test_a_rerun_looks_only_at_what_is_new(
    tmp_path: Path, detector: CountingDetector, monkeypatch: pytest.MonkeyPatch
) -> None:
    dataset = write_dataset(tmp_path / "dataset", clips=1, frames=2)
    evaluate_dataset(dataset=dataset)  # PSNR alone is known
    detector.looked = 0
    first = evaluate_dataset(dataset=dataset, detector=detector)
    assert detector.looked == 2 + 2 * 2  # the pristine frames once, then those of each variant
    again = evaluate_dataset(dataset=dataset, detector=detector)
    assert detector.looked == 6
    assert tables.evaluation_json(again) == tables.evaluation_json(first)
    # Another detector measures anew, and the PSNR is not measured again.
    other = CountingDetector(
        write_detector(tmp_path / "other.onnx", metadata={"made": "again"}), device="cpu"
    )
    monkeypatch.setattr("carfix.quality.meters.measure", None)
    evaluate_dataset(dataset=dataset, detector=other)
    assert other.looked == 6


def test_every_form_of_output_has_the_columns(tmp_path: Path, detector: CountingDetector) -> None:
    dataset = write_dataset(tmp_path / "dataset", clips=1, crfs=(41,), frames=2)
    plain = evaluate_dataset(dataset=dataset)
    assert "map50" not in tables.evaluation_csv(plain) + json.dumps(tables.evaluation_json(plain))
    assert "mAP" not in tables.evaluation_markdown(plain)
    evaluation = evaluate_dataset(dataset=dataset, detector=detector)
    precision = evaluation.precision("decoded")
    assert precision is not None
    header, row = tables.evaluation_csv(evaluation).splitlines()
    assert header.endswith(",map50,map") and row.endswith(f",{precision.map50},{precision.map}")
    markdown = tables.evaluation_markdown(evaluation)
    assert f"| decoded | {precision.map50:.3f} | {precision.map50:.3f} |" in markdown
    assert "not with labels" in markdown


def test_where_nothing_is_found_in_the_pristine_frames_there_is_no_number(tmp_path: Path) -> None:
    dataset = write_dataset(tmp_path / "dataset", clips=1, crfs=(41,), frames=2)
    blind = Detector(write_detector(tmp_path / "blind.onnx", "ultralytics", gain=0.1), device="cpu")
    evaluation = evaluate_dataset(dataset=dataset, detector=blind, cache=False)
    assert evaluation.precision("decoded") is None
    document = tables.evaluation_json(evaluation)
    assert document["methods"]["decoded"]["variants"]["crf41-none"]["map50"] is None
    assert tables.evaluation_csv(evaluation).splitlines()[1].endswith(",,")
    assert "| - |" in tables.evaluation_markdown(evaluation)
