"""The amx engine: the network in machine code for CPUs with tiles (AMX); in bf16, sums in fp32."""

from carfix.cpu import has_tiles
from carfix.net.checkpoint import Model
from carfix.restore.engine.amx.net import AmxNet
from carfix.restore.engine.compiled_engine import CompiledEngine
from carfix.restore.engine.llvm.net import CompiledNet


class AmxEngine(CompiledEngine):
    """Direct convolutions in tiles, LeakyReLU and residual sums fused into them."""

    itemsize = 2
    name = "amx bf16"

    def compiled(self, model: Model) -> CompiledNet:
        """See `CompiledEngine.compiled`."""
        if not has_tiles():
            raise RuntimeError("this CPU has no tiles for bf16, or the system does not let them be used")
        return AmxNet(model)
