"""An ncnn graph written straight from a network: its param text and raw weights, with no converter.

The param format is ncnn's own ("7767517", then counts, then a layer a line); a convolution's weights follow a
4-byte zero flag (fp32) and precede its biases.
"""

import struct
from collections.abc import Iterator

from carfix.net.checkpoint import Convolution, Model
from carfix.net.config import KERNEL, LAYER_RADIUS, CarCnnConfig

INPUT = "luma"
OUTPUT = "restored"
_MAGIC = "7767517"
_FP32_FLAG = struct.pack("<I", 0)
_LEAKY_RELU = 2  # ncnn's activation type
_ADD = 0  # ncnn's BinaryOp type


class GraphWriter:
    """Collects layers, blobs and weights in the order of computation."""

    def __init__(self) -> None:
        self._lines: list[str] = []
        self._blobs: set[str] = set()
        self._weights: list[bytes] = []

    def layer(self, kind: str, inputs: list[str], outputs: list[str], params: str = "") -> None:
        """Add a layer; its blobs are named by the caller."""
        self._blobs.update(inputs, outputs)
        name = f"{kind.lower()}{len(self._lines)}"
        self._lines.append(
            " ".join([kind, name, str(len(inputs)), str(len(outputs)), *inputs, *outputs, params]).rstrip()
        )

    def convolution(self, source: str, target: str, layer: Convolution, slope: float | None) -> None:
        """Add a convolution, with LeakyReLU fused behind it if `slope` is given."""
        params = (
            f"0={len(layer.weight)} 1={KERNEL} 11={KERNEL} 4={LAYER_RADIUS} 14={LAYER_RADIUS} "
            f"5=1 6={layer.weight.size}"
        )
        if slope is not None:
            params += f" 9={_LEAKY_RELU} -23310=1,{slope:.9g}"
        self.layer("Convolution", [source], [target], params)
        self._weights += [_FP32_FLAG, layer.weight.tobytes(), layer.bias.tobytes()]

    def text(self) -> str:
        """The param file."""
        return "\n".join([_MAGIC, f"{len(self._lines)} {len(self._blobs)}", *self._lines]) + "\n"

    def weights(self) -> bytes:
        """The bin file."""
        return b"".join(self._weights)


def write_graph(model: Model) -> tuple[str, bytes]:
    """Param text and weights, from `INPUT` `[1, H, W]` in [-1, 1] to `OUTPUT` of the same shape."""
    graph = GraphWriter()
    config, layers = model.config, iter(model.convolutions)
    slope = config.negative_slope
    graph.layer("Input", [], [INPUT])
    graph.layer("Split", [INPUT], ["x", "identity"])
    if isinstance(config, CarCnnConfig):
        graph.convolution("x", "head0", next(layers), slope)
        graph.convolution("head0", "block0", next(layers), slope)
        last = _blocks(graph, config.blocks, layers, slope)
        graph.convolution(last, "tail0", next(layers), slope)
        graph.convolution("tail0", "tail1", next(layers), None)
        graph.layer("TanH", ["tail1"], ["residual"])
    else:
        graph.layer("Reorg", ["x"], ["cells"], f"0={config.scale}")
        graph.convolution("cells", "block0", next(layers), slope)
        last = _blocks(graph, config.blocks, layers, slope)
        graph.convolution(last, "tail", next(layers), None)
        graph.layer("PixelShuffle", ["tail"], ["residual"], f"0={config.scale}")
    last = "residual"
    if config.global_residual:
        graph.layer("BinaryOp", ["identity", "residual"], ["sum"], f"0={_ADD}")
        last = "sum"
    graph.layer("Clip", [last], [OUTPUT], "0=-1.0 1=1.0")
    return graph.text(), graph.weights()


def _blocks(graph: GraphWriter, blocks: int, layers: Iterator[Convolution], slope: float) -> str:
    """Write the residual blocks behind the blob `block0`; returns the last blob."""
    for number in range(blocks):
        graph.layer("Split", [f"block{number}"], [f"in{number}", f"skip{number}"])
        graph.convolution(f"in{number}", f"mid{number}", next(layers), slope)
        graph.convolution(f"mid{number}", f"out{number}", next(layers), slope)
        graph.layer("BinaryOp", [f"skip{number}", f"out{number}"], [f"block{number + 1}"], f"0={_ADD}")
    return f"block{blocks}"
