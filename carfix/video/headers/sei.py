"""Messages (SEI) in front of the pictures of H.264 and HEVC (ITU-T H.264, 7.3.2.3; H.265, 7.3.5)."""

from collections.abc import Iterator

from carfix.video.headers.nal import nal_units, payload

#: sei_payload type: user data with a UUID before it, from whoever likes.
UNREGISTERED = 5

#: Of a record (avcC, hvcC): the byte whose last two bits are the bytes of each length, less one.
_LENGTHS_AT = {"h264": 4, "hevc": 21}
_H264_SEI, _H264_SLICES = 6, range(1, 6)
_HEVC_PREFIX_SEI, _HEVC_SLICES = 39, range(32)
_MORE = 0xFF


class SeiReader:
    """Reads the messages of one stream; of codecs other than H.264 and HEVC it finds none."""

    def __init__(self, codec: str, extradata: bytes) -> None:
        """`codec` by FFmpeg's canonical name; `extradata` has start codes, or is a container's record, or is empty."""
        self._codec = codec
        at = _LENGTHS_AT.get(codec, 0)
        is_record = len(extradata) > at and extradata[0] == 1
        self._length_bytes = (extradata[at] & 3) + 1 if is_record else 0

    def messages(self, packet: bytes) -> Iterator[tuple[int, bytes]]:
        """Type and payload of each message before the first slice; `packet` may be cut off behind them."""
        if self._codec not in _LENGTHS_AT:
            return
        for unit in nal_units(packet, self._length_bytes):
            if not unit:
                continue
            if self._codec == "h264":
                kind, head, sei, slices = unit[0] & 0x1F, 1, _H264_SEI, _H264_SLICES
            else:
                kind, head, sei, slices = unit[0] >> 1 & 0x3F, 2, _HEVC_PREFIX_SEI, _HEVC_SLICES
            if kind in slices:
                return
            if kind == sei:
                yield from _messages(payload(unit[head:]))


def _messages(data: bytes) -> Iterator[tuple[int, bytes]]:
    position = 0
    while position + 2 < len(data):  # the last byte is the trailing bit's
        kind, position = _number(data, position)
        size, position = _number(data, position)
        yield kind, data[position : position + size]
        position += size


def _number(data: bytes, position: int) -> tuple[int, int]:
    """A number that is the sum of its bytes, all but the last of which are 255; and the place behind it."""
    value = 0
    while position < len(data) and data[position] == _MORE:
        value += _MORE
        position += 1
    return value + (data[position] if position < len(data) else 0), position + 1
