"""How coarsely a frame was quantized, as its decoder exports it or its headers say."""

import dataclasses
import functools
import math
from collections.abc import Callable
from enum import Enum

import numpy as np
from av.codec.context import CodecContext, Flags
from av.packet import Packet
from av.sidedata.encparams import VideoEncParams, VideoEncParamsType
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from carfix.video.headers import Headers, headers_of

#: What a decoder's option `export_side_data` must name, FFmpeg's `-export_side_data` too: the filters of libpostproc's
#: family get no quantizers from H.264 without it.
EXPORTED_QUANTIZERS = "venc_params"

#: Where `delta_qp` stands in AVVideoBlockParams, behind src_x, src_y, w and h (libavutil/video_enc_params.h).
_DELTA_QP = 16


class Scale(Enum):
    """What a quantizer's number means."""

    H264 = "H.264"  # 0 to 51; the step doubles every 6
    MPEG2 = "MPEG-2"  # 2 to 62 (112 in MPEG-2): the step; MPEG-1, -2 and -4 Part 2, H.263
    VP9 = "VP9"  # 0 to 255: a place in a table of steps
    HEVC = "HEVC"  # as H.264
    AV1 = "AV1"  # as VP9
    JPEG = "JPEG"  # the step


#: Those that decoders export, by FFmpeg's name for it; the others are read off headers.
_EXPORTED = {
    VideoEncParamsType.H264: Scale.H264,
    VideoEncParamsType.MPEG2: Scale.MPEG2,
    VideoEncParamsType.VP9: Scale.VP9,
}
_READ = {"h264": Scale.H264, "hevc": Scale.HEVC, "av1": Scale.AV1, "mjpeg": Scale.JPEG}
#: Its decoder exports every macroblock's on the CPU, and only a device needs the headers.
_EXPORTED_OR_READ = "h264"
#: dav1d decodes frames ahead in threads of its own unless told to delay none. They would let go of what `_note` hands
#: on, which takes Python's lock; and PyAV holds that while it seeks or closes the decoder, and waits for them.
_OWN_THREADS = "av1"

#: Step of H.264's quantizer 0, in codes (ITU-T H.264, 8.5.9: LevelScale and the transform's norms); it doubles every 6.
_FIRST_STEP = 0.625
#: VP9's quantizer index, and the step there in eighths of a code: every tenth or so of the AC table for 8 bits (VP9
#: bitstream specification, 8.6.1), between which it is almost straight.
_VP9_INDICES = (0, 1, 95, 120, 137, 150, 160, 169, 180, 190, 200, 210, 220, 230, 240, 250, 255)
_VP9_STEPS = (4, 8, 102, 152, 203, 255, 305, 359, 440, 530, 639, 771, 933, 1129, 1369, 1660, 1828)
#: What to add to the H.264 quantizer of the same step, so that networks' corrections count for as much as in H.264:
#: MPEG's and JPEG's large transforms are followed by no filter, those of HEVC, VP9 and AV1 by more than H.264's.
#: Measured on the training clips by `bench/fit_scales.py`: gains are flat within two of each.
_OFFSETS = {Scale.MPEG2: 6.0, Scale.VP9: -4.0, Scale.HEVC: -4.0, Scale.AV1: -4.0, Scale.JPEG: 4.0}
#: What people call a quantizer where it is not what is exported: FFmpeg's `-q:v`, 1 to 31, is half a step.
_UNITS = {Scale.MPEG2: 2.0}


@dataclasses.dataclass(frozen=True)
class Told:
    """What is known of a frame."""

    scale: Scale
    value: float  # mean over the frame

    @property
    def own(self) -> float:
        """As the codec's own encoders count: 0 to 51 in H.264 and HEVC, 1 to 31 (56 in MPEG-2) in the MPEG family, 0 to
        255 in VP9 and AV1; of JPEG the step of low frequencies."""
        return self.value / _UNITS.get(self.scale, 1.0)

    @property
    def h264(self) -> float:
        """On H.264's scale: the quantizer of the same step, corrected for what else differs between the codecs."""
        match self.scale:
            case Scale.H264:
                return self.value
            case Scale.HEVC:
                return self.value + _OFFSETS[Scale.HEVC]
            case Scale.VP9 | Scale.AV1:
                step = float(np.interp(self.value, _VP9_INDICES, _VP9_STEPS)) / 8
            case Scale.MPEG2 | Scale.JPEG:
                step = self.value
        return 6 * math.log2(max(step, _FIRST_STEP) / _FIRST_STEP) + _OFFSETS[self.scale]


def export_quantizers(context: CodecContext) -> Callable[["Packet[VideoStream]"], None]:
    """Let a decoder that is not open yet put quantizers beside its frames.

    The function returned must be given every packet before the decoder gets it. A decoder on the CPU then works with
    threads within a frame: with frames decoded ahead, its export would race with the decoding.
    """
    codec = context.codec.canonical_name
    if not context.is_hwaccel:  # a device tells none: what would be exported means nothing
        context.thread_type = "SLICE"
        context.options = {**context.options, "export_side_data": EXPORTED_QUANTIZERS}
        if codec == _EXPORTED_OR_READ:
            return lambda packet: None
    headers = headers_of(codec, context.extradata or b"")
    if headers is None:
        return lambda packet: None
    context.flags |= Flags.copy_opaque
    if codec == _OWN_THREADS:
        context.flags |= Flags.low_delay
    return functools.partial(_note, headers, _READ[codec])


def _note(headers: Headers, scale: Scale, packet: "Packet[VideoStream]") -> None:
    """What a packet's headers tell, where the decoder hands it on to the frame."""
    quantizer = headers.quantizer(bytes(packet)) if packet.size else None
    packet.opaque = None if quantizer is None else Told(scale, quantizer)


def scales_identity() -> str:
    """Changes whenever the H.264 quantizer that stands for another codec's may change."""
    return ", ".join(f"{scale.value} {offset:+g}" for scale, offset in _OFFSETS.items())


def mean_quantizer(frame: VideoFrame) -> float | None:
    """The frame's mean quantizer as the codec's own encoders count (`Told.own`); None if it is not told."""
    told = told_quantizer(frame)
    return None if told is None else told.own


def h264_quantizer(frame: VideoFrame) -> float | None:
    """The quantizer of H.264 at which networks' corrections count for as much as in this frame; None if untold."""
    told = told_quantizer(frame)
    return None if told is None else told.h264


def told_quantizer(frame: VideoFrame) -> Told | None:
    """What the decoder or the headers told of the frame, if `export_quantizers` asked for it."""
    data = frame.side_data.get("VIDEO_ENC_PARAMS")
    if not isinstance(data, VideoEncParams):
        return frame.opaque if isinstance(frame.opaque, Told) else None
    scale = _EXPORTED.get(data.codec_type)
    if scale is None:
        return None
    # H.264 of more bits has finer codes and finer steps, and FFmpeg counts from the finest (QP' of ITU-T H.264, 7.4.5).
    finer = 6 * (frame.format.components[0].bits - 8) if scale is Scale.H264 else 0
    if not data.nb_blocks:
        return Told(scale, float(data.qp - finer))
    # Not through `qp_map`: it refuses interlaced frames, and works block by block.
    raw = np.frombuffer(memoryview(data), np.uint8)  # type: ignore[arg-type]
    blocks = raw[data.blocks_offset :][: data.nb_blocks * data.block_size].reshape(-1, data.block_size)
    deltas = blocks[:, _DELTA_QP : _DELTA_QP + 4].copy().view(np.int32)
    return Told(scale, float(data.qp - finer + deltas.mean()))
