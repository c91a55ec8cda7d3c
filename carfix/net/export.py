"""A network as ONNX, written straight from its layers: for VapourSynth, OpenVINO, TensorRT or onnxruntime.

The graph takes and gives luma as float32 `[batch, 1, height, width]` in [0, 1]: a code over the largest code of its
bit depth, limited range or full as the video is. Batch, height and width are free; height and width are multiples of
`config.scale`. The package `onnx` is an extra of carfix, imported only here.
"""

from pathlib import Path
from typing import TYPE_CHECKING

from torch import nn

from carfix import __version__
from carfix.errors import CarfixError, UsageError, needing
from carfix.net.arch import CarCnn, FastNet, ResidualBlock, RestorationNet
from carfix.net.catalog import SUFFIX
from carfix.net.checkpoint import Model
from carfix.net.config import KERNEL, LAYER_RADIUS, margin
from carfix.replacing import replacing

if TYPE_CHECKING:
    from onnx import ModelProto, NodeProto, TensorProto

INPUT = "luma"
OUTPUT = "restored"

#: The newest operators that the graph needs are those of opset 13 (2020); 17 is what common runtimes have long had.
OPSET = 17
#: The file format that came with opset 17: runtimes refuse files that are newer than themselves.
IR_VERSION = 8


def export_onnx(*, model: Model, output: Path, overwrite: bool = False) -> Path:
    """Write `model` to `output` (through a temporary file) as ONNX; returns `output`.

    Raises `UsageError` if `output` is the model's own file or named as weights are, `CarfixError` if it exists and
    `overwrite` is not set, or cannot be written, `MissingPartError` if the package onnx is not installed.
    """
    if output.suffix.lower() == SUFFIX or _same_file(model.path, output):
        raise UsageError(f"{output} is a file of weights, not of ONNX; name one that ends in .onnx")
    if output.is_dir():
        raise CarfixError(f"the output {output} is a folder; name a file in it")
    if output.exists() and not overwrite:
        raise CarfixError(f"{output} exists already; -y overwrites it")
    data = onnx_model(model).SerializeToString()
    try:
        with replacing(output) as temporary:
            temporary.write_bytes(data)
    except OSError as error:
        raise CarfixError(f"cannot write {output}: {error.strerror or error}") from error
    return output


def _same_file(weights: Path, output: Path) -> bool:
    """Also through links."""
    try:
        return weights.samefile(output)
    except OSError:
        return False


def onnx_model(model: Model) -> "ModelProto":
    """`model` as a checked ONNX model. Raises `MissingPartError` if the package onnx is not installed."""
    with needing("this", "onnx", 'install it with `pip install "carfix[export]"`'):
        import onnx
        from onnx import checker, helper
    graph = _Graph()
    graph.network(model.net)
    dimensions: list[str | int | None] = ["batch", 1, "height", "width"]
    result = helper.make_model(
        helper.make_graph(
            graph.nodes,
            model.description.name,
            [helper.make_tensor_value_info(INPUT, onnx.TensorProto.FLOAT, dimensions)],
            [helper.make_tensor_value_info(OUTPUT, onnx.TensorProto.FLOAT, dimensions)],
            graph.weights,
        ),
        producer_name="carfix",
        producer_version=__version__,
        opset_imports=[helper.make_opsetid("", OPSET)],
        ir_version=IR_VERSION,
    )
    helper.set_model_props(result, _metadata(model))
    checker.check_model(result, full_check=True)
    return result


def _metadata(model: Model) -> dict[str, str]:
    """What the file says of itself; all values are texts."""
    description = model.description
    return {
        "name": description.name,
        "architecture": description.config.architecture,
        "sha256": description.sha256,
        "licence": description.licence,
        "training_data": description.training_data,
        "range": "0..1",
        "multiple": str(description.config.scale),  # of height and width, pixels
        "overlap": str(margin(description.config)),  # pixels that a tile loses at a cut edge
    }


class _Graph:
    """Collects nodes and weights in the order of computation; a blob is named after the node that makes it."""

    def __init__(self) -> None:
        self.nodes: list[NodeProto] = []
        self.weights: list[TensorProto] = []

    def network(self, net: RestorationNet) -> None:
        """The whole graph of `net`, from `INPUT` to `OUTPUT`.

        The shift to [-1, 1] cannot go into the first convolution: its zero padding stands for mid-grey.
        """
        x = self.constant("Add", self.constant("Mul", INPUT, 2.0), -1.0)
        if isinstance(net, CarCnn):
            residual = self.car_cnn(net, x)
        elif isinstance(net, FastNet):
            residual = self.fast(net, x)
        else:
            raise TypeError(f"no ONNX graph is known for {type(net).__name__}")
        # [-1, 1] has twice the length of [0, 1].
        half = self.constant("Mul", residual, 0.5)
        if net.config.global_residual:
            y = self.add("Add", INPUT, half)
        else:
            y = self.constant("Add", half, 0.5)
        self.add("Clip", y, self.scalar(0.0), self.scalar(1.0), output=OUTPUT)

    def car_cnn(self, net: CarCnn, x: str) -> str:
        slope = net.config.negative_slope
        for layer in net.head:
            x = self.activated(x, layer, slope)
        x = self.activated(self.blocks(x, net.blocks, slope), net.tail[0], slope)
        return self.add("Tanh", self.convolution(x, net.tail[1]))

    def fast(self, net: FastNet, x: str) -> str:
        # With one channel, SpaceToDepth's order is PixelUnshuffle's.
        x = self.add("SpaceToDepth", x, blocksize=net.config.scale)
        x = self.activated(x, net.head, net.config.negative_slope)
        x = self.convolution(self.blocks(x, net.blocks, net.config.negative_slope), net.tail)
        return self.add("DepthToSpace", x, blocksize=net.config.scale, mode="CRD")

    def blocks(self, x: str, blocks: nn.ModuleList, slope: float) -> str:
        for block in blocks:
            assert isinstance(block, ResidualBlock)
            y = self.activated(self.activated(x, block.conv1, slope), block.conv2, slope)
            x = self.add("Add", x, y)
        return x

    def activated(self, x: str, layer: nn.Module, slope: float) -> str:
        return self.add("LeakyRelu", self.convolution(x, layer), alpha=slope)

    def convolution(self, x: str, layer: nn.Module) -> str:
        from onnx import numpy_helper

        assert isinstance(layer, nn.Conv2d)
        assert layer.bias is not None  # every convolution of ours has one
        names = []
        for kind, tensor in (("weight", layer.weight), ("bias", layer.bias)):
            names.append(f"{kind}{len(self.weights)}")
            array = tensor.detach().float().cpu().contiguous().numpy()
            self.weights.append(numpy_helper.from_array(array, names[-1]))
        return self.add("Conv", x, *names, kernel_shape=[KERNEL] * 2, pads=[LAYER_RADIUS] * 4)

    def constant(self, kind: str, x: str, value: float) -> str:
        """A node with a scalar as its second input."""
        return self.add(kind, x, self.scalar(value))

    def scalar(self, value: float) -> str:
        import numpy as np
        from onnx import numpy_helper

        name = f"scalar{len(self.weights)}"
        self.weights.append(numpy_helper.from_array(np.array(value, np.float32), name))
        return name

    def add(
        self, kind: str, *inputs: str, output: str | None = None, **attributes: int | float | str | list[int]
    ) -> str:
        """Add a node; returns the name of its output."""
        from onnx import helper

        name = output or f"{kind.lower()}{len(self.nodes)}"
        node = helper.make_node(kind, list(inputs), [name], name=name)
        node.attribute.extend(helper.make_attribute(key, value) for key, value in attributes.items())
        self.nodes.append(node)
        return name
