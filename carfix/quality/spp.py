"""FFmpeg's own post-processing (spp, fspp, uspp) as a rival of carfix, run exactly as FFmpeg runs it.

The frames come through a pipe as raw video in NUT, which keeps the pixel format and every timestamp.
"""

import dataclasses
import errno
import functools
import itertools
import os
import re
import subprocess
import tempfile
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Literal

import av
import numpy as np
from av.video.format import VideoFormat
from av.video.frame import VideoFrame

from carfix.errors import CarfixError, UsageError
from carfix.quality.damage import Damage
from carfix.quality.ffmpeg import FFmpeg, find_ffmpeg, input_arguments
from carfix.quality.metrics import peak
from carfix.quality.reader import LumaFrame, read_frames
from carfix.restore.engine import Planes
from carfix.scratch import scratch
from carfix.video.address import address
from carfix.video.choice import find_video
from carfix.video.quantizer import EXPORTED_QUANTIZERS
from carfix.video.source import open_input

FilterName = Literal["spp", "fspp", "uspp"]

#: What each filter takes as `quality`, and FFmpeg's default (`ffmpeg -h filter=NAME`).
QUALITIES = {"spp": range(0, 7), "fspp": range(4, 6), "uspp": range(0, 9)}
DEFAULT_QUALITY = {"spp": 3, "fspp": 4, "uspp": 3}
#: A constant quantizer of 0 means "take the decoder's".
QUANTIZERS = range(1, 64)

#: Where the best constant quantizer is looked for; far above the best ones, spp only blurs.
QUANTIZER_GRID = (1, 2, 3, 4, 5, 6, 8, 10, 12, 16, 20, 24)
FIRST_QUANTIZER = 4

#: Where FFmpeg's log says who speaks: `[vf#0:0 @ 0x5605a85895c0] `.
_LOG_ORIGIN = re.compile(r"^(\[[^]]* @ [^]]*\] )+")
#: How a filter refuses quantizers of another kind than MPEG's and H.264's: VP9's decoder exports some, too.
_NOT_READ = os.strerror(errno.ENOSYS)

#: Gray of more than 8 bits as the luma of a format that spp takes, code for code.
_GRAY_AS_LUMA = "scale=in_range=pc:out_range=pc,format=yuv420p10le"

#: Side of the pictures that an ffmpeg is tried on.
TRIAL_SIDE = 64


class UnfilteredError(CarfixError):
    """The filter has nothing to work with in a file: it left every frame as it was, or refused the quantizers."""


@dataclasses.dataclass(frozen=True)
class PostFilter:
    """One filter with its settings; `quantizer` None takes the decoder's quantizers."""

    filter: FilterName = "spp"
    quality: int | None = None
    quantizer: int | None = None

    def __post_init__(self) -> None:
        qualities = QUALITIES[self.filter]
        if self.quality is not None and self.quality not in qualities:
            raise UsageError(
                f"{self.filter} takes a quality of {qualities[0]} to {qualities[-1]}, not {self.quality}"
            )
        if self.quantizer is not None and self.quantizer not in QUANTIZERS:
            raise UsageError(
                f"{self.filter} takes a quantizer of {QUANTIZERS[0]} to {QUANTIZERS[-1]}, "
                f"not {self.quantizer}"
            )

    @property
    def name(self) -> str:
        """For tables: `spp`, or `spp-qp8` with a constant quantizer."""
        return self.filter if self.quantizer is None else f"{self.filter}-qp{self.quantizer}"

    @property
    def graph(self) -> str:
        """As `ffmpeg -vf` takes it."""
        quality = DEFAULT_QUALITY[self.filter] if self.quality is None else self.quality
        constant = "" if self.quantizer is None else f":qp={self.quantizer}"
        return f"{self.filter}=quality={quality}{constant}"

    def graph_for(self, format: VideoFormat) -> str:
        """The same for pictures of a pixel format: spp would take deep gray for RGB, whose luma is another."""
        deep_gray = format.name.startswith("gray") and max(c.bits for c in format.components) > 8
        return f"{_GRAY_AS_LUMA},{self.graph}" if self.filter == "spp" and deep_gray else self.graph

    def find(self) -> FFmpeg:
        """An ffmpeg whose filter works on H.264. Raises `MissingPartError`."""
        return find_ffmpeg(self.filter, trial=lambda ffmpeg: _trial(ffmpeg, self))


def command(ffmpeg: FFmpeg, path: Path, graph: str, limit: int | None, stream: int = 0) -> list[str]:
    """The command line whose standard output are the filtered frames of one stream in NUT."""
    return [
        ffmpeg.path,
        *("-hide_banner", "-nostdin", "-loglevel", "error"),
        # With frame threads FFmpeg now and then exports the quantizers of a frame that is not finished, and the
        # pictures differ from run to run (seen with 9.0 in one run of twenty).
        *("-threads", "1", "-export_side_data", f"+{EXPORTED_QUANTIZERS}"),
        # uspp's own threads race: without this, 5 of 60 runs gave another picture.
        *("-filter_threads", "1"),
        *ffmpeg.as_decoded(),
        *input_arguments(path),
        *("-map", f"0:{stream}", "-vf", graph),
        # Every frame once, at its own time: no frame rate may round it.
        *("-fps_mode", "passthrough", "-copyts", "-enc_time_base", "demux"),
        *(() if limit is None else ("-frames:v", str(limit))),
        *("-c:v", "rawvideo", "-f", "nut", "-"),
    ]


@functools.lru_cache(maxsize=16)
def _trial(ffmpeg: FFmpeg, post_filter: PostFilter) -> str | None:
    """Why `ffmpeg` cannot run the filter on H.264, found by running it on two frames; None if it can.

    To have the filter is not enough: FFmpeg 5.1's refuses the quantizers that its own H.264 decoder exports, and
    its command line spells the time base otherwise.
    """
    with scratch("carfix-spp-") as folder:
        path = folder / "trial.mp4"
        _write_trial_clip(path)
        result = subprocess.run(
            command(ffmpeg, path, post_filter.graph, None), capture_output=True, check=False
        )
    lines = result.stderr.decode(errors="replace").strip().splitlines()
    if result.returncode == 0 and result.stdout:
        return None
    return f"{post_filter.filter} fails on H.264 ({lines[0] if lines else result.returncode})"


def _write_trial_clip(path: Path) -> None:
    """Two frames of H.264 with large quantizers."""
    noise = np.random.default_rng(0).integers(0, 256, (2, TRIAL_SIDE * 3 // 2, TRIAL_SIDE), dtype=np.uint8)
    with av.open(address(path), "w") as container:
        stream = container.add_stream("libx264", rate=25, options={"crf": "45"})
        stream.width, stream.height, stream.pix_fmt = TRIAL_SIDE, TRIAL_SIDE, "yuv420p"
        for planes in noise:
            container.mux(stream.encode(VideoFrame.from_ndarray(planes, format="yuv420p")))
        container.mux(stream.encode(None))


def filtered_frames(
    path: Path,
    post_filter: PostFilter,
    *,
    limit: int | None = None,
    damage: Damage | None = None,
    stream: int | None = None,
) -> Iterator[LumaFrame]:
    """Each frame of `path`, of its video of the number `stream`, behind `post_filter`; the first `limit` if given.

    ffmpeg passes over damaged packets; `damage` is for the decoded frames that its own are held against.

    Raises `MissingPartError` if no ffmpeg has the filter, `UnfilteredError` if it left every frame as it was,
    `CarfixError` if ffmpeg fails.
    """
    ffmpeg = post_filter.find()
    with open_input(path) as container:
        # The one that everything else is measured on.
        chosen = find_video(container, path, None if stream is None else str(stream))
        video, graph = chosen.index, post_filter.graph_for(chosen.format)
    with tempfile.TemporaryFile() as log:
        process = subprocess.Popen(
            command(ffmpeg, path, graph, limit, video), stdout=subprocess.PIPE, stderr=log
        )
        assert process.stdout is not None
        try:
            try:
                shown = read_frames(process.stdout, name=f"{post_filter.filter} of {path}")
                decoded = read_frames(path, stream=video, damage=damage)
                yield from _checked(map(_within_its_bits, shown), decoded, path, post_filter)
            except CarfixError:
                process.stdout.close()  # an ffmpeg that still writes must not wait for a reader
                if process.wait() == 0:
                    raise
            if process.wait() != 0:
                log.seek(0)
                raise _failure(process.returncode, log.read().decode(errors="replace"), path, post_filter)
        finally:
            process.kill()
            process.stdout.close()
            process.wait()


def _within_its_bits(frame: LumaFrame) -> LumaFrame:
    """The frame with white for what FFmpeg's filters write where more than 8 bits overflow: all bits of the word."""
    if frame.bit_depth == 8:
        return frame
    luma: Planes = np.minimum(frame.luma, np.uint16(peak(frame.bit_depth)))
    return dataclasses.replace(frame, luma=luma)


def _checked(
    frames: Iterator[LumaFrame], decoded: Generator[LumaFrame], path: Path, post_filter: PostFilter
) -> Iterator[LumaFrame]:
    """`frames`, with an error behind the last one if none differs from the `decoded` frame.

    They have times only if the file states times.
    """
    changed = False
    timeless = False
    for frame in frames:
        if not changed:
            original = next(decoded, None)
            changed = original is None or not np.array_equal(original.luma, frame.luma)
            timeless = original is not None and original.time is None
            if changed:
                decoded.close()  # its decoder is no longer needed
        # ffmpeg invents times for files that state none (raw H.264): such frames pair up in order.
        yield dataclasses.replace(frame, time=None) if timeless else frame
    if not changed:
        if post_filter.quantizer is None:
            raise _unfiltered(
                post_filter,
                f"left every frame of {path} as it was: FFmpeg's decoder exports no quantizers for it",
            )
        raise UnfilteredError(
            f"{post_filter.graph} left every frame of {path} as it was: the constant quantizer is too small; choose a "
            "larger one or leave the filter out"
        )


def _unfiltered(post_filter: PostFilter, what: str) -> UnfilteredError:
    name = post_filter.filter
    option = "--spp-qp 8" if name == "spp" else f"--{name} --spp-qp 8"
    return UnfilteredError(
        f"{post_filter.graph} {what}; choose a constant quantizer (carfix compare {option}) or leave the filter out"
    )


def _failure(returncode: int, log: str, path: Path, post_filter: PostFilter) -> CarfixError:
    lines = [_LOG_ORIGIN.sub("", line.strip()) for line in log.splitlines() if line.strip()]
    if returncode < 0:
        return CarfixError(
            f"ffmpeg crashed (signal {-returncode}) in {post_filter.graph} on {path}; FFmpeg's fspp does so "
            "when the width is no multiple of 8: try spp or uspp"
        )
    if post_filter.quantizer is None and any(_NOT_READ in line for line in lines):
        return _unfiltered(
            post_filter, f"cannot filter {path}: FFmpeg's filters do not read its codec's quantizers"
        )
    # The first line is the cause; what follows says which of FFmpeg's threads ended for it.
    return CarfixError(f"ffmpeg failed in {post_filter.graph} on {path}: {lines[0] if lines else returncode}")


def climb(score: "dict[int, float]", start: int) -> int | None:
    """The next quantizer of `QUANTIZER_GRID` to try, or None once the best one's neighbours were tried.

    `score` holds the mean PSNR of what was tried so far. PSNR over the quantizer rises and then falls, so the
    hill that is climbed is the only one.
    """
    grid = QUANTIZER_GRID
    if not score:
        return start
    best = grid.index(max(score, key=lambda quantizer: score[quantizer]))
    for index in itertools.chain(range(best - 1, best), range(best + 1, best + 2)):
        if 0 <= index < len(grid) and grid[index] not in score:
            return grid[index]
    return None
