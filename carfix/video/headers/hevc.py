"""The quantizer of HEVC's slices (ITU-T H.265, 7.3): SliceQpY of a picture's first slice.

Blocks may differ from it by what adaptive quantization adds, which is near nothing in the mean.
"""

import dataclasses

from carfix.video.headers.bits import Bits, EndOfHeader
from carfix.video.headers.nal import SliceQuantizers, parameters, slice_header, units_behind_lengths

# nal_unit_type, table 7-1.
_FIRST_RESERVED_SLICE = 10
_BLA_W_LP, _IDR_W_RADL, _IDR_N_LP, _CRA, _LAST_IRAP = 16, 19, 20, 21, 23
_SPS, _PPS = 33, 34
# slice_type, table 7-7.
_B, _P = 0, 1

#: Bytes of a unit's own header.
_UNIT_HEAD = 2
#: More than this no level allows; a damaged header may say anything.
_MOST_PICTURES = 16
_MOST_SETS = 64

#: Pictures that one may refer to: difference in picture order, and whether this one does (or a later one).
_ReferenceSet = list[tuple[int, bool]]


@dataclasses.dataclass(frozen=True)
class _Sps:
    chroma: bool  # ChromaArrayType is not 0
    separate_planes: bool
    poc_bits: int
    sao: bool
    short_term: list[_ReferenceSet]
    long_term: list[bool] | None  # used by this picture; None: there are no long-term pictures
    temporal_mvp: bool


@dataclasses.dataclass(frozen=True)
class _Pps:
    sps: int
    output_flag: bool
    extra_bits: int
    cabac_init: bool
    references: tuple[int, int]
    init_qp: int
    weighted_p: bool
    weighted_b: bool
    list_modification: bool


class HevcHeaders(SliceQuantizers):
    """Reads SliceQpY; `extradata` may be an hvcC record."""

    def __init__(self, extradata: bytes) -> None:
        self._sps: dict[int, _Sps] = {}
        self._pps: dict[int, _Pps] = {}
        super().__init__(extradata, _units_of_hvcc)

    def _read(self, unit: bytes) -> int | None:
        if len(unit) < _UNIT_HEAD or _layer(unit):
            return None
        kind = unit[0] >> 1 & 0x3F
        if kind == _SPS:
            number, sps = _read_sps(parameters(unit, _UNIT_HEAD))
            self._sps[number] = sps
        elif kind == _PPS:
            number, pps = _read_pps(parameters(unit, _UNIT_HEAD))
            self._pps[number] = pps
        elif kind < _FIRST_RESERVED_SLICE or _BLA_W_LP <= kind <= _CRA:
            return self._slice_qp(kind, slice_header(unit, _UNIT_HEAD))
        return None

    def _slice_qp(self, kind: int, bits: Bits) -> int:
        """slice_segment_header, 7.3.6.1, up to slice_qp_delta."""
        if not bits.flag():  # first_slice_segment_in_pic_flag
            raise EndOfHeader
        if _BLA_W_LP <= kind <= _LAST_IRAP:
            bits.skip(1)  # no_output_of_prior_pics_flag
        pps = self._pps[bits.ue()]
        sps = self._sps[pps.sps]
        bits.skip(pps.extra_bits)
        slice_type = bits.ue()
        bits.skip(1 if pps.output_flag else 0)
        bits.skip(2 if sps.separate_planes else 0)
        pictures = 0  # NumPicTotalCurr
        temporal_mvp = False
        if kind not in (_IDR_W_RADL, _IDR_N_LP):
            bits.skip(sps.poc_bits)
            pictures = _references(bits, sps)
            temporal_mvp = sps.temporal_mvp and bits.flag()
        if sps.sao:
            bits.skip(2 if sps.chroma else 1)
        if slice_type in (_B, _P):
            _skip_prediction(
                bits, sps, pps, is_b=slice_type == _B, pictures=pictures, temporal_mvp=temporal_mvp
            )
        return pps.init_qp + bits.se()


def _references(bits: Bits, sps: _Sps) -> int:
    """The sets of reference pictures; how many pictures this one may refer to."""
    count = len(sps.short_term)
    if not bits.flag():  # short_term_ref_pic_set_sps_flag
        chosen = _short_term_set(bits, count, sps.short_term)
    else:
        chosen = sps.short_term[bits.u((count - 1).bit_length()) if count > 1 else 0]
    used = sum(use for _, use in chosen)
    if sps.long_term is None:
        return used
    known = len(sps.long_term)
    from_sps = bits.ue() if known else 0
    for index in range(_bounded(from_sps + bits.ue(), _MOST_PICTURES)):
        if index < from_sps:
            used += sps.long_term[bits.u((known - 1).bit_length()) if known > 1 else 0]
        else:
            bits.skip(sps.poc_bits)
            used += bits.flag()
        if bits.flag():  # delta_poc_msb_present_flag
            bits.ue()
    return used


def _skip_prediction(
    bits: Bits, sps: _Sps, pps: _Pps, *, is_b: bool, pictures: int, temporal_mvp: bool
) -> None:
    """What stands in the headers of P and B slices in front of the quantizer."""
    lists = list(pps.references) if is_b else [pps.references[0]]
    if bits.flag():  # num_ref_idx_active_override_flag
        lists = [_bounded(bits.ue() + 1, _MOST_PICTURES) for _ in lists]
    if pps.list_modification and pictures > 1:
        for active in lists:
            if bits.flag():
                bits.skip(active * (pictures - 1).bit_length())
    bits.skip(1 if is_b else 0)  # mvd_l1_zero_flag
    bits.skip(1 if pps.cabac_init else 0)
    if temporal_mvp:
        collocated = 0 if not is_b or bits.flag() else 1
        if lists[collocated] > 1:
            bits.ue()
    if pps.weighted_b if is_b else pps.weighted_p:
        _skip_weights(bits, lists, chroma=sps.chroma)
    bits.ue()  # five_minus_max_num_merge_cand


def _skip_weights(bits: Bits, lists: list[int], *, chroma: bool) -> None:
    """pred_weight_table, 7.3.6.3."""
    bits.ue()
    if chroma:
        bits.se()
    for active in lists:
        luma = [bits.flag() for _ in range(active)]
        colours = [chroma and bits.flag() for _ in range(active)]
        for has_luma, has_colours in zip(luma, colours, strict=True):
            for _ in range(2 * has_luma + 4 * has_colours):
                bits.se()


def _read_sps(bits: Bits) -> tuple[int, _Sps]:
    """seq_parameter_set_rbsp, 7.3.2.2, up to sps_temporal_mvp_enabled_flag."""
    bits.skip(4)
    layers = bits.u(3)  # sps_max_sub_layers_minus1
    bits.skip(1)
    _skip_profile(bits, layers)
    number = bits.ue()
    chroma_format = bits.ue()
    separate_planes = chroma_format == 3 and bits.flag()
    bits.ue()
    bits.ue()
    if bits.flag():  # conformance_window_flag
        for _ in range(4):
            bits.ue()
    bits.ue()
    bits.ue()
    poc_bits = bits.ue() + 4
    for _ in range(0 if bits.flag() else layers, layers + 1):
        for _ in range(3):
            bits.ue()
    for _ in range(6):  # sizes of coding and transform blocks, depths of their trees
        bits.ue()
    if bits.flag() and bits.flag():
        _skip_scaling_lists(bits)
    bits.skip(1)  # amp_enabled_flag
    sao = bits.flag()
    if bits.flag():  # pcm_enabled_flag
        bits.skip(8)
        bits.ue()
        bits.ue()
        bits.skip(1)
    sets: list[_ReferenceSet] = []
    for _ in range(_bounded(bits.ue(), _MOST_SETS)):
        sets.append(_short_term_set(bits, len(sets), sets, in_sps=True))
    long_term = None
    if bits.flag():
        long_term = []
        for _ in range(_bounded(bits.ue(), 32)):
            bits.skip(poc_bits)
            long_term.append(bits.flag())
    return number, _Sps(
        chroma=chroma_format != 0 and not separate_planes,
        separate_planes=separate_planes,
        poc_bits=poc_bits,
        sao=sao,
        short_term=sets,
        long_term=long_term,
        temporal_mvp=bits.flag(),
    )


def _skip_profile(bits: Bits, layers: int) -> None:
    """profile_tier_level, 7.3.3."""
    bits.skip(88 + 8)
    present = [(bits.flag(), bits.flag()) for _ in range(layers)]
    bits.skip(2 * (8 - layers) if layers else 0)
    for profile, level in present:
        bits.skip(88 * profile + 8 * level)


def _skip_scaling_lists(bits: Bits) -> None:
    """scaling_list_data, 7.3.4."""
    for size in range(4):
        for _ in range(2 if size == 3 else 6):
            if not bits.flag():
                bits.ue()
                continue
            if size > 1:
                bits.se()
            for _ in range(min(64, 1 << (4 + 2 * size))):
                bits.se()


def _short_term_set(
    bits: Bits, index: int, sets: list[_ReferenceSet], *, in_sps: bool = False
) -> _ReferenceSet:
    """st_ref_pic_set, 7.3.7, and what 7.4.8 derives from it: differences in picture order that are not 0."""
    if index and bits.flag():  # inter_ref_pic_set_prediction_flag
        reference = sets[index - 1 - (0 if in_sps else _bounded(bits.ue(), index - 1))]
        sign = -1 if bits.flag() else 1
        shift = sign * (bits.ue() + 1)
        found = []
        for difference in [*(difference for difference, _ in reference), 0]:
            used = bits.flag()
            if (used or bits.flag()) and difference + shift:
                found.append((difference + shift, used))
        return found
    negative, positive = (_bounded(bits.ue(), _MOST_PICTURES) for _ in range(2))
    found = []
    for count, sign in ((negative, -1), (positive, 1)):
        difference = 0
        for _ in range(count):
            difference += sign * (bits.ue() + 1)
            found.append((difference, bits.flag()))
    return found


def _read_pps(bits: Bits) -> tuple[int, _Pps]:
    """pic_parameter_set_rbsp, 7.3.2.3, up to lists_modification_present_flag."""
    number, sps = bits.ue(), bits.ue()
    bits.skip(1)  # dependent_slice_segments_enabled_flag
    output_flag = bits.flag()
    extra_bits = bits.u(3)
    bits.skip(1)
    cabac_init = bits.flag()
    references = (bits.ue() + 1, bits.ue() + 1)
    init_qp = 26 + bits.se()
    bits.skip(2)
    if bits.flag():  # cu_qp_delta_enabled_flag
        bits.ue()
    bits.se()
    bits.se()
    bits.skip(1)
    weighted_p, weighted_b = bits.flag(), bits.flag()
    bits.skip(1)
    tiles = bits.flag()
    bits.skip(1)
    if tiles:
        columns, rows = bits.ue(), bits.ue()
        if not bits.flag():
            for _ in range(_bounded(columns, 64) + _bounded(rows, 64)):
                bits.ue()
        bits.skip(1)
    bits.skip(1)
    if bits.flag():  # deblocking_filter_control_present_flag
        bits.skip(1)
        if not bits.flag():
            bits.se()
            bits.se()
    if bits.flag():
        _skip_scaling_lists(bits)
    return number, _Pps(
        sps=sps,
        output_flag=output_flag,
        extra_bits=extra_bits,
        cabac_init=cabac_init,
        references=references,
        init_qp=init_qp,
        weighted_p=weighted_p,
        weighted_b=weighted_b,
        list_modification=bits.flag(),
    )


def _bounded(value: int, most: int) -> int:
    if value > most:
        raise EndOfHeader
    return value


def _layer(unit: bytes) -> int:
    """nuh_layer_id: 0 is the picture, others are alpha, depth or a second view."""
    return (unit[0] & 1) << 5 | unit[1] >> 3


def _units_of_hvcc(record: bytes) -> tuple[int, list[bytes]]:
    """HEVCDecoderConfigurationRecord (ISO/IEC 14496-15, 8.3.3.1): bytes of a length, parameter sets."""
    units: list[bytes] = []
    position = 23
    for _ in range(record[22]):
        count = int.from_bytes(record[position + 1 : position + 3], "big")
        found, position = units_behind_lengths(record, position + 3, min(count, len(record)))
        units += found
    return (record[21] & 3) + 1, units
