"""What rides along inside the video stream: closed captions, and messages that a camera writes for its own player."""

import dataclasses
from collections.abc import Mapping, Set
from uuid import UUID

from av.sidedata.sidedata import Type as SideDataType
from av.video.frame import VideoFrame

from carfix.video.pyav import all_side_data

#: UUIDs of the messages in which x264 and x265 tell their version and settings.
_ENCODERS_OWN = frozenset(
    UUID(text).bytes
    for text in ("dc45e9bd-e6d9-48b7-962c-d820d923eeef", "2ca2de09-b517-47db-bb55-a4fe7fc2fc4e")
)
_UUID_LENGTH = 16  # bytes

#: FFmpeg's options of encoders that write what frames carry: captions (ATSC A/53) and SEI "user data unregistered".
_CAPTIONS_OPTION, _MESSAGES_OPTION = "a53cc", "udu_sei"
#: Its option notwithstanding, libx265 writes each message under a UUID of its own, where no player looks for it.
_RENAMES_MESSAGES = ("libx265",)


@dataclasses.dataclass(frozen=True, kw_only=True)
class UserData:
    """What a stream's frames carry, by the first of them."""

    captions: bool = False  # CEA-608 or CEA-708
    messages: bool = False  # SEI of others than x264 and x265


def user_data_of_frame(frame: VideoFrame) -> UserData:
    """What `frame` carries.

    Messages beside those of x264 or x265 do not count: the encoder would write the old settings again beside its
    own, and decoders go by the version that they find there.
    """
    senders = {data[:_UUID_LENGTH] for data in all_side_data(frame, SideDataType.SEI_UNREGISTERED)}
    return UserData(
        captions=bool(all_side_data(frame, SideDataType.A53_CC)),
        messages=bool(senders) and not senders & _ENCODERS_OWN,
    )


def user_data_options(codec: str, known: Set[str], data: UserData) -> tuple[Mapping[str, str], list[str]]:
    """Options that make the encoder `codec`, which has the options `known`, write `data`; and what it cannot keep."""
    options: dict[str, str] = {}
    warnings: list[str] = []
    if data.captions:
        if _CAPTIONS_OPTION in known:
            options[_CAPTIONS_OPTION] = "1"  # x265's default is to leave them out
        else:
            warnings.append(f"{codec} cannot carry closed captions; -c:v libx264 and libx265 can")
    if data.messages:
        if _MESSAGES_OPTION in known and codec not in _RENAMES_MESSAGES:
            options[_MESSAGES_OPTION] = "1"
        else:
            warnings.append(
                f"{codec} cannot carry the camera's own messages (SEI user data); -c:v libx264 can"
            )
    return options, warnings
