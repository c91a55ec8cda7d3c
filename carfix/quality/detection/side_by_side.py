"""A video of pairs of pictures, for looking at: H.264, every frame at its own time, no sound."""

import os
from pathlib import Path
from types import TracebackType
from typing import Self

import av
import numpy as np
from av.codec.context import ThreadType
from av.container import OutputContainer
from av.video.frame import VideoFrame
from av.video.reformatter import Colorspace
from av.video.stream import VideoStream

from carfix.errors import CarfixError
from carfix.quality.detection.letterbox import Picture
from carfix.restore.place import fitting
from carfix.video.address import address
from carfix.video.encoder_settings import EncoderSettings, settings_for
from carfix.video.faults import MEDIA_ERRORS, reason
from carfix.video.source import SourceInfo

CODEC = "libx264"
CRF = 18

#: BT.709 in H.273's numbers for primaries, transfer and matrix, and FFmpeg's for the limited range: stated, so that
#: players need not guess.
BT709 = 1
LIMITED = 1


class SideBySide:
    """Writes `output` under a temporary name; leaving the context without an error gives it its own.

    `info` tells clock and rate of the video that the frames are of. Raises `CarfixError` for what cannot be written.
    """

    def __init__(self, output: Path, info: SourceInfo) -> None:
        self._output = output
        self._info = info
        # The suffix stays: it names the container.
        self._temporary = fitting(f".{output.stem}.{os.getpid()}.tmp{output.suffix}", output)
        self._container: OutputContainer | None = None
        self._stream: VideoStream | None = None
        self._first: int | None = None  # tick of the first frame, which becomes 0
        self._last = -1

    def __enter__(self) -> Self:
        return self

    def write(self, left: Picture, right: Picture, pts: int | None) -> None:
        """The next pair, RGB `[H, W, 3]` of one size; `pts` in ticks of the source's clock, None where it has none."""
        canvas = np.concatenate([left, right], axis=1)
        if canvas.shape[0] % 2:  # 4:2:0 has a chroma row for every two
            canvas = np.concatenate([canvas, canvas[-1:]])
        try:
            stream = self._stream or self._open(canvas.shape[1], canvas.shape[0])
            if canvas.shape[:2] != (stream.height, stream.width):
                raise CarfixError(
                    f"{self._info.path} changes its size on the way; leave the output video out"
                )
            frame = VideoFrame.from_ndarray(canvas, format="rgb24")
            frame = frame.reformat(format="yuv420p", dst_colorspace=Colorspace.ITU709)
            frame.pts, frame.time_base = self._tick(pts), self._info.time_base
            self._mux(frame)
        except MEDIA_ERRORS as error:
            raise CarfixError(f"cannot write {self._output}: {reason(error)}") from error

    def _open(self, width: int, height: int) -> VideoStream:
        self._container = av.open(address(self._temporary), "w")
        # AVI counts frames as they are decoded: a player would show those that are reordered at wrong times.
        settings = settings_for(EncoderSettings(options={"crf": str(CRF)}), self._container.format.name)
        stream = self._container.add_stream(CODEC, rate=self._info.rate, options=dict(settings.options))
        assert isinstance(stream, VideoStream)
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        context = stream.codec_context
        context.thread_type = ThreadType.AUTO  # whole frames: PyAV's slices cost bits
        context.time_base = self._info.time_base
        context.colorspace = context.color_primaries = context.color_trc = BT709
        context.color_range = LIMITED
        self._stream = stream
        return stream

    def _tick(self, pts: int | None) -> int:
        """Ascending, from 0; frames without a time follow at the video's rate."""
        if pts is None:
            step = max(1, round(1 / (self._info.rate * self._info.time_base)))
            tick = 0 if self._last < 0 else self._last + step
        else:
            self._first = pts if self._first is None else self._first
            tick = max(pts - self._first, self._last + 1)
        self._last = tick
        return tick

    def _mux(self, frame: VideoFrame | None) -> None:
        assert self._container is not None and self._stream is not None
        for packet in self._stream.encode(frame):
            self._container.mux(packet)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if self._container is not None:
                with self._container:
                    if error is None:
                        self._mux(None)
                if error is None:
                    self._temporary.replace(self._output)
        except MEDIA_ERRORS as failure:
            if error is None:
                raise CarfixError(f"cannot write {self._output}: {reason(failure)}") from failure
        finally:
            self._temporary.unlink(missing_ok=True)
