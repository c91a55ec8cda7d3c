"""The winograd engines: the network in machine code that LLVM makes for this CPU; in fp32, or products in integers."""

import dataclasses

from carfix.net.checkpoint import Model
from carfix.restore.engine.compiled_engine import CompiledEngine
from carfix.restore.engine.cpu_grid import Frame
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

    def _frame(self, height: int, width: int) -> Frame:
        # 576p and 1080p are a tenth to a fifth faster whole, 720p as fast.
        return dataclasses.replace(super()._frame(height, width), quick_rows=True)
