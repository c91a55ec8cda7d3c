"""What differs between the versions of PyAV that carfix works with (18 and 19)."""

from typing import Any

import av
from av.sidedata.sidedata import Type as SideDataType
from av.video.frame import VideoFrame

_MAJOR = int(av.__version__.split(".", 1)[0])

#: For `av.open`: tags in odd encodings are kept byte for byte rather than refused. PyAV 19 does so unasked and no
#: longer knows the option.
KEEP_ODD_TAGS: dict[str, Any] = {"metadata_errors": "surrogateescape"} if _MAJOR < 19 else {}


def _unnamed(kinds: type[SideDataType], value: object) -> Any:  # noqa: ANN401 - a member, or None
    """A kind of side data that FFmpeg has and PyAV no name for: EXIF of photographs, the views of spatial video."""
    if not isinstance(value, int):
        return None
    kind: Any = object.__new__(kinds)
    kind._name_, kind._value_ = f"UNNAMED_{value}", value
    return kind


# Without this, PyAV refuses all side data of a frame where it does not know one of them.
SideDataType._missing_ = classmethod(_unnamed)  # type: ignore[assignment]


def side_data(frame: VideoFrame, kind: SideDataType) -> bytes | None:
    """A frame's side data of one kind. Looked up by key: iterating gives values in PyAV 18 and keys in 19."""
    found: Any = frame.side_data.get(kind)  # type: ignore[call-overload] # the stubs know names alone
    return None if found is None else bytes(found)


def all_side_data(frame: VideoFrame, kind: SideDataType) -> list[bytes]:
    """All of a frame's side data of one kind: looked up by key, the last hides the others. By position: see above."""
    found: list[bytes] = []
    position = 0
    while True:
        try:
            data: Any = frame.side_data[position]  # type: ignore[literal-required] # as above
        except IndexError:
            return found
        if data.type == kind:
            found.append(bytes(data))
        position += 1
