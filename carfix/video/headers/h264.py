"""What H.264's slices say in their headers (ITU-T H.264, 7.3).

SliceQPY of a picture's first slice is for devices, which export no quantizers; a decoder on the CPU tells each
macroblock's. Whether a packet is the second field of a frame is for those who count frames by packets.
"""

import abc
import dataclasses
from typing import TypeVar

from av.packet import Packet
from av.video.stream import VideoStream

from carfix.video.headers.bits import Bits, EndOfHeader
from carfix.video.headers.nal import (
    NalHeaders,
    SliceQuantizers,
    parameters,
    slice_header,
    units_behind_lengths,
)

# nal_unit_type, table 7-1.
_SLICE, _IDR, _SPS, _PPS = 1, 5, 7, 8
# slice_type modulo 5, table 7-6.
_P, _B, _I, _SP, _SI = range(5)
#: Profiles whose sequences say more (7.3.2.1.1).
_HIGH = {100, 110, 122, 244, 44, 83, 86, 118, 128, 138, 139, 134, 135}
#: Ends a list of modifications of a reference list, table 7-7.
_NO_MORE = 3
#: memory_management_control_operation, table 7-9: how many numbers follow each.
_MARKING_NUMBERS = {1: 1, 2: 1, 3: 2, 4: 1, 5: 0, 6: 1}
_MOST_REFERENCES = 32


@dataclasses.dataclass(frozen=True)
class _Sps:
    chroma: bool  # ChromaArrayType is not 0
    separate_planes: bool
    frame_number_bits: int
    order_bits: int | None  # of pic_order_cnt_lsb; None for the other two ways to count
    order_deltas: bool  # slices tell differences of picture order counts
    frames_only: bool
    size: tuple[int, int]  # macroblocks


@dataclasses.dataclass(frozen=True)
class _Pps:
    sps: int
    cabac: bool
    order_in_frames: bool  # bottom_field_pic_order_in_frame_present_flag
    references: tuple[int, int]
    weighted_p: bool
    weighted_b: bool
    init_qp: int
    redundant: bool


@dataclasses.dataclass(frozen=True)
class _Slice:
    """What all slices begin with."""

    kind: int  # slice_type modulo 5
    is_idr: bool
    is_reference: bool
    sps: _Sps
    pps: _Pps
    number: int  # frame_num
    parity: int | None  # bottom_field_flag; None for a slice of a frame


T = TypeVar("T")


class _H264Units(NalHeaders[T]):
    """Keeps the parameter sets; `extradata` may be an avcC record."""

    def __init__(self, extradata: bytes) -> None:
        self._sps: dict[int, _Sps] = {}
        self._pps: dict[int, _Pps] = {}
        super().__init__(extradata, _units_of_avcc)

    def _read(self, unit: bytes) -> T | None:
        kind = unit[0] & 31 if unit else None
        if kind == _SPS:
            number, sps = _read_sps(parameters(unit, 1))
            self._sps[number] = sps
        elif kind == _PPS:
            number, pps = _read_pps(parameters(unit, 1))
            self._pps[number] = pps
        elif kind in (_SLICE, _IDR):
            bits = slice_header(unit, 1)
            return self._read_slice(self._begin(unit, bits), bits)
        return None

    def _begin(self, unit: bytes, bits: Bits) -> _Slice:
        """slice_header, 7.3.3, up to bottom_field_flag."""
        bits.ue()
        kind = bits.ue() % 5
        pps = self._pps[bits.ue()]
        sps = self._sps[pps.sps]
        bits.skip(2 if sps.separate_planes else 0)
        number = bits.u(sps.frame_number_bits)
        is_field = not sps.frames_only and bits.flag()
        parity = bits.u(1) if is_field else None
        return _Slice(kind, unit[0] & 31 == _IDR, unit[0] & 0x60 != 0, sps, pps, number, parity)

    @abc.abstractmethod
    def _read_slice(self, begun: _Slice, bits: Bits) -> T:
        """Read on behind what all slices begin with."""


class SecondFields(_H264Units[tuple[int, int | None]]):
    """Tells which packets are the second field of a frame, whose first field is the packet before.

    Transport streams of television, and raw streams, have the two fields of a picture (PAFF) in packets of their own,
    from which one frame is decoded.
    """

    def __init__(self, extradata: bytes) -> None:
        super().__init__(extradata)
        self._first: tuple[int, int | None] | None = None  # what waits for its second field
        self.size: tuple[int, int] | None = None  # of the last picture that was looked at, in macroblocks

    def look(self, packet: "Packet[VideoStream]") -> bool:
        """Whether the next packet is a second field, paired with the one before as FFmpeg's decoder pairs them."""
        if not packet.is_keyframe and all(sps.frames_only for sps in self._sps.values()):
            return False  # as nearly always: nothing is looked at but where new parameters may come
        before, self._first = self._first, None
        found = next(slices := self.slices(bytes(packet)), None)
        if found is None:
            return False
        number, parity = found
        if parity is None:
            return False
        if before == (number, 1 - parity):
            return True
        if all(other[1] == parity for other in slices):  # else both fields are in this packet
            self._first = found
        return False

    def _read_slice(self, begun: _Slice, bits: Bits) -> tuple[int, int | None]:
        self.size = begun.sps.size
        return begun.number, begun.parity


class H264Headers(_H264Units[int], SliceQuantizers):
    """Reads SliceQPY; `extradata` may be an avcC record."""

    def _read_slice(self, begun: _Slice, bits: Bits) -> int:
        """slice_header, 7.3.3, up to slice_qp_delta."""
        kind, sps, pps = begun.kind, begun.sps, begun.pps
        if begun.is_idr:
            bits.ue()
        both_fields = pps.order_in_frames and begun.parity is None
        if sps.order_bits is not None:
            bits.skip(sps.order_bits)
            if both_fields:
                bits.se()
        elif sps.order_deltas:
            bits.se()
            if both_fields:
                bits.se()
        if pps.redundant:
            bits.ue()
        if kind in (_P, _SP, _B):
            _skip_prediction(bits, sps, pps, is_b=kind == _B)
        if begun.is_reference:
            _skip_marking(bits, is_idr=begun.is_idr)
        if pps.cabac and kind not in (_I, _SI):
            bits.ue()  # cabac_init_idc
        return pps.init_qp + bits.se()


def _skip_prediction(bits: Bits, sps: _Sps, pps: _Pps, *, is_b: bool) -> None:
    """What P and B slices say of the pictures that they refer to."""
    bits.skip(1 if is_b else 0)  # direct_spatial_mv_pred_flag
    lists = list(pps.references) if is_b else [pps.references[0]]
    if bits.flag():  # num_ref_idx_active_override_flag
        lists = [bits.ue() + 1 for _ in lists]
    if max(lists) > _MOST_REFERENCES:
        raise EndOfHeader
    for _ in lists:
        if bits.flag():  # ref_pic_list_modification_flag
            while bits.ue() != _NO_MORE:
                bits.ue()
    if not (pps.weighted_b if is_b else pps.weighted_p):
        return
    bits.ue()  # pred_weight_table, 7.3.3.2
    if sps.chroma:
        bits.ue()
    for active in lists:
        for _ in range(active):
            for numbers in (2, 4) if sps.chroma else (2,):
                if bits.flag():
                    for _ in range(numbers):
                        bits.se()


def _skip_marking(bits: Bits, *, is_idr: bool) -> None:
    """dec_ref_pic_marking, 7.3.3.3."""
    if is_idr:
        bits.skip(2)
    elif bits.flag():
        while operation := bits.ue():
            for _ in range(_MARKING_NUMBERS.get(operation, 0)):
                bits.ue()


def _read_sps(bits: Bits) -> tuple[int, _Sps]:
    """seq_parameter_set_data, 7.3.2.1.1, up to frame_mbs_only_flag."""
    profile = bits.u(8)
    bits.skip(16)
    number = bits.ue()
    chroma_format, separate_planes = 1, False
    if profile in _HIGH:
        chroma_format = bits.ue()
        separate_planes = chroma_format == 3 and bits.flag()
        bits.ue()
        bits.ue()
        bits.skip(1)
        if bits.flag():  # seq_scaling_matrix_present_flag
            for index in range(12 if chroma_format == 3 else 8):
                if bits.flag():
                    _skip_scaling_list(bits, 16 if index < 6 else 64)
    frame_number_bits = bits.ue() + 4
    way = bits.ue()  # pic_order_cnt_type
    order_bits, order_deltas = None, False
    if way == 0:
        order_bits = bits.ue() + 4
    elif way == 1:
        order_deltas = not bits.flag()
        bits.se()
        bits.se()
        for _ in range(bits.ue()):
            bits.se()
    bits.ue()
    bits.skip(1)
    width, height = bits.ue() + 1, bits.ue() + 1
    frames_only = bits.flag()
    return number, _Sps(
        chroma=chroma_format != 0 and not separate_planes,
        separate_planes=separate_planes,
        frame_number_bits=frame_number_bits,
        order_bits=order_bits,
        order_deltas=order_deltas,
        frames_only=frames_only,
        size=(width, height if frames_only else 2 * height),
    )


def _skip_scaling_list(bits: Bits, entries: int) -> None:
    """scaling_list, 7.3.2.1.1.1: it may end early."""
    last, following = 8, 8
    for _ in range(entries):
        if following:
            following = (last + bits.se()) % 256
        last = following or last


def _read_pps(bits: Bits) -> tuple[int, _Pps]:
    """pic_parameter_set_rbsp, 7.3.2.2, up to redundant_pic_cnt_present_flag."""
    number, sps = bits.ue(), bits.ue()
    cabac, order_in_frames = bits.flag(), bits.flag()
    if bits.ue():  # slice groups, which only Baseline has and nobody writes
        raise EndOfHeader
    references = (bits.ue() + 1, bits.ue() + 1)
    weighted_p, weighted_b = bits.flag(), bits.u(2) == 1
    init_qp = 26 + bits.se()
    bits.se()
    bits.se()
    bits.skip(2)
    return number, _Pps(
        sps=sps,
        cabac=cabac,
        order_in_frames=order_in_frames,
        references=references,
        weighted_p=weighted_p,
        weighted_b=weighted_b,
        init_qp=init_qp,
        redundant=bits.flag(),
    )


def _units_of_avcc(record: bytes) -> tuple[int, list[bytes]]:
    """AVCDecoderConfigurationRecord (ISO/IEC 14496-15, 5.3.3.1): bytes of a length, parameter sets."""
    sequences, position = units_behind_lengths(record, 6, record[5] & 31)
    pictures, _ = units_behind_lengths(record, position + 1, record[position])
    return (record[4] & 3) + 1, sequences + pictures
