"""Several GPUs and several files at a time: each process sees one of them alone.

To hide the others is the one way that everything in a process heeds: its network, the memory it pins, NVDEC and NVENC.
"""

import ctypes
import os
import sys

#: What tells CUDA which GPUs a process may see, by number or by name, and in which order.
VISIBLE = "CUDA_VISIBLE_DEVICES"
#: NVIDIA's management library, which comes with the driver: it counts GPUs without taking memory on any.
_MANAGEMENT = "nvml.dll" if sys.platform == "win32" else "libnvidia-ml.so.1"
#: Values of `--device` that name no GPU.
_ANY = ("auto", "cuda")


def keep_to_one(turn: int, device: str) -> None:
    """Let this process see only one GPU, the next for each `turn`, where `device` names none and there are several.

    To be called before anything in the process looks for GPUs.
    """
    found = _visible()
    if device in _ANY and len(found) > 1:
        os.environ[VISIBLE] = found[turn % len(found)]


def _visible() -> list[str]:
    """The GPUs that this process may see, as `VISIBLE` names them."""
    given = os.environ.get(VISIBLE)
    if given is None:
        return [str(number) for number in range(_count())]
    # CUDA goes no further than to the first that it does not know, which -1 is for all.
    names = [name.strip() for name in given.split(",")]
    end = next((n for n, name in enumerate(names) if not name or name == "-1"), len(names))
    return names[:end]


def _count() -> int:
    """NVIDIA's GPUs in this machine or container; 0 where nothing tells."""
    try:
        library = ctypes.CDLL(_MANAGEMENT)
        count = ctypes.c_uint(0)
        if library.nvmlInit_v2():
            return 0
        failed = library.nvmlDeviceGetCount_v2(ctypes.byref(count))
        library.nvmlShutdown()
    except (OSError, AttributeError):  # no driver, or an old one
        return 0
    return 0 if failed else count.value
