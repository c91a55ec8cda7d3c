"""The winograd engines: the network in machine code that LLVM makes for this CPU; in fp32, or products in integers."""

from carfix.net.checkpoint import Model
from carfix.restore.engine.compiled_engine import CompiledEngine
from carfix.restore.engine.llvm.net import CompiledNet
from carfix.restore.engine.winograd.net import WinogradNet


class WinogradEngine(CompiledEngine):
    """Convolutions after Winograd, LeakyReLU and residual sums fused into them."""

    itemsize = 4
    name = "winograd fp32"

    def compiled(self, model: Model) -> CompiledNet:
        """See `CompiledEngine.compiled`."""
        return WinogradNet(model)


class IntegerEngine(CompiledEngine):
    """The same with products of 16-bit integers, of which x86 multiplies twice as many at once, and maps in fp16."""

    itemsize = 2
    name = "winograd int16"

    def compiled(self, model: Model) -> CompiledNet:
        """See `CompiledEngine.compiled`."""
        return WinogradNet(model, integers=True)
