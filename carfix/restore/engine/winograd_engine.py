"""The winograd engine: the network in machine code that LLVM makes for this CPU; in fp32."""

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
