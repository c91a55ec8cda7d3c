"""What rides along inside the video stream: closed captions, and messages that a camera writes for its own player."""

import dataclasses
from collections.abc import Mapping, Set
from uuid import UUID

from av.packet import Packet
from av.sidedata.sidedata import Type as SideDataType
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from carfix.video.headers.sei import UNREGISTERED, SeiReader
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


#: Bytes of a packet that are looked at: user data stands before the picture.
_HEAD = 4096
#: What begins captions (ATSC A/53: `user_identifier` and the type of what follows), and where FFmpeg reads them.
_CAPTIONS_BEGIN = b"GA94\x03"
_CAPTIONED = ("h264", "hevc", "mpeg1video", "mpeg2video", "av1")


@dataclasses.dataclass(frozen=True, kw_only=True)
class UserData:
    """What a stream's frames carry."""

    captions: bool = False  # CEA-608 or CEA-708
    messages: bool = False  # SEI of others than x264 and x265


class UserDataSearch:
    """Finds what begins later than with the first frame, as captions do behind a title, by a look at every packet."""

    def __init__(self, codec: str, extradata: bytes | None) -> None:
        self._codec = codec
        self._reader = SeiReader(codec, extradata or b"")
        self._captions = self._messages = self._encoders_own = False

    def look(self, packet: "Packet[VideoStream]") -> None:
        """Take note of what the packet carries."""
        head = bytes(memoryview(packet)[:_HEAD])
        self._captions |= self._codec in _CAPTIONED and _CAPTIONS_BEGIN in head
        for kind, data in self._reader.messages(head):
            if kind == UNREGISTERED:
                own = data[:_UUID_LENGTH] in _ENCODERS_OWN
                self._encoders_own |= own
                self._messages |= not own

    def found(self, first: UserData) -> UserData:
        """What the stream carries, whose first frame carries `first`, which tells of rarer forms of captions, too."""
        return UserData(
            captions=first.captions or self._captions,
            messages=(first.messages or self._messages) and not self._encoders_own,
        )


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
    if _CAPTIONS_OPTION in known:
        # Whether or not there are any: of a pipe only the first frame is known. x265's default is to leave them out.
        options[_CAPTIONS_OPTION] = "1"
    elif data.captions:
        warnings.append(f"{codec} cannot carry closed captions; -c:v libx264 and libx265 can")
    if data.messages:
        if _MESSAGES_OPTION in known and codec not in _RENAMES_MESSAGES:
            options[_MESSAGES_OPTION] = "1"
        else:
            warnings.append(
                f"{codec} cannot carry the camera's own messages (SEI user data); -c:v libx264 can"
            )
    return options, warnings
