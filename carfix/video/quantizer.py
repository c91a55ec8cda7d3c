"""How coarsely a frame was quantized, as its decoder exports it."""

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
    """What a quantizer's number means. VP9's (0 to 255) is none of these and counts as not known."""

    H264 = VideoEncParamsType.H264  # 0 to 51, the step doubles every 6
    MPEG2 = VideoEncParamsType.MPEG2  # 1 to 31, half the step: MPEG-1, MPEG-2, MPEG-4 Part 2, H.263


def export_quantizers(context: CodecContext) -> None:
    """Let a decoder that is not open yet put quantizers beside its frames.

    Its threads then work within a frame: with frames decoded ahead, the export races with the decoding.
    """
    context.thread_type = "SLICE"
    context.options = {**context.options, "export_side_data": EXPORTED_QUANTIZERS}


def mean_quantizer(frame: VideoFrame, *scales: Scale) -> float | None:
    """Mean over the macroblocks of the quantizer that the decoder exported; None if it exported none.

    Counts on each of `scales`, on any of them if none is given.
    """
    data = frame.side_data.get("VIDEO_ENC_PARAMS")
    wanted = {scale.value for scale in scales or Scale}
    if not isinstance(data, VideoEncParams) or data.codec_type not in wanted:
        return None
    if not data.nb_blocks:
        return float(data.qp)
    # Not through `qp_map`: it refuses interlaced frames, and works block by block.
    raw = np.frombuffer(memoryview(data), np.uint8)  # type: ignore[arg-type]
    blocks = raw[data.blocks_offset :][: data.nb_blocks * data.block_size].reshape(-1, data.block_size)
    deltas = blocks[:, _DELTA_QP : _DELTA_QP + 4].copy().view(np.int32)
    return float(data.qp + deltas.mean())
