"""A detector's file computes in torch what onnxruntime computes of it, for batches, and gradients go through it."""

from pathlib import Path

import numpy as np
import pytest
import torch
from quality.detection.detectors import write_detector, write_graph

from carfix.errors import CarfixError, MissingPartError
from carfix.quality.detection.graph import Graph

onnx = pytest.importorskip("onnx", reason="needs carfix[export]")
runtime = pytest.importorskip("onnxruntime", reason="needs carfix[detect]")
helper, numpy_helper = onnx.helper, onnx.numpy_helper

SHARED = Path(__file__).resolve().parents[4] / "shared/data/detector/yolox_nano.onnx"


def constant(name: str, value: list[int] | list[float] | np.ndarray) -> object:
    array = np.asarray(value)
    return numpy_helper.from_array(array.astype(np.int64 if array.dtype.kind == "i" else np.float32), name)


def every_operator(path: Path) -> Path:
    rng = np.random.default_rng(0)

    def weights(*shape: int) -> np.ndarray:
        return rng.normal(0, 0.3, shape).astype(np.float32)

    node = helper.make_node
    nodes = [
        node("Slice", ["images", "from", "to", "axes", "steps"], ["even"]),
        node("Conv", ["even", "w1", "b1"], ["c1"], kernel_shape=[3, 3], pads=[1, 1, 1, 1], strides=[2, 2]),
        node("Sigmoid", ["c1"], ["s1"]),
        node("Mul", ["c1", "s1"], ["m1"]),
        node("Conv", ["m1", "w2"], ["c2"], kernel_shape=[3, 3], pads=[1, 1, 1, 1], group=8),
        node("LeakyRelu", ["c2"], ["l2"], alpha=0.1),
        node("MaxPool", ["l2"], ["p2"], kernel_shape=[5, 5], pads=[2, 2, 2, 2], strides=[1, 1]),
        node("AveragePool", ["p2"], ["a2"], kernel_shape=[2, 2], strides=[2, 2]),
        node("Resize", ["a2", "", "factors"], ["r2"], mode="nearest", nearest_mode="floor",
             coordinate_transformation_mode="asymmetric"),
        node("Concat", ["r2", "l2"], ["k2"], axis=1),
        node("Split", ["k2", "halves"], ["h1", "h2"], axis=1),
        node("Relu", ["h1"], ["h1r"]),
        node("Add", ["h1r", "h2"], ["sum"]),
        node("Constant", [], ["half"], value=numpy_helper.from_array(np.array(0.5, np.float32))),
        node("Sub", ["sum", "half"], ["sub"]),
        node("Div", ["sub", "half"], ["div"]),
        node("Conv", ["div", "w3", "b3"], ["c3"], kernel_shape=[1, 1]),
        node("Reshape", ["c3", "flat"], ["f3"]),
        node("Transpose", ["f3"], ["t3"], perm=[0, 2, 1]),
        node("Softmax", ["t3"], ["soft"], axis=-1),
        node("MatMul", ["soft", "square"], ["mat"]),
        node("Gather", ["mat", "picked"], ["gat"], axis=2),
        node("Identity", ["gat"], ["output"]),
    ]  # fmt: skip
    constants = [
        constant("from", [0, 0]),
        constant("to", [2**31 - 1, 2**31 - 1]),
        constant("axes", [2, 3]),
        constant("steps", [2, 2]),
        constant("w1", weights(8, 3, 3, 3)),
        constant("b1", weights(8)),
        constant("w2", weights(8, 1, 3, 3)),
        constant("factors", [1.0, 1.0, 2.0, 2.0]),
        constant("halves", [8, 8]),
        constant("w3", weights(6, 8, 1, 1)),
        constant("b3", weights(6)),
        constant("flat", [1, 6, 64]),
        constant("square", weights(6, 6)),
        constant("picked", [5, 0, 2]),
    ]
    return write_graph(path, nodes, [1, 3, 32, 32], [1, 64, 3], constants)


def by_onnxruntime(path: Path, pictures: torch.Tensor) -> np.ndarray:
    session = runtime.InferenceSession(str(path))
    return np.concatenate([session.run(None, {"images": one[None].numpy()})[0] for one in pictures])


def test_every_operator_is_onnxruntimes(tmp_path: Path) -> None:
    path = every_operator(tmp_path / "all.onnx")
    graph = Graph(path)
    assert graph.shape == [1, 3, 32, 32]
    pictures = torch.rand(3, 3, 32, 32, requires_grad=True)
    features, output = graph(pictures)
    assert np.abs(output.detach().numpy() - by_onnxruntime(path, pictures.detach())).max() < 1e-5
    assert [feature.shape for feature in features] == [(3, 8, 8, 8)]  # what the last convolution is given
    output.square().sum().backward()
    assert pictures.grad is not None
    assert (pictures.grad.flatten(1).abs().sum(dim=1) > 0).all()


@pytest.mark.parametrize("family", ["yolox", "ultralytics"])
def test_small_detectors_of_both_families(family: str, tmp_path: Path) -> None:
    path = write_detector(tmp_path / "small.onnx", family)  # type: ignore[arg-type]
    pictures = torch.rand(2, 3, 64, 96)
    _, output = Graph(path)(pictures)
    assert np.abs(output.numpy() - by_onnxruntime(path, pictures)).max() < 1e-6


@pytest.mark.skipif(not SHARED.exists(), reason="../shared/data/detector/yolox_nano.onnx is not here")
def test_yolox_nano() -> None:
    graph = Graph(SHARED)
    pictures = torch.rand(2, 3, 416, 416) * 255
    features, output = graph(pictures)
    assert np.abs(output.numpy() - by_onnxruntime(SHARED, pictures)).max() < 1e-3
    assert sorted({feature.shape[2] for feature in features}) == [13, 26, 52]


def test_what_cannot_be_trained_through_is_one_clear_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    nodes = [helper.make_node("Erf", ["images"], ["output"])]
    strange = write_graph(tmp_path / "strange.onnx", nodes, [1, 3, 8, 8], [1, 3, 8, 8])  # type: ignore[arg-type]
    with pytest.raises(CarfixError, match=r"strange.onnx computes with Erf, .*known are Add, .*Transpose"):
        Graph(strange)
    nodes = [helper.make_node("MaxPool", ["images"], ["output"], kernel_shape=[2, 2], pads=[0, 0, 1, 1])]
    lopsided = write_graph(tmp_path / "lopsided.onnx", nodes, [1, 3, 8, 8], [1, 3, 8, 8])  # type: ignore[arg-type]
    with pytest.raises(CarfixError, match="pads one side more"):
        Graph(lopsided)(torch.zeros(1, 3, 8, 8))
    (tmp_path / "text.onnx").write_text("no detector")
    with pytest.raises(CarfixError, match=r"text.onnx is no ONNX file"):
        Graph(tmp_path / "text.onnx")
    with pytest.raises(CarfixError, match="cannot read the detector"):
        Graph(tmp_path / "missing.onnx")
    monkeypatch.setitem(__import__("sys").modules, "onnx", None)
    with pytest.raises(MissingPartError, match=r"carfix\[export\]"):
        Graph(strange)
