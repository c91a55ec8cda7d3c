"""carfix removes compression artifacts from video with CAR-CNN (Aqqa and Shah, VISAPP 2021).

The library is five names: `restore_video` and `compare_videos` for files, `restored_frames` for programs that look at
frames, `Restorer` for those that have planes, and `load_model`.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from carfix.net.catalog import load_model
    from carfix.quality.compare import compare_videos
    from carfix.restore.one_file import restore_video
    from carfix.restore.restored import restored_frames
    from carfix.restore.restorer import Restorer

__version__ = "0.1.0"
__all__ = ["Restorer", "__version__", "compare_videos", "load_model", "restore_video", "restored_frames"]

_HOMES = {
    "Restorer": "carfix.restore.restorer",
    "compare_videos": "carfix.quality.compare",
    "load_model": "carfix.net.catalog",
    "restore_video": "carfix.restore.one_file",
    "restored_frames": "carfix.restore.restored",
}


if not TYPE_CHECKING:  # a type checker would take any mistyped name for one of ours

    def __getattr__(name: str) -> Any:  # noqa: ANN401 - whatever lives under that name
        # Loaded on first use: `carfix --help` must not wait for torch.
        if name not in _HOMES:
            raise AttributeError(f"module 'carfix' has no attribute {name!r}")
        return getattr(importlib.import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOMES])
