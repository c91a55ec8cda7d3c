"""The torch engine: CPU, CUDA and MPS."""

import copy

import numpy as np
import torch
from torch import Tensor

from carfix.net.checkpoint import Model
from carfix.restore.engine import Planes, Strengths
from carfix.restore.engine.allocator import keep_freed_memory
from carfix.restore.engine.planes import OutOfMemory, WindowedEngine, peak
from carfix.restore.windows import Window

#: Side of a window on a CPU: its feature maps stay in the caches; whole frames are slower (page faults).
CPU_TILE = 256
#: On an accelerator a frame goes through whole if it fits.
ACCELERATOR_TILE = 1 << 16
#: Windows computed at once on a CPU; more gains nothing.
CPU_WINDOWS = 4
ACCELERATOR_WINDOWS = 16
#: Frames asked for at once: enough to keep an accelerator busy between copies.
ACCELERATOR_BATCH = 4

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


class TorchEngine(WindowedEngine):
    """Runs the network eagerly in channels_last and the given precision; the picture itself stays fp32."""

    def __init__(
        self, model: Model, *, device: torch.device, precision: str, tile: int | None, batch: int | None
    ) -> None:
        on_cpu = device.type == "cpu"
        if on_cpu:
            keep_freed_memory()
        usual_tile, usual_batch = (CPU_TILE, 1) if on_cpu else (ACCELERATOR_TILE, ACCELERATOR_BATCH)
        super().__init__(model, tile=tile or usual_tile, batch=batch or usual_batch)
        self._device = device
        self._dtype = DTYPES[precision]
        self._windows = CPU_WINDOWS if on_cpu else ACCELERATOR_WINDOWS
        net = copy.deepcopy(model.net).to(device)
        self._net = net.to(memory_format=torch.channels_last).eval()  # type: ignore[call-overload] # torch's stubs lack it
        threads = f", {torch.get_num_threads()} threads" if on_cpu else ""
        self.description = f"torch on {device}{threads}, {precision}"

    @torch.inference_mode()
    def run(self, codes: Planes, found: list[Window], bit_depth: int, strengths: Strengths | None) -> Planes:
        """See `WindowedEngine.run`."""
        try:
            return self._run(codes, found, bit_depth, strengths)
        except torch.OutOfMemoryError as error:
            torch.cuda.empty_cache()
            raise OutOfMemory(str(error)) from error
        except RuntimeError as error:
            # The CPU's allocator has no type of its own for this.
            if "can't allocate memory" in str(error) or "not enough memory" in str(error):
                raise OutOfMemory(str(error)) from error
            raise

    def _run(self, codes: Planes, found: list[Window], bit_depth: int, strengths: Strengths | None) -> Planes:
        top = peak(bit_depth)
        # Deep codes travel as int32: torch has few operations on uint16.
        source = torch.from_numpy(codes if codes.dtype == np.uint8 else codes.astype(np.int32)).to(
            self._device
        )
        result = torch.empty(source.shape, dtype=source.dtype, device=self._device)
        tasks = [(frame, window) for frame in range(len(codes)) for window in found]
        for first in range(0, len(tasks), self._windows):
            some = tasks[first : first + self._windows]
            x = torch.stack([source[n, *w.read] for n, w in some])
            unit = x[:, None].float().mul_(2.0 / top).sub_(1.0)
            y = self._infer(unit)
            if strengths is not None:
                share = torch.from_numpy(strengths[[n for n, _ in some]]).to(self._device)
                y = torch.lerp(unit, y, share[:, None, None, None])
            y = y[:, 0].add_(1.0).mul_(top / 2.0).round_().clamp_(0, top).to(result.dtype)
            for (n, w), part in zip(some, y, strict=True):
                result[n, *w.kept] = part[w.kept_inside]
        restored = result.cpu().numpy()
        return restored.astype(np.uint8) if codes.dtype == np.uint8 else restored.astype(np.uint16)

    def _infer(self, x: Tensor) -> Tensor:
        x = x.contiguous(memory_format=torch.channels_last)
        if self._dtype == torch.float32:
            restored: Tensor = self._net(x)
        else:
            with torch.autocast(self._device.type, self._dtype):
                restored = self._net(x)
        return restored.float()
