"""What this machine could do at best: the matrix product that convolutions come down to, and copying memory.

Both are measured by torch, in the same rounds as everything else.
"""

import torch
from torch import Tensor

from carfix.quality.bench.rounds import Done, Task

#: Side of the square matrices. A product of side n does n/6 operations a byte in fp32, n/3 in 16 bit; machines need
#: up to 300 to be bound by arithmetic. GPUs also need enough tiles for all their units.
CPU_SIDE = 2048
GPU_SIDE = 8192
#: Bytes of the block that is copied: more than the caches of a core hold.
COPIED = 256 << 20
#: Runs are short and alike: a quarter of the usual time is enough.
SHARE = 0.25

COPY = "copy"
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


def product_name(precision: str) -> str:
    """The name of the task that measures the matrix product in `precision`."""
    return f"matrix product, {precision}"


def matrix_product(device: str, precision: str) -> Task:
    """Counts 10^12 operations, a multiplication and an addition being two."""
    side = CPU_SIDE if device == "cpu" else GPU_SIDE
    kind = DTYPES[precision]
    operations = 2 * side**3 / 1e12
    held: list[Tensor] = []  # allocated in the first run: a device without room for them is no reason to end

    @torch.inference_mode()  # as the networks run: no gradients
    def run(count: int) -> Done:
        if not held:
            # Filled in fp32 on the CPU: some devices cannot draw random numbers of 16 bits.
            held.extend(torch.rand(side, side).sub_(0.5).to(device, kind) for _ in range(2))
            held.append(torch.empty(side, side, dtype=kind, device=device))
        a, b, result = held
        for _ in range(count):
            torch.mm(a, b, out=result)
        synchronise(device)
        return Done(count * operations)

    return Task(name=product_name(precision), run=run, share=SHARE, optional=True)


def copy_bandwidth(device: str) -> Task:
    """Counts 10^9 bytes, those read and those written."""
    held: list[Tensor] = []

    def run(count: int) -> Done:
        if not held:
            held.append(torch.ones(COPIED, dtype=torch.uint8, device=device))
            held.append(torch.zeros_like(held[0]))
        source, target = held
        for _ in range(count):
            target.copy_(source)
        synchronise(device)
        return Done(2 * count * COPIED / 1e9)

    return Task(name=COPY, run=run, share=SHARE, optional=True)


def synchronise(device: str) -> None:
    """Wait until the device has done what it was given."""
    if device.startswith("cuda"):
        torch.cuda.synchronize(device)
    elif device == "mps":
        torch.mps.synchronize()
