"""How coarsely a frame was quantized, as its decoder exports it."""

import math
from enum import Enum

import numpy as np
from av.codec.context import CodecContext
from av.sidedata.encparams import VideoEncParams, VideoEncParamsType
from av.video.frame import VideoFrame

#: What a decoder's option `export_side_data` must name, FFmpeg's `-export_side_data` too: the filters of libpostproc's
#: family get no quantizers from H.264 without it.
EXPORTED_QUANTIZERS = "venc_params"

#: Where `delta_qp` stands in AVVideoBlockParams, behind src_x, src_y, w and h (libavutil/video_enc_params.h).
_DELTA_QP = 16


class Scale(Enum):
    """What a quantizer's number means, as decoders export it."""

    H264 = VideoEncParamsType.H264  # 0 to 51; the step doubles every 6
    MPEG2 = VideoEncParamsType.MPEG2  # 2 to 62 (112 in MPEG-2): the step; MPEG-1, -2 and -4 Part 2, H.263
    VP9 = VideoEncParamsType.VP9  # 0 to 255: a place in a table of steps


#: Step of H.264's quantizer 0, in codes (ITU-T H.264, 8.5.9: LevelScale and the transform's norms); it doubles every 6.
_FIRST_STEP = 0.625
#: VP9's quantizer index, and the step there in eighths of a code: every tenth or so of the AC table for 8 bits (VP9
#: bitstream specification, 8.6.1), between which it is almost straight.
_VP9_INDICES = (0, 1, 95, 120, 137, 150, 160, 169, 180, 190, 200, 210, 220, 230, 240, 250, 255)
_VP9_STEPS = (4, 8, 102, 152, 203, 255, 305, 359, 440, 530, 639, 771, 933, 1129, 1369, 1660, 1828)
#: What to add to the H.264 quantizer of the same step, so that networks' corrections count for as much as in H.264:
#: MPEG-4 Part 2 and MPEG-2 filter nothing after a large transform, VP9 filters more. Measured on the training clips by
#: `bench/fit_scales.py`: the gain is flat within two of each.
_OFFSETS = {Scale.H264: 0.0, Scale.MPEG2: 6.0, Scale.VP9: -4.0}
#: What people call a quantizer where it is not what is exported: FFmpeg's `-q:v`, 1 to 31, is half a step.
_UNITS = {Scale.MPEG2: 2.0}


def export_quantizers(context: CodecContext) -> None:
    """Let a decoder that is not open yet put quantizers beside its frames.

    Its threads then work within a frame: with frames decoded ahead, the export races with the decoding.
    """
    context.thread_type = "SLICE"
    context.options = {**context.options, "export_side_data": EXPORTED_QUANTIZERS}


def mean_quantizer(frame: VideoFrame) -> float | None:
    """Mean over the macroblocks of the quantizer that the decoder exported; None if it exported none.

    On the scale of the codec's own encoders: 0 to 51 in H.264, 1 to 31 (56 in MPEG-2) in the MPEG family, 0 to 255 in
    VP9.
    """
    found = exported_quantizer(frame)
    return None if found is None else found[1] / _UNITS.get(found[0], 1.0)


def h264_quantizer(frame: VideoFrame) -> float | None:
    """The mean quantizer of H.264 at which networks' corrections count for as much as in this frame; None if untold."""
    found = exported_quantizer(frame)
    return None if found is None else as_h264(*found)


def as_h264(scale: Scale, exported: float) -> float:
    """An exported quantizer on H.264's scale: that of the same step, corrected for what else differs."""
    if scale is Scale.H264:
        return exported
    step = exported if scale is Scale.MPEG2 else float(np.interp(exported, _VP9_INDICES, _VP9_STEPS)) / 8
    return 6 * math.log2(max(step, _FIRST_STEP) / _FIRST_STEP) + _OFFSETS[scale]


def exported_quantizer(frame: VideoFrame) -> tuple[Scale, float] | None:
    """What the decoder put beside the frame: which scale, and the mean over the macroblocks."""
    data = frame.side_data.get("VIDEO_ENC_PARAMS")
    if not isinstance(data, VideoEncParams):
        return None
    scale = next((scale for scale in Scale if scale.value == data.codec_type), None)
    if scale is None:
        return None
    if not data.nb_blocks:
        return scale, float(data.qp)
    # Not through `qp_map`: it refuses interlaced frames, and works block by block.
    raw = np.frombuffer(memoryview(data), np.uint8)  # type: ignore[arg-type]
    blocks = raw[data.blocks_offset :][: data.nb_blocks * data.block_size].reshape(-1, data.block_size)
    deltas = blocks[:, _DELTA_QP : _DELTA_QP + 4].copy().view(np.int32)
    return scale, float(data.qp + deltas.mean())
