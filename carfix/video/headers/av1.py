"""The quantizer of AV1's frames (AV1 bitstream specification, 5.5 to 5.9): base_q_idx of the frame that is shown.

Blocks may differ from it by what adaptive quantization takes off or adds.
"""

import dataclasses
from collections.abc import Iterator

from carfix.video.headers.bits import Bits, EndOfHeader

# obu_type, 6.2.2.
_SEQUENCE_HEADER, _FRAME_HEADER, _FRAME = 1, 3, 6
# frame_type, 6.8.2.
_KEY, _INTER, _INTRA_ONLY, _SWITCH = range(4)
#: seq_force_screen_content_tools and seq_force_integer_mv: each frame says it for itself.
_SELECT = 2
_REFERENCES, _REFERENCES_A_FRAME, _ALL = 8, 7, 0xFF
# 3: what limits tiles, in pixels and in tiles.
_TILE_WIDTH, _TILE_AREA, _MOST_TILES = 4096, 4096 * 2304, 64
_SUPERRES_NUMERATOR, _SUPERRES_DENOMINATOR = 8, 9
#: Bytes of a frame that are looked at: what stands in front of the quantizer is much shorter.
_FRAME_HEADER_BYTES = 512
#: Bytes in front of the OBUs of an av1C record.
_RECORD_HEAD = 4


@dataclasses.dataclass(frozen=True)
class _Sequence:
    reduced: bool  # reduced_still_picture_header
    timed_frames: int  # bits of a frame's presentation time; 0: frames have none
    removal_time_bits: int
    #: operating_point_idc, and whether frames say when they go.
    decoder_models: tuple[tuple[int, bool], ...] | None
    size_bits: tuple[int, int]
    size: tuple[int, int]  # largest frame, pixels
    frame_id_bits: int  # 0: frames have no numbers
    delta_frame_id_bits: int
    large_superblocks: bool
    order_hint_bits: int
    motion_references: bool  # enable_ref_frame_mvs
    screen_content: int
    integer_mv: int
    superres: bool


@dataclasses.dataclass(frozen=True)
class _Reference:
    kind: int
    size: tuple[int, int]  # upscaled, pixels
    quantizer: int


class Av1Headers:
    """Follows the frames of a stream and reads their quantizers."""

    def __init__(self, extradata: bytes) -> None:
        """`extradata` is an av1C record (AV1 in ISOBMFF, 2.3), or empty."""
        self._sequence: _Sequence | None = None
        self._references: list[_Reference | None] = [None] * _REFERENCES
        self._shown: int | None = None
        if len(extradata) > _RECORD_HEAD:
            self.quantizer(extradata[_RECORD_HEAD:])

    def quantizer(self, packet: bytes) -> float | None:
        """base_q_idx, 0 to 255, of the frame that this temporal unit shows; None if it cannot be read."""
        self._shown = None
        try:
            for kind, layers, payload in _obus(packet):
                if kind == _SEQUENCE_HEADER:
                    self._sequence = _read_sequence(Bits(payload))
                elif kind in (_FRAME_HEADER, _FRAME) and self._sequence:
                    self._frame(self._sequence, Bits(payload[:_FRAME_HEADER_BYTES]), layers)
        except (EndOfHeader, IndexError):
            self._references = [None] * _REFERENCES  # until the next key frame
        return None if self._shown is None else float(self._shown)

    def _frame(self, sequence: _Sequence, bits: Bits, layers: tuple[int, int]) -> None:
        """uncompressed_header, 5.9.2, up to base_q_idx, and what it does to the references (7.20)."""
        kind, shown, resilient = _KEY, True, True
        if not sequence.reduced:
            if bits.flag():  # show_existing_frame
                known = self._known(bits.u(3))
                self._shown = known.quantizer
                if known.kind == _KEY:
                    self._references = [known] * _REFERENCES
                return
            kind, shown = bits.u(2), bits.flag()
            if shown:
                bits.skip(sequence.timed_frames)
            else:
                bits.skip(1)  # showable_frame
            resilient = kind == _SWITCH or (kind == _KEY and shown) or bits.flag()
        intra = kind in (_KEY, _INTRA_ONLY)
        no_cdf_update = bits.flag()
        screen_content = bits.flag() if sequence.screen_content == _SELECT else bool(sequence.screen_content)
        integer_mv = False
        if screen_content:
            integer_mv = bits.flag() if sequence.integer_mv == _SELECT else bool(sequence.integer_mv)
        bits.skip(sequence.frame_id_bits)
        override = kind == _SWITCH or (not sequence.reduced and bits.flag())  # frame_size_override_flag
        bits.skip(sequence.order_hint_bits)
        if not (intra or resilient):
            bits.skip(3)  # primary_ref_frame
        _skip_removal_times(bits, sequence, layers)
        refresh = _ALL if kind == _SWITCH or (kind == _KEY and shown) else bits.u(8)
        if (not intra or refresh != _ALL) and resilient:
            bits.skip(_REFERENCES * sequence.order_hint_bits)
        if intra:
            size, width = _frame_size(bits, sequence, override=override)
            _skip_render_size(bits)
            if screen_content and width == size[0]:
                bits.skip(1)  # allow_intrabc
        else:
            size, width = self._inter_size(bits, sequence, override=override, resilient=resilient)
            bits.skip(0 if integer_mv else 1)  # allow_high_precision_mv
            if not bits.flag():  # is_filter_switchable
                bits.skip(2)
            bits.skip(1)  # is_motion_mode_switchable
            bits.skip(1 if sequence.motion_references and not resilient else 0)
        if not (sequence.reduced or no_cdf_update):
            bits.skip(1)  # disable_frame_end_update_cdf
        _skip_tiles(bits, width, size[1], large_superblocks=sequence.large_superblocks)
        quantizer = bits.u(8)
        reference = _Reference(kind, size, quantizer)
        self._references = [
            reference if refresh >> index & 1 else before for index, before in enumerate(self._references)
        ]
        if shown:
            self._shown = quantizer

    def _inter_size(
        self, bits: Bits, sequence: _Sequence, *, override: bool, resilient: bool
    ) -> tuple[tuple[int, int], int]:
        """The references that the frame names, and its size, which may be one of theirs; its coded width."""
        short = sequence.order_hint_bits > 0 and bits.flag()  # frame_refs_short_signaling
        bits.skip(6 if short else 0)
        named = []
        for _ in range(_REFERENCES_A_FRAME):
            named.append(0 if short else bits.u(3))
            bits.skip(sequence.delta_frame_id_bits)
        if override and not resilient:
            for index in named:
                if bits.flag():  # found_ref
                    if short:  # which it is takes the order hints of all references (7.8): not followed here
                        raise EndOfHeader
                    size = self._known(index).size
                    return size, _coded_width(bits, sequence, size[0])
        size, width = _frame_size(bits, sequence, override=override)
        _skip_render_size(bits)
        return size, width

    def _known(self, index: int) -> _Reference:
        reference = self._references[index]
        if reference is None:
            raise EndOfHeader
        return reference


def _skip_removal_times(bits: Bits, sequence: _Sequence, layers: tuple[int, int]) -> None:
    if sequence.decoder_models is None or not bits.flag():  # buffer_removal_time_present_flag
        return
    temporal, spatial = layers
    for point, told in sequence.decoder_models:
        if told and (point == 0 or (point >> temporal & 1 and point >> (spatial + 8) & 1)):
            bits.skip(sequence.removal_time_bits)


def _frame_size(bits: Bits, sequence: _Sequence, *, override: bool) -> tuple[tuple[int, int], int]:
    """frame_size, 5.9.5: pixels, and the width that is coded."""
    size = sequence.size
    if override:
        size = (bits.u(sequence.size_bits[0]) + 1, bits.u(sequence.size_bits[1]) + 1)
    return size, _coded_width(bits, sequence, size[0])


def _coded_width(bits: Bits, sequence: _Sequence, width: int) -> int:
    """superres_params, 5.9.8."""
    if not (sequence.superres and bits.flag()):
        return width
    denominator = bits.u(3) + _SUPERRES_DENOMINATOR
    return (width * _SUPERRES_NUMERATOR + denominator // 2) // denominator


def _skip_render_size(bits: Bits) -> None:
    if bits.flag():
        bits.skip(32)


def _skip_tiles(bits: Bits, width: int, height: int, *, large_superblocks: bool) -> None:
    """tile_info, 5.9.15."""
    shift = 7 if large_superblocks else 6
    columns, rows = (-(-(-(-side // 8) * 8) // (1 << shift)) for side in (width, height))
    widest, largest = _TILE_WIDTH >> shift, _TILE_AREA >> (2 * shift)
    least_columns = _log2(widest, columns)
    least = max(least_columns, _log2(largest, rows * columns))
    if bits.flag():  # uniform_tile_spacing_flag
        log_columns = _increments(bits, least_columns, _log2(1, min(columns, _MOST_TILES)))
        log_rows = _increments(bits, max(least - log_columns, 0), _log2(1, min(rows, _MOST_TILES)))
    else:
        sizes = _tile_sizes(bits, columns, widest)
        log_columns = _log2(1, len(sizes))
        area = rows * columns >> (least + 1) if least else rows * columns
        log_rows = _log2(1, len(_tile_sizes(bits, rows, max(area // max(sizes), 1))))
    if log_columns or log_rows:
        bits.skip(log_columns + log_rows + 2)


def _log2(block: int, target: int) -> int:
    """tile_log2, 5.9.16: the least k so that `block << k` reaches `target`."""
    return max(0, (-(-target // block) - 1).bit_length())


def _increments(bits: Bits, value: int, most: int) -> int:
    while value < most and bits.flag():
        value += 1
    return value


def _tile_sizes(bits: Bits, total: int, most: int) -> list[int]:
    sizes: list[int] = []
    while sum(sizes) < total:
        sizes.append(_not_symmetric(bits, min(total - sum(sizes), most)) + 1)
    return sizes


def _not_symmetric(bits: Bits, count: int) -> int:
    """ns(n), 4.10.7."""
    width = count.bit_length()
    short = (1 << width) - count
    value = bits.u(width - 1)
    return value if value < short else (value << 1) - short + bits.u(1)


def _read_sequence(bits: Bits) -> _Sequence:
    """sequence_header_obu, 5.5, up to enable_superres."""
    bits.skip(3 + 1)
    reduced = bits.flag()
    equal_interval = False
    models: tuple[tuple[int, bool], ...] | None = None
    delay_bits = removal_bits = time_bits = 0
    if reduced:
        bits.skip(5)
    else:
        if bits.flag():  # timing_info_present_flag
            bits.skip(64)
            equal_interval = bits.flag()
            if equal_interval:
                bits.ue()
            if bits.flag():  # decoder_model_info_present_flag
                models = ()
                delay_bits = bits.u(5) + 1
                bits.skip(32)
                removal_bits, time_bits = bits.u(5) + 1, bits.u(5) + 1
        display_delay = bits.flag()
        for _ in range(bits.u(5) + 1):
            point = bits.u(12)
            if bits.u(5) > 7:
                bits.skip(1)  # seq_tier
            if models is not None:
                told = bits.flag()
                bits.skip(2 * delay_bits + 1 if told else 0)
                models = (*models, (point, told))
            if display_delay and bits.flag():
                bits.skip(4)
    size_bits = (bits.u(4) + 1, bits.u(4) + 1)
    size = (bits.u(size_bits[0]) + 1, bits.u(size_bits[1]) + 1)
    frame_id_bits = delta_frame_id_bits = 0
    if not reduced and bits.flag():  # frame_id_numbers_present_flag
        delta_frame_id_bits = bits.u(4) + 2
        frame_id_bits = bits.u(3) + 1 + delta_frame_id_bits
    large_superblocks = bits.flag()
    bits.skip(2)
    order_hint_bits, motion_references = 0, False
    screen_content = integer_mv = _SELECT
    if not reduced:
        bits.skip(4)
        order_hints = bits.flag()
        if order_hints:
            bits.skip(1)
            motion_references = bits.flag()
        screen_content = _SELECT if bits.flag() else bits.u(1)
        if screen_content:
            integer_mv = _SELECT if bits.flag() else bits.u(1)
        if order_hints:
            order_hint_bits = bits.u(3) + 1
    return _Sequence(
        reduced=reduced,
        timed_frames=0 if equal_interval or models is None else time_bits,
        removal_time_bits=removal_bits,
        decoder_models=models,
        size_bits=size_bits,
        size=size,
        frame_id_bits=frame_id_bits,
        delta_frame_id_bits=delta_frame_id_bits,
        large_superblocks=large_superblocks,
        order_hint_bits=order_hint_bits,
        motion_references=motion_references,
        screen_content=screen_content,
        integer_mv=integer_mv,
        superres=bits.flag(),
    )


def _obus(data: bytes) -> Iterator[tuple[int, tuple[int, int], bytes]]:
    """Type, temporal and spatial layer, and payload of each (5.3)."""
    position = 0
    while position < len(data):
        head = data[position]
        position += 1
        layers = (0, 0)
        if head & 4:  # obu_extension_flag
            layers = (data[position] >> 5, data[position] >> 3 & 3)
            position += 1
        length = len(data) - position
        if head & 2:  # obu_has_size_field
            length, position = _leb128(data, position)
        yield head >> 3 & 15, layers, data[position : position + length]
        position += length


def _leb128(data: bytes, position: int) -> tuple[int, int]:
    """A number of seven bits a byte (4.10.5), and where it ends."""
    value = 0
    for shift in range(0, 56, 7):
        byte = data[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if not byte & 0x80:
            return value, position
    raise EndOfHeader
