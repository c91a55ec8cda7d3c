"""A network with its weights transformed, and the memory that windows are computed in."""

from collections.abc import Sequence

from carfix.net.checkpoint import Convolution, Model
from carfix.net.config import KERNEL, CarCnnConfig, Config
from carfix.restore.engine.llvm.linking import host_features
from carfix.restore.engine.llvm.net import GROUP, CompiledNet, Memory, zeros
from carfix.restore.engine.llvm.schedule import KEPT_ROWS
from carfix.restore.engine.llvm.vectors import rounded_up
from carfix.restore.engine.planes import Floats
from carfix.restore.engine.winograd.kernels import Blocking
from carfix.restore.engine.winograd.program import Shape, compiled
from carfix.restore.engine.winograd.transforms import F4

#: Tiles that are transformed and multiplied together: 12 to 72 were equally fast.
_BLOCK = 24


class WinogradNet(CompiledNet):
    """A network as machine code for this CPU; raises `RuntimeError` or `OSError` where none can be made or run."""

    def __init__(self, model: Model) -> None:
        self.shape = shape_of(model.config)
        self._code = compiled(self.shape)
        self._weights = packed(model.convolutions, self.shape)
        super().__init__(model.config, enter=self._code.enter, leave=self._code.leave)

    def memory(self, height: int, width: int) -> "Workspace":
        """See `CompiledNet.memory`."""
        return Workspace(self.shape, height, width)

    def compute(self, memory: "Workspace") -> None:
        """See `CompiledNet.compute`."""
        self._code.network(
            memory.residual.ctypes.data,
            memory.plane.ctypes.data,
            self._weights.ctypes.data,
            memory.map.ctypes.data,
            memory.kept.ctypes.data,
            memory.scratch.ctypes.data,
            memory.rows,
            memory.columns,
            memory.down,
            memory.across,
            memory.plane.shape[1],
            memory.map.strides[0] // memory.map.itemsize,
            memory.residual.shape[1],
            GROUP,
        )


class Workspace(Memory):
    """Arrays for windows of one size, for one thread: planes and map with their rings of zeros, kept rows, scratch."""

    def __init__(self, shape: Shape, height: int, width: int) -> None:
        """Raises `MemoryError`."""
        scale, step = shape.scale, shape.transform.outputs
        self.rows, self.columns = height // scale, width // scale
        self.down, self.across = -(-self.rows // step), -(-self.columns // step)
        # A tile reaches a cell beyond what it gives on either side: into the ring.
        rows, columns = (count * step + KERNEL - 1 for count in (self.down, self.across))
        self.plane = zeros(rows * scale, columns * scale)
        self.unit = self.plane[scale : scale + height, scale : scale + width]
        self.map = zeros(rows, columns, shape.features)
        row_of_tiles = step * columns * shape.features
        # The first group of CAR-CNN has a layer more, and the last one; a group's own last one keeps nothing.
        self.kept = zeros((GROUP + 1) * KEPT_ROWS, row_of_tiles)
        self.residual = zeros(self.down * step * scale, self.across * step * scale)
        self.scratch = zeros(shape.scratch)


def shape_of(config: Config) -> Shape:
    """What machine code such a network needs on this CPU."""
    blocking = blocking_for(config.features, host_features())
    return Shape(
        features=rounded_up(config.features, blocking.lanes),
        blocks=config.blocks,
        scale=config.scale,
        slope=config.negative_slope,
        inner=isinstance(config, CarCnnConfig),
        transform=F4,
        blocking=blocking,
    )


def blocking_for(features: int, names: frozenset[str]) -> Blocking:
    """How a CPU with what is named computes so many channels: in the widest vectors that they fill."""
    if "avx512f" in names:
        widest, registers = 16, 32
    elif "avx" in names:
        widest, registers = 8, 16
    else:
        widest, registers = 4, 32 if "neon" in names else 16
    lanes = next((n for n in (16, 8, 4) if n <= widest and features % n == 0), widest)
    return Blocking(lanes=lanes, registers=registers, block=_BLOCK)


def packed(layers: Sequence[Convolution], shape: Shape) -> Floats:
    """Weights and biases of all layers, each where the machine code looks for it."""
    memory = zeros(shape.layers[-1].stop)
    for number, (layer, place) in enumerate(zip(layers, shape.layers, strict=True)):
        weights = layer.weight
        outputs = weights.shape[0]
        if number == 0:
            # Behind PixelUnshuffle, [K, dy dx, ty, tx], to a convolution of the plane, [ty dy, tx dx, K].
            cell = weights.reshape(outputs, shape.scale, shape.scale, KERNEL, KERNEL)
            matrices = cell.transpose(3, 1, 4, 2, 0).reshape(place.matrices, 1, outputs)
        else:
            matrices = shape.transform.weights(weights)
        target = memory[place.start : place.start + place.matrices * place.inputs * place.outputs]
        target = target.reshape(place.matrices, place.inputs, place.outputs)
        target[:, : matrices.shape[1], :outputs] = matrices  # zeros for channels that fill a vector up
        memory[place.biases : place.biases + outputs] = layer.bias
    return memory
