"""An ncnn graph written straight from a network: its param text and raw weights, with no converter.

The param format is ncnn's own ("7767517", then counts, then a layer a line); a convolution's weights follow a
4-byte zero flag (fp32) and precede its biases.
"""

import struct

from torch import nn

from carfix.net.arch import KERNEL, LAYER_RADIUS, CarCnn, FastNet, ResidualBlock, RestorationNet

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

    def convolution(self, source: str, target: str, layer: nn.Module, slope: float | None) -> None:
        """Add a convolution, with LeakyReLU fused behind it if `slope` is given."""
        assert isinstance(layer, nn.Conv2d)
        params = (
            f"0={layer.out_channels} 1={KERNEL} 11={KERNEL} 4={LAYER_RADIUS} 14={LAYER_RADIUS} "
            f"5=1 6={layer.weight.numel()}"
        )
        if slope is not None:
            params += f" 9={_LEAKY_RELU} -23310=1,{slope:.9g}"
        self.layer("Convolution", [source], [target], params)
        weight = layer.weight.detach().float().contiguous().numpy()
        assert layer.bias is not None  # every convolution of ours has one
        self._weights += [_FP32_FLAG, weight.tobytes(), layer.bias.detach().float().numpy().tobytes()]

    def text(self) -> str:
        """The param file."""
        return "\n".join([_MAGIC, f"{len(self._lines)} {len(self._blobs)}", *self._lines]) + "\n"

    def weights(self) -> bytes:
        """The bin file."""
        return b"".join(self._weights)


def write_graph(net: RestorationNet) -> tuple[str, bytes]:
    """Param text and weights of `net`, from `INPUT` `[1, H, W]` in [-1, 1] to `OUTPUT` of the same shape."""
    graph = GraphWriter()
    slope = net.config.negative_slope
    graph.layer("Input", [], [INPUT])
    graph.layer("Split", [INPUT], ["x", "identity"])
    if isinstance(net, CarCnn):
        graph.convolution("x", "head0", net.head[0], slope)
        graph.convolution("head0", "block0", net.head[1], slope)
        last = _blocks(graph, net.blocks, slope)
        graph.convolution(last, "tail0", net.tail[0], slope)
        graph.convolution("tail0", "tail1", net.tail[1], None)
        graph.layer("TanH", ["tail1"], ["residual"])
    elif isinstance(net, FastNet):
        graph.layer("Reorg", ["x"], ["cells"], f"0={net.config.scale}")
        graph.convolution("cells", "block0", net.head, slope)
        last = _blocks(graph, net.blocks, slope)
        graph.convolution(last, "tail", net.tail, None)
        graph.layer("PixelShuffle", ["tail"], ["residual"], f"0={net.config.scale}")
    else:
        raise TypeError(f"no ncnn graph is known for {type(net).__name__}")
    last = "residual"
    if net.config.global_residual:
        graph.layer("BinaryOp", ["identity", "residual"], ["sum"], f"0={_ADD}")
        last = "sum"
    graph.layer("Clip", [last], [OUTPUT], "0=-1.0 1=1.0")
    return graph.text(), graph.weights()


def _blocks(graph: GraphWriter, blocks: nn.ModuleList, slope: float) -> str:
    """Write the residual blocks behind the blob `block0`; returns the last blob."""
    for number, block in enumerate(blocks):
        assert isinstance(block, ResidualBlock)
        graph.layer("Split", [f"block{number}"], [f"in{number}", f"skip{number}"])
        graph.convolution(f"in{number}", f"mid{number}", block.conv1, slope)
        graph.convolution(f"mid{number}", f"out{number}", block.conv2, slope)
        graph.layer("BinaryOp", [f"skip{number}", f"out{number}"], [f"block{number + 1}"], f"0={_ADD}")
    return f"block{len(blocks)}"
