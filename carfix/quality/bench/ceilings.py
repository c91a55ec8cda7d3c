"""What this machine could do at best: the matrix product that convolutions come down to, and copying memory.

Both are measured by torch, in the same rounds as everything else.
"""

from collections.abc import Callable

import torch

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
    # Filled in fp32: some devices cannot draw random numbers of 16 bits.
    a, b = (torch.rand(side, side).sub_(0.5).to(device, kind) for _ in range(2))
    result = torch.empty(side, side, dtype=kind, device=device)
    operations = 2 * side**3 / 1e12

    def run(count: int) -> Done:
        for _ in range(count):
            torch.mm(a, b, out=result)
        synchronise(device)
        return Done(count * operations)

    # Measured as the networks run: no gradients.
    return Task(name=product_name(precision), run=_inference(run), share=SHARE, optional=True)


def copy_bandwidth(device: str) -> Task:
    """Counts 10^9 bytes, those read and those written."""
    source = torch.ones(COPIED, dtype=torch.uint8, device=device)
    target = torch.zeros_like(source)

    def run(count: int) -> Done:
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


def _inference(run: Callable[[int], Done]) -> Callable[[int], Done]:
    def wrapped(count: int) -> Done:
        with torch.inference_mode():
            return run(count)

    return wrapped
