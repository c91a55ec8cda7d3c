"""VMAF of luma pairs by libvmaf, through an ffmpeg that has it.

The pairs go through one pipe, reference above candidate in one picture, so that ffmpeg scores exactly the frames
that are compared here, whatever file, filter or network they came from.
"""

import functools
import json
import subprocess
import tempfile
from pathlib import Path
from types import TracebackType

import numpy as np

from carfix.cpu import cores
from carfix.errors import CarfixError
from carfix.quality.ffmpeg import FFmpeg, find_ffmpeg
from carfix.quality.metrics import Numbers
from carfix.restore.engine import Planes

FILTER = "libvmaf"

#: Of smaller pictures libvmaf gives up without a word (measured with FFmpeg 9.0): its windows do not fit.
SMALLEST_SIDE = 17

#: Side of the picture that an ffmpeg is tried on.
TRIAL_SIDE = 64

#: Bit depths that libvmaf takes, and how FFmpeg calls them.
_DEPTHS = {8: "", 10: "10le", 12: "12le", 16: "16le"}


@functools.lru_cache(maxsize=8)
def _trial(ffmpeg: FFmpeg) -> str | None:
    """Why `ffmpeg` cannot compute VMAF, found by one picture; None if it can.

    To have the filter is not enough: libvmaf may have been built without its models, and they lie nowhere.
    """
    picture = f"color=size={TRIAL_SIDE}x{TRIAL_SIDE}"
    command = [ffmpeg.path, "-hide_banner", "-nostdin", "-loglevel", "error", "-f", "lavfi", "-i", picture]
    command += ["-lavfi", f"split[a][b];[a][b]{FILTER}", "-frames:v", "1", "-f", "null", "-"]
    result = subprocess.run(command, capture_output=True, check=False)
    if result.returncode == 0:
        return None
    lines = result.stderr.decode(errors="replace").strip().splitlines()
    return f"{FILTER} fails ({lines[0] if lines else result.returncode})"


class VmafMeter:
    """Scores pairs of frames; used as a context, read `scores` behind it.

    Raises `MissingPartError` when opened if no ffmpeg has libvmaf, `CarfixError` for pictures too small for VMAF.
    """

    def __init__(self, width: int, height: int, bit_depth: int) -> None:
        if min(width, height) < SMALLEST_SIDE:
            raise CarfixError(
                f"VMAF needs pictures of at least {SMALLEST_SIDE}x{SMALLEST_SIDE}, not {width}x{height}; "
                "measure --metric psnr,ssim"
            )
        ffmpeg = find_ffmpeg(FILTER, trial=_trial)
        self.scores: Numbers = np.empty(0)
        self._shape = (height, width)
        self._depth = min(depth for depth in _DEPTHS if depth >= bit_depth)
        # libvmaf looks at luma alone but takes no gray: the chroma is flat, and subsampled where sizes allow it.
        subsampled = width % 2 == 0 and height % 2 == 0
        self._dtype = np.dtype(np.uint8 if self._depth == 8 else "<u2")
        chroma = width * height // 2 if subsampled else 2 * width * height
        # Twice: of the two pictures.
        self._chroma = np.full(2 * chroma, 1 << (self._depth - 1), self._dtype).tobytes()
        self._folder = tempfile.TemporaryDirectory(prefix="carfix-vmaf-")
        pix_fmt = f"yuv{420 if subsampled else 444}p{_DEPTHS[self._depth]}"
        graph = (
            f"split[a][b];[a]crop={width}:{height}:0:0[reference];[b]crop={width}:{height}:0:{height}[shown];"
            f"[shown][reference]{FILTER}=log_fmt=json:log_path=vmaf.json:n_threads={len(cores())}"
        )
        command = [ffmpeg.path, "-hide_banner", "-loglevel", "error"]
        command += ["-f", "rawvideo", "-pix_fmt", pix_fmt, "-video_size", f"{width}x{2 * height}", "-i", "-"]
        with (Path(self._folder.name) / "log").open("wb") as log:
            self._process = subprocess.Popen(
                [*command, "-lavfi", graph, "-f", "null", "-"],
                stdin=subprocess.PIPE,
                stderr=log,
                cwd=self._folder.name,  # a filter's option cannot hold every path
            )

    def add(self, reference: Planes, shown: Planes, *, bit_depth: int, shown_bit_depth: int) -> None:
        """The next pair, codes `[H, W]`. Raises `CarfixError` if the meter was not opened for their size and depth."""
        if reference.shape != self._shape or max(bit_depth, shown_bit_depth) > self._depth:
            raise CarfixError(
                "VMAF is of frames of one size and bit depth, and they change on the way; measure --metric psnr,ssim"
            )
        assert self._process.stdin is not None
        pipe = self._process.stdin
        try:
            for luma, depth in ((reference, bit_depth), (shown, shown_bit_depth)):
                pipe.write(np.left_shift(luma, self._depth - depth, dtype=self._dtype).tobytes())
            pipe.write(self._chroma)
        except OSError:
            raise self._failure() from None

    def __enter__(self) -> "VmafMeter":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._process.stdin is not None
        with self._folder:
            if error is not None:
                self._process.kill()
                self._process.communicate()
                return
            self._process.communicate()
            if self._process.returncode != 0:
                raise self._failure()
            try:
                result = json.loads((Path(self._folder.name) / "vmaf.json").read_text(encoding="utf-8"))
            except (OSError, ValueError):  # ffmpeg says nothing of a full disk
                raise self._failure() from None
        self.scores = np.array([frame["metrics"]["vmaf"] for frame in result["frames"]], dtype=np.float64)

    def _failure(self) -> CarfixError:
        lines = (Path(self._folder.name) / "log").read_text(errors="replace").strip().splitlines()
        return CarfixError(f"ffmpeg's {FILTER} failed: {lines[-1] if lines else 'it ended early'}")
