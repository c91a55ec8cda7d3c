"""Small ONNX detectors that tests make for themselves: bright cells of the finest grid are objects."""

from pathlib import Path
from typing import Literal

import numpy as np

from carfix.quality.detection.decoding import STRIDES

#: Side of a found box in the detector's input, pixels.
CELL = STRIDES[0]


def write_detector(
    path: Path,
    family: Literal["yolox", "ultralytics"] = "yolox",
    *,
    width: int = 96,
    height: int = 64,
    metadata: dict[str, str] | None = None,
    log_size: float = 0.0,
    gain: float = 1.0,
) -> Path:
    """A detector whose boxes are the 8x8 cells: class 0 (person) by a cell's red, class 2 (car) by its blue.

    The score is the colour's mean code over 255, times `gain`. Its input is BGR codes for YOLOX and RGB in [0, 1] for
    Ultralytics, as those take it.
    """
    import onnx
    from onnx import helper, numpy_helper

    cells = sum((width // stride) * (height // stride) for stride in STRIDES)
    fine = (width // CELL) * (height // CELL)
    y, x = np.mgrid[: height // CELL, : width // CELL]
    boxes = np.zeros((1, 4 if family == "ultralytics" else 5, cells), np.float32)
    if family == "ultralytics":
        boxes[0, :2, :fine] = CELL * (np.stack([x.ravel(), y.ravel()]) + 0.5)
        boxes[0, 2:4] = CELL
    else:
        boxes[0, :2] = 0.5  # of a cell
        boxes[0, 2:4] = log_size  # 0: the logarithm of one cell
        boxes[0, 4] = 1  # an object
    red, blue = (0, 2) if family == "ultralytics" else (2, 0)
    constants = {
        "boxes": boxes,
        "fine": np.array([1, 3, fine]),
        "coarse": np.zeros((1, 3, cells - fine), np.float32),
        "scale": np.array(gain if family == "ultralytics" else gain / 255, np.float32),
        "red": np.array([red]),
        "blue": np.array([blue]),
        "one": np.zeros((1, 1, cells), np.float32),
        "others": np.zeros((1, 77, cells), np.float32),
    }
    nodes = [
        helper.make_node("AveragePool", ["images"], ["pooled"], kernel_shape=[CELL] * 2, strides=[CELL] * 2),
        helper.make_node("Reshape", ["pooled", "fine"], ["flat"]),
        helper.make_node("Mul", ["flat", "scale"], ["scaled"]),
        helper.make_node("Concat", ["scaled", "coarse"], ["colours"], axis=2),
        helper.make_node("Gather", ["colours", "red"], ["person"], axis=1),
        helper.make_node("Gather", ["colours", "blue"], ["car"], axis=1),
        helper.make_node("Concat", ["boxes", "person", "one", "car", "others"], ["columns"], axis=1),
    ]
    shape = [1, boxes.shape[1] + 80, cells]
    if family == "yolox":
        nodes.append(helper.make_node("Transpose", ["columns"], ["output"], perm=[0, 2, 1]))
        shape = [1, cells, boxes.shape[1] + 80]
    else:
        nodes.append(helper.make_node("Identity", ["columns"], ["output"]))
    write_graph(
        path,
        nodes,
        [1, 3, height, width],
        shape,
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
        metadata,
    )
    assert onnx.checker.check_model(str(path)) is None
    return path


def write_graph(
    path: Path,
    nodes: list[object],
    taken: list[int | str],
    given: list[int | str],
    constants: list[object] = [],  # noqa: B006 - never written to
    metadata: dict[str, str] | None = None,
) -> Path:
    """An ONNX file with the input `images` and the output `output`."""
    from onnx import TensorProto, helper

    graph = helper.make_graph(
        nodes,
        "detector",
        [helper.make_tensor_value_info("images", TensorProto.FLOAT, taken)],
        [helper.make_tensor_value_info("output", TensorProto.FLOAT, given)],
        constants,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    helper.set_model_props(model, metadata or {})
    path.write_bytes(model.SerializeToString())
    return path
