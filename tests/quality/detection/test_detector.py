import sys
from pathlib import Path

import numpy as np
import pytest
from quality.detection.detectors import write_detector, write_graph

from carfix.errors import EXIT_MISSING_PART, CarfixError, MissingPartError
from carfix.quality.detection.classes import COCO
from carfix.quality.detection.decoding import Layout, recognised
from carfix.quality.detection.detector import Detector
from carfix.quality.detection.letterbox import FILL, letterbox

pytest.importorskip("onnx", reason="the extra export is not installed")
pytest.importorskip("onnxruntime", reason="the extra detect is not installed")

SHARED = Path(__file__).resolve().parents[4] / "shared/data"


def scene(width: int, height: int) -> np.ndarray:
    """Black, with a red block of 16x16 at (32, 16) and a blue one at (64, 32)."""
    frame = np.zeros((height, width, 3), np.uint8)
    frame[16:32, 32:48, 0] = 204
    frame[32:48, 64:80, 2] = 255
    return frame


@pytest.mark.parametrize("family", ["yolox", "ultralytics"])
def test_boxes_and_classes_are_of_the_frame(family: str, tmp_path: Path) -> None:
    detector = Detector(write_detector(tmp_path / "d.onnx", family))  # type: ignore[arg-type]
    assert (detector.width, detector.height) == (96, 64)
    assert detector.names is COCO
    # Twice the detector's size, and less high: cells of 8 are 16 pixels of the frame.
    found = detector.detect(scene(192, 96))
    # Ultralytics centres the frame, with bars of 8 pixels above and below; those grey cells lie outside of it.
    assert [detector.names[number] for number in found.classes] == ["car", "person"]
    assert found.boxes.tolist() == [[64, 32, 80, 48], [32, 16, 48, 32]]
    assert found.scores == pytest.approx([1, 0.8], abs=1e-5)
    assert len(detector.detect(np.zeros((96, 192, 3), np.uint8))) == 0


def test_letterbox_is_that_of_each_family() -> None:
    rng = np.random.default_rng(0)
    frame = rng.integers(0, 256, (45, 101, 3), dtype=np.uint8)
    boxed = letterbox(frame, width=64, height=64, centred=False)
    # 64/101 of 45 rows are 28.51: YOLOX cuts, Ultralytics rounds.
    assert (boxed.left, boxed.top) == (0, 0)
    assert (boxed.picture[28:] == FILL).all() and not (boxed.picture[27] == FILL).all()
    centred = letterbox(frame, width=64, height=64, centred=True)
    assert centred.top == 17 and centred.left == 0
    assert (centred.picture[:17] == FILL).all() and (centred.picture[17 + 29 :] == FILL).all()
    # Bilinear between pixel centres, without smoothing: what OpenCV's INTER_LINEAR does.
    from skimage.transform import resize

    expected = resize(frame, (28, 64), order=1, mode="edge", anti_aliasing=False, preserve_range=True)
    assert np.abs(boxed.picture[:28] - expected).max() <= 0.51
    same = letterbox(frame, width=101, height=45, centred=False)
    assert (same.picture == frame).all() and same.ratio == 1


def test_yolox_is_decoded_by_grid_and_stride() -> None:
    layout = recognised((1, 21, 85), 32, 32)
    assert layout == Layout("yolox", 80, 32, 32)
    rows = np.zeros((1, 21, 85), np.float32)
    # Cell 6 of the grid of 4x4 is column 2, row 1; 16 is the first of 2x2; 20 the one of 32x32.
    rows[0, 6, :5] = 0.25, 0.5, np.log(2), np.log(3), 0.5
    rows[0, 6, 5 + 7] = 0.8
    rows[0, 17, :5] = 0.5, 0.5, 0, 0, 1
    rows[0, 20, :5] = 0.5, 0.5, 0, np.log(0.5), 1
    boxes, scores = layout.decode(rows)
    assert boxes[6].tolist() == pytest.approx([18 - 8, 12 - 12, 18 + 8, 12 + 12], abs=1e-4)
    assert boxes[17].tolist() == pytest.approx([16, 0, 32, 16])
    assert boxes[20].tolist() == pytest.approx([0, 8, 32, 24])
    assert scores[6, 7] == pytest.approx(0.4) and scores[6].sum() == pytest.approx(0.4)


def test_layouts_are_told_apart_by_shape() -> None:
    assert recognised((1, 84, 21), 32, 32) == Layout("ultralytics", 80, 32, 32)
    assert recognised((1, 5, 21), 32, 32) == Layout("ultralytics", 1, 32, 32)
    # YOLOv5 has three boxes a cell; a batch is not a picture; four numbers are no class.
    for shape in ((1, 63, 85), (2, 21, 85), (1, 21), (1, 4, 21), (1, 21, 5)):
        assert recognised(shape, 32, 32) is None


def test_names_come_from_the_file_where_it_states_them(tmp_path: Path) -> None:
    stated = str({number: f"thing {number}" for number in range(80)})
    path = write_detector(tmp_path / "d.onnx", "ultralytics", metadata={"names": stated})
    assert Detector(path).names[79] == "thing 79"
    path = write_detector(tmp_path / "odd.onnx", metadata={"names": "__import__('os')"})
    assert Detector(path).names is COCO


def test_what_is_no_detector_is_one_clear_error(tmp_path: Path) -> None:
    from onnx import helper

    def refused(path: Path, match: str) -> None:
        with pytest.raises(CarfixError, match=match) as caught:
            Detector(path)
        assert "\n" not in str(caught.value)

    refused(tmp_path / "missing.onnx", r"cannot read the detector .*missing\.onnx: No such file")
    refused(tmp_path, "cannot read the detector")
    text = tmp_path / "text.onnx"
    text.write_text("not a network")
    refused(text, r"text\.onnx is no ONNX file")
    text.write_bytes(b"")
    refused(text, r"text\.onnx is no ONNX file")
    same = [helper.make_node("Identity", ["images"], ["output"])]
    refused(write_graph(tmp_path / "a.onnx", same, [1, 1, 32, 32], [1, 1, 32, 32]), "one colour picture")
    refused(
        write_graph(tmp_path / "b.onnx", same, [1, 3, 32, 32], [1, 3, 32, 32]),
        "its output is 1x3x32x32; known are",
    )
    free = [1, 3, "height", "width"]
    refused(write_graph(tmp_path / "c.onnx", same, free, free), "no fixed size")
    refused(write_detector(tmp_path / "e.onnx", log_size=64.0), "without --decode_in_inference")
    four = [4, 3, 32, 32]
    refused(write_graph(tmp_path / "f.onnx", same, four, four), "takes 4 pictures at once")


def test_what_has_other_numbers_behind_its_boxes_is_refused(tmp_path: Path) -> None:
    """Key points, masks and angles: they were taken for scores of further classes, 40 and more at times."""
    for name in ("pose", "segment", "obb"):
        other = write_detector(tmp_path / "t.onnx", "ultralytics", metadata={"task": name})
        with pytest.raises(CarfixError, match=rf"Ultralytics' task '{name}'; export one of 'detect'"):
            Detector(other)
    Detector(write_detector(tmp_path / "d.onnx", "ultralytics", metadata={"task": "detect"}))
    for gain, numbers in ((9.0, "from 0 to 4.02"), (-1.0, "from -0.447 to 0")):
        with pytest.raises(CarfixError, match=rf"should be scores runs {numbers}"):
            Detector(write_detector(tmp_path / "s.onnx", "ultralytics", gain=gain))


def test_numbers_in_another_file_are_told_with_the_cure(tmp_path: Path) -> None:
    """As PyTorch exports them. onnxruntime looks for that file in the working directory, and finds another's there."""
    import onnx

    split, whole = tmp_path / "split.onnx", tmp_path / "whole.onnx"
    model = onnx.load(write_detector(tmp_path / "d.onnx"))
    onnx.save(model, split, save_as_external_data=True, location="split.onnx.data", size_threshold=64)
    with pytest.raises(CarfixError, match=r"lie in another file, split\.onnx\.data; .*onnx\.save"):
        Detector(split)
    onnx.save(onnx.load(split), whole)
    assert len(Detector(whole).detect(scene(96, 64))) == 8


def test_without_onnxruntime_the_cure_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_detector(tmp_path / "d.onnx")
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(MissingPartError, match=r'pip install "carfix\[detect\]"') as caught:
        Detector(path)
    assert caught.value.exit_code == EXIT_MISSING_PART


def test_an_onnxruntime_that_cannot_be_loaded_is_not_one_that_is_not_installed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who has installed it would be told to install it."""
    broken = tmp_path / "onnxruntime"
    broken.mkdir()
    (broken / "__init__.py").write_text("raise ImportError('DLL load failed')", encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "onnxruntime", raising=False)
    with pytest.raises(MissingPartError, match=r"onnxruntime \(DLL load failed\)"):
        Detector(write_detector(tmp_path / "d.onnx"))


def test_yolox_nano_finds_the_cars_of_a_motorway() -> None:
    path = SHARED / "detector/yolox_nano.onnx"
    if not path.exists():
        pytest.skip("../shared/data/detector/yolox_nano.onnx is not here")
    from carfix.quality.detection.frames import colour_picture
    from carfix.quality.reader import read_frames

    clip = Path(__file__).resolve().parents[2] / "data/highway_pristine.mp4"
    detector = Detector(path)
    found = detector.detect(colour_picture(next(read_frames(clip)))).above(0.5)
    assert {"car", "truck"} & {detector.names[number] for number in found.classes}
    assert (found.boxes[:, 2:] > found.boxes[:, :2]).all() and found.boxes.min() >= 0
