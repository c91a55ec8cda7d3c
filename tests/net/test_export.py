import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from networks import awake_model, save_awake

from carfix.errors import CarfixError, MissingPartError, UsageError
from carfix.net.arch import convolution_layers
from carfix.net.checkpoint import Model, load_checkpoint
from carfix.net.config import CarCnnConfig, Config, FastConfig, margin
from carfix.net.export import INPUT, OPSET, OUTPUT, export_onnx, onnx_model

CONFIGS = [
    CarCnnConfig(features=8, blocks=2),
    CarCnnConfig(features=4, blocks=1, global_residual=False),
    FastConfig(scale=4, features=8, blocks=1),
    FastConfig(scale=2, features=8, blocks=2, negative_slope=0.1),
    FastConfig(scale=1, features=4, blocks=1),
    FastConfig(scale=2, features=4, blocks=1, global_residual=False),
]
#: Operators that every runtime has: what the design promises.
OPERATORS = {"Conv", "LeakyRelu", "Add", "Mul", "Clip", "Tanh", "SpaceToDepth", "DepthToSpace"}


def awake(config: Config) -> Model:
    """A network with biases other than zero: none of them may be lost."""
    model = awake_model(config)
    for layer in convolution_layers(model.net):
        assert layer.bias is not None
        layer.bias.uniform_(-0.02, 0.02)
    return model


@pytest.mark.parametrize("config", CONFIGS, ids=str)
def test_onnxruntime_computes_what_torch_computes(config: Config, tmp_path: Path) -> None:
    pytest.importorskip("onnx", reason="the extra export is not installed")
    runtime = pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")
    model = awake(config)
    path = export_onnx(model=model, output=tmp_path / "net.onnx")
    session = runtime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    rng = np.random.default_rng(0)
    for shape in [(1, 1, 32, 48), (2, 1, 20, 12)]:
        x = rng.random(shape, np.float32)
        x[..., :4], x[..., -4:] = 0, 1  # where the clip at either end acts
        expected = (model.net(torch.from_numpy(x) * 2 - 1).numpy() + 1) / 2
        (restored,) = session.run([OUTPUT], {INPUT: x})
        assert restored.dtype == np.float32 and restored.shape == x.shape
        assert np.abs(restored - expected).max() <= 1e-5
        assert np.abs(restored - x).mean() > 1e-3  # the network does something


@pytest.mark.parametrize("config", CONFIGS[:3:2], ids=str)
def test_the_file_says_what_it_is_and_needs_no_rare_operator(config: Config) -> None:
    pytest.importorskip("onnx", reason="the extra export is not installed")
    model = awake(config)
    written = onnx_model(model)
    assert {node.op_type for node in written.graph.node} <= OPERATORS
    assert [(entry.domain, entry.version) for entry in written.opset_import] == [("", OPSET)]
    metadata = {entry.key: entry.value for entry in written.metadata_props}
    assert metadata["name"] == model.description.name
    assert metadata["sha256"] == model.description.sha256
    assert metadata["licence"] == model.description.licence
    assert metadata["multiple"] == str(config.scale) and metadata["overlap"] == str(margin(config))


def test_an_output_that_exists_stays_unless_it_may_be_replaced(tmp_path: Path) -> None:
    pytest.importorskip("onnx", reason="the extra export is not installed")
    path = tmp_path / "net.onnx"
    path.write_bytes(b"mine")
    model = awake(CONFIGS[2])
    with pytest.raises(CarfixError, match=r"net\.onnx exists already; -y"):
        export_onnx(model=model, output=path)
    assert path.read_bytes() == b"mine"
    export_onnx(model=model, output=path, overwrite=True)
    assert path.stat().st_size > 1000
    with pytest.raises(CarfixError, match="is a folder"):
        export_onnx(model=model, output=tmp_path, overwrite=True)
    with pytest.raises(CarfixError, match="cannot write"):
        export_onnx(model=model, output=tmp_path / "nowhere" / "net.onnx")
    assert [found.name for found in tmp_path.iterdir()] == ["net.onnx"]


def test_weights_are_never_replaced_by_onnx(tmp_path: Path) -> None:
    weights = save_awake(tmp_path / "mine.safetensors", CONFIGS[2])
    (tmp_path / "link.onnx").symlink_to(weights)
    (tmp_path / "hard.onnx").hardlink_to(weights)
    before = weights.read_bytes()
    model = load_checkpoint(weights)
    for name in ("mine.safetensors", "link.onnx", "hard.onnx", "other.safetensors"):
        with pytest.raises(UsageError, match=r"file of weights, not of ONNX; name one that ends in \.onnx"):
            export_onnx(model=model, output=tmp_path / name, overwrite=True)
    assert weights.read_bytes() == (tmp_path / "link.onnx").read_bytes() == before
    assert not (tmp_path / "other.safetensors").exists()


def test_without_the_extra_the_command_that_installs_it_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(MissingPartError, match=r'pip install "carfix\[export\]"') as error:
        export_onnx(model=awake(CONFIGS[2]), output=tmp_path / "net.onnx")
    assert error.value.exit_code == 3
    assert not list(tmp_path.iterdir())


def test_a_program_may_fix_the_sizes(tmp_path: Path) -> None:
    """vs-mlrt writes its tile's size over the input's dimensions and the batch over both; the rest must follow."""
    onnx = pytest.importorskip("onnx", reason="the extra export is not installed")
    runtime = pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")
    written = onnx_model(awake(CONFIGS[2]))
    source, result = (
        value.type.tensor_type.shape for value in (written.graph.input[0], written.graph.output[0])
    )
    for dimension, size in zip((0, 2, 3), (1, 24, 40), strict=True):
        source.dim[dimension].dim_value = size
    result.dim[0].dim_value = 1
    written = onnx.shape_inference.infer_shapes(written, strict_mode=True)
    session = runtime.InferenceSession(written.SerializeToString(), providers=["CPUExecutionProvider"])
    assert session.get_outputs()[0].shape == [1, 1, 24, 40]
