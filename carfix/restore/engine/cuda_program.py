"""One batch of equally sized windows, from codes to codes, as a fixed program on the device.

Shapes are static: a CUDA graph is captured once and replayed for every batch, so that the 100 kernels of a network
cost the CPU nothing. The network works in 16 bit and channels_last; the picture itself (input, sum, clamp, rounding)
stays in fp32.
"""

import contextlib
import copy
import dataclasses
from collections.abc import Callable
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from carfix.net.arch import CarCnn, FastNet, RestorationNet
from carfix.restore.engine.cuda_streams import COMPUTE, CudaStreams, Queues
from carfix.restore.engine.planes import peak
from carfix.restore.engine.torch_engine import DTYPES

if TYPE_CHECKING:
    from carfix.restore.engine.hopper.net import HopperNet

#: Variants that need nothing but torch; those of `cuda_fused.SHAPES` need Triton, as `COMPILED` does.
EAGER, COMPILED = "eager", "compiled"
#: The full network in kernels of our own, on GPUs of that generation.
HOPPER = "hopper"
#: Best kernels that the compiler finds; graphs are captured here, not by it, for all variants alike.
COMPILE_MODE = "max-autotune-no-cudagraphs"
#: Tensor cores read channels in eights: thinner ends of the network are filled with zeros.
ALIGNED_CHANNELS = 8
#: Shapes that are compiled in one process before the compiler refuses: it means to protect from mistakes.
_SHAPES = 1 << 16
#: Runs before a capture: lazy initialisation of libraries is not allowed inside.
_WARM_UP = 2

#: Of a network: `[N, 1, H, W]` to the same shape.
Predict = Callable[[Tensor], Tensor]
#: Codes `[N, H, W]` and strengths `[N]` to restored codes.
Restore = Callable[[Tensor, Tensor], Tensor]


@dataclasses.dataclass(frozen=True)
class Batch:
    """What a program is made for."""

    count: int  # windows
    height: int
    width: int
    bit_depth: int

    @property
    def dtype(self) -> torch.dtype:
        """Of its codes: uint8, or int16 with the bits of uint16, on which torch has few operations."""
        return torch.uint8 if self.bit_depth == 8 else torch.int16


class Program:
    """Put codes into `input`, call, and find the restored ones in `output`: `[count, height, width]`.

    `strengths`, `[count]`, are 1 unless something else is put there.
    """

    def __init__(self, restore: Restore, batch: Batch, device: torch.device) -> None:
        self.input = torch.zeros(batch.count, batch.height, batch.width, dtype=batch.dtype, device=device)
        self.output = torch.empty_like(self.input)
        self.strengths = torch.ones(batch.count, device=device)
        self.captured = False
        self._restore = restore

    def __call__(self) -> None:
        """Compute on the present stream."""
        self.output.copy_(self._restore(self.input, self.strengths))


class CapturedProgram(Program):
    """The same as one CUDA graph."""

    def __init__(self, restore: Restore, batch: Batch, device: torch.device) -> None:
        """Called on the compute stream. Raises `RuntimeError` if something in `restore` cannot be captured."""
        super().__init__(restore, batch, device)
        for _ in range(_WARM_UP):
            super().__call__()
        self._graph = torch.cuda.CUDAGraph()
        # "thread_local": other threads may decode on the same GPU meanwhile.
        with torch.cuda.graph(
            self._graph, stream=torch.cuda.current_stream(device), capture_error_mode="thread_local"
        ):
            super().__call__()
        self.captured = True

    def __call__(self) -> None:
        """See `Program`."""
        self._graph.replay()


class Builder:
    """Makes programs of one network on one device in one precision."""

    def __init__(
        self,
        net: RestorationNet,
        *,
        device: torch.device,
        precision: str,
        queues: Queues,
        graphs: bool = True,
    ) -> None:
        self.config = net.config
        self.device = device
        self.precision = precision
        self.queues = queues
        self._graphs = graphs and isinstance(queues, CudaStreams)
        self._net = net
        self._networks: dict[str, Predict] = {}
        self._restores: dict[tuple[str, int], Restore] = {}
        self._hopper_net: HopperNet | None = None

    def variants(self) -> tuple[str, ...]:
        """Those that can be tried here."""
        if self.device.type != "cuda":
            return (EAGER,)
        own: tuple[str, ...] = ()
        with contextlib.suppress(ImportError):  # of NVIDIA's own modules, which later torchs bring
            from carfix.restore.engine.hopper.net import usable

            own = (HOPPER,) if usable(self.config, self.device, DTYPES[self.precision]) else ()
        try:
            from carfix.restore.engine.cuda_fused import SHAPES
        except ImportError:  # no Triton, which the compiler needs as well
            return (EAGER, *own)
        if self.precision == "fp32":
            return (EAGER, COMPILED)
        return (EAGER, *own, *SHAPES, COMPILED)

    @torch.no_grad()
    def build(self, variant: str, batch: Batch) -> Program:
        """A program, run once; captured as a graph where that works. Raises what the variant's backend raises."""
        with self.queues.on(COMPUTE):  # the weights too: another stream would not wait for their conversion
            restore = self._restore_of(variant, batch)
            if self._graphs:
                try:
                    return CapturedProgram(restore, batch, self.device)
                except torch.OutOfMemoryError:
                    raise
                except RuntimeError as error:
                    if is_out_of_memory(error):
                        raise
                    self.queues.synchronize()  # eagerly then, which differs in speed alone
            program = Program(restore, batch, self.device)
            program()
        return program

    def _hopper(self, batch: Batch) -> Restore:
        from carfix.restore.engine.hopper.net import HopperNet, HopperRestore

        if self._hopper_net is None:
            assert isinstance(self._net, CarCnn)
            self._hopper_net = HopperNet(self._net, device=self.device, dtype=DTYPES[self.precision])
        return HopperRestore(
            self._hopper_net,
            frames=batch.count,
            height=batch.height,
            width=batch.width,
            bit_depth=batch.bit_depth,
        )

    def _restore_of(self, variant: str, batch: Batch) -> Restore:
        if variant == HOPPER:
            return self._hopper(batch)  # anew: it holds the batch's maps
        bit_depth = batch.bit_depth
        if (variant, bit_depth) in self._restores:
            return self._restores[variant, bit_depth]
        if variant not in self._networks:
            self._networks[variant] = self._network(variant)
        restore = codes_to_codes(
            self._networks[variant],
            bit_depth=bit_depth,
            dtype=DTYPES[self.precision],
            global_residual=self.config.global_residual,
        )
        if variant == COMPILED:
            restore = _compiled(restore)
        if self.precision == "fp32" and self.device.type == "cuda":
            restore = _exact_fp32(restore)
        self._restores[variant, bit_depth] = restore
        return restore

    def _network(self, variant: str) -> Predict:
        dtype = DTYPES[self.precision]
        net = copy.deepcopy(self._net).to(self.device).eval().requires_grad_(False)
        if variant not in (EAGER, COMPILED):
            from carfix.restore.engine.cuda_fused import SHAPES, FusedNet

            return FusedNet(net, dtype=dtype, shape=SHAPES[variant])
        net = net.to(dtype)
        if dtype != torch.float32 and self.device.type == "cuda":
            align(net)
        net.to(memory_format=torch.channels_last)  # type: ignore[call-overload] # torch's stubs lack it
        return net.predict_residual


def codes_to_codes(predict: Predict, *, bit_depth: int, dtype: torch.dtype, global_residual: bool) -> Restore:
    """Codes and strengths to restored codes of the same type, around `predict` (`[N, 1, H, W]`, in `dtype`)."""
    top = peak(bit_depth)

    def restore(codes: Tensor, strengths: Tensor) -> Tensor:
        x = codes[:, None] if bit_depth == 8 else codes[:, None].int() & 0xFFFF
        x = (x.float() * (2.0 / top) - 1.0).contiguous(memory_format=torch.channels_last)
        y = predict(x.to(dtype)).float()
        if global_residual:
            y = x + y
        y = torch.lerp(x, y.clamp(-1.0, 1.0), strengths[:, None, None, None])
        y = (y + 1.0) * (top / 2.0)
        y = y.round().clamp(0, top)[:, 0]
        return y.to(torch.uint8) if bit_depth == 8 else y.int().to(torch.int16)

    return restore


class _Widened(nn.Module):
    """A convolution whose channels are filled up with zeros: the same sums, in whole eights."""

    def __init__(self, layer: nn.Conv2d) -> None:
        super().__init__()
        self._outputs = layer.out_channels
        self._extra = -layer.in_channels % ALIGNED_CHANNELS
        inputs, outputs = (
            layer.in_channels + self._extra,
            layer.out_channels + -layer.out_channels % ALIGNED_CHANNELS,
        )
        wide = nn.Conv2d(inputs, outputs, layer.kernel_size, padding=layer.padding)  # type: ignore[arg-type] # a pair
        wide = wide.to(layer.weight.device, layer.weight.dtype).requires_grad_(False)
        wide.weight.zero_()
        wide.weight[: layer.out_channels, : layer.in_channels] = layer.weight
        assert wide.bias is not None and layer.bias is not None
        wide.bias.zero_()
        wide.bias[: layer.out_channels] = layer.bias
        self.wide = wide

    def forward(self, x: Tensor) -> Tensor:
        x = nn.functional.pad(x, (0, 0, 0, 0, 0, self._extra)).contiguous(memory_format=torch.channels_last)
        y: Tensor = self.wide(x)[:, : self._outputs]
        return y


@torch.no_grad()
def align(net: RestorationNet) -> None:
    """Widen the first and the last convolution where their channels are no multiple of eight."""
    if isinstance(net, CarCnn):
        places: list[tuple[nn.Module, str]] = [(net.head, "0"), (net.tail, "1")]
    elif isinstance(net, FastNet):
        places = [(net, "head"), (net, "tail")]
    else:
        return
    for parent, name in places:
        layer = getattr(parent, name)
        if layer.in_channels % ALIGNED_CHANNELS or layer.out_channels % ALIGNED_CHANNELS:
            setattr(parent, name, _Widened(layer))


def _compiled(restore: Restore) -> Restore:
    """Compiled on the first call with each shape."""
    compiled: Restore = torch.compile(restore, mode=COMPILE_MODE, dynamic=False, fullgraph=True)

    def call(codes: Tensor, strengths: Tensor) -> Tensor:
        with torch._dynamo.config.patch(recompile_limit=_SHAPES, accumulated_recompile_limit=_SHAPES):
            return compiled(codes, strengths)

    return call


def _exact_fp32(restore: Restore) -> Restore:
    """Without TensorFloat-32, which has the mantissa of fp16: who asks for fp32 gets it."""

    def exact(codes: Tensor, strengths: Tensor) -> Tensor:
        with torch.backends.cudnn.flags(enabled=True, allow_tf32=False):
            return restore(codes, strengths)

    return exact


def is_out_of_memory(error: RuntimeError) -> bool:
    """Whether a device, or a library on it, ran out of memory: not all have a type of their own for it."""
    texts = ("out of memory", "can't allocate memory", "not enough memory", "STATUS_ALLOC_FAILED")
    return isinstance(error, torch.OutOfMemoryError) or any(text in str(error) for text in texts)
