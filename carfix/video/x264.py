"""What x264 and x265 take and would only complain of on stderr, cut down without a word, or leave out."""

import contextlib
import re
from collections.abc import Mapping

from carfix.errors import UsageError

#: Presets of x264 and x265, which share their names.
PRESETS = (
    *("ultrafast", "superfast", "veryfast", "faster", "fast", "medium", "slow", "slower", "veryslow"),
    "placebo",
)
TUNES = ("film", "animation", "grain", "stillimage", "psnr", "ssim", "fastdecode", "zerolatency", "touhou")
PROFILES = ("baseline", "main", "high", "high10", "high422", "high444")
#: Of both; what is above they cut down to it. FFmpeg knows the other encoders' own limits.
HIGHEST_CRF = 51

#: x264 takes several tunings, with one of these between.
_TUNES_APART = re.compile(r"[,./+-]")
_X264_NAMES = {"preset": PRESETS, "tune": TUNES, "profile": PROFILES}
_NAMES: Mapping[str, Mapping[str, tuple[str, ...]]] = {
    "libx264": _X264_NAMES,
    "libx264rgb": _X264_NAMES,
    "libx265": {"preset": PRESETS},
}


def check_x264(codec: str, options: Mapping[str, str], crf: float | None) -> None:
    """Raises `UsageError` for `options` that x264 or x265 would not heed; other encoders pass."""
    if codec not in _NAMES:
        return
    for option, names in _NAMES[codec].items():
        value = options.get(option, "")
        for word in _TUNES_APART.split(value) if option == "tune" else [value]:
            numbered = option == "preset" and word.isdigit() and int(word) < len(names)
            if word and word.lower() not in names and not numbered:
                raise UsageError(f"{codec} has no {option} {word!r}, but {', '.join(names)}")
    if crf is None:
        with contextlib.suppress(KeyError, ValueError):  # what is no number the encoder refuses
            crf = float(options["crf"])
    if crf is not None and crf > HIGHEST_CRF:
        raise UsageError(f"{codec} takes -crf up to {HIGHEST_CRF}, not {crf:g}")
    if options.get("crf") is not None and "b" in options:
        raise UsageError(f"{codec} takes either -crf or -b:v; with -crf, -maxrate limits the rate")
    if "maxrate" in options and "bufsize" not in options:
        raise UsageError(f"-maxrate needs -bufsize, for example -bufsize {options['maxrate']}")
