"""Random access: whether decoding may start at a packet that FFmpeg flags as a keyframe."""

from carfix.video.headers import h263
from carfix.video.headers.nal import nal_units

#: NAL unit types of H.264 (Table 7-1): a coded slice of an IDR picture.
_H264_IDR = 5
_H264_SLICE = 1
_H264_TYPE_MASK = 0x1F


def is_clean_keyframe(codec: str, packet: bytes, extradata: bytes | None) -> bool:
    """Whether every frame shown from this keyframe on decodes to the same samples without what came before.

    FFmpeg also flags recovery points of H.264 as keyframes. With gradual refresh the picture is whole only
    some frames later, so only IDR pictures count there. Of H.263 and H.261 in Matroska and AVI it flags every packet;
    H.261 does not tell which are whole. Keyframes of other codecs do: what their leading pictures lack belongs to the
    time before them.
    """
    if codec == "h263":
        return h263.is_intra(packet)
    if codec == "h264":
        return _h264_has_idr(packet, extradata)
    return codec != "h261"


def _h264_has_idr(packet: bytes, extradata: bytes | None) -> bool:
    # avcC: every NAL unit behind its length.
    is_record = extradata and extradata[0] == 1 and len(extradata) > 4
    for unit in nal_units(packet, (extradata[4] & 3) + 1 if extradata and is_record else 0):
        kind = unit[0] & _H264_TYPE_MASK if unit else None
        if kind in (_H264_IDR, _H264_SLICE):
            return kind == _H264_IDR
    return False
