"""Feature maps come and go a hundred times a second: the C library is asked to keep their memory.

glibc gives large freed blocks back to the system at once, and every window then pays page faults anew: a restore on
two cores spent a quarter of its processor time in the kernel, and took 15 to 25 % longer.
"""

import ctypes
import functools
import sys

#: Parameters of mallopt(3).
_M_TRIM_THRESHOLD = -1
_M_MMAP_THRESHOLD = -3

#: Bytes that may lie unused at the end of the heap: a few batches of windows' feature maps.
KEPT = 256 << 20
#: Blocks up to this size (bytes, the largest that glibc takes) come from the heap.
FROM_HEAP = 32 << 20


@functools.cache
def keep_freed_memory() -> bool:
    """Ask for it, once a process. False where the C library has no such knob (musl, macOS, Windows)."""
    if sys.platform != "linux":
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:
        return False
    return bool(mallopt(_M_MMAP_THRESHOLD, FROM_HEAP) and mallopt(_M_TRIM_THRESHOLD, KEPT))
