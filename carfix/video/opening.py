"""Recordings that begin between keyframes: what comes before the first picture that can be decoded is no damage."""

import dataclasses

import numpy as np

from carfix.video.decode import Damage, decode_frames
from carfix.video.source import SourceInfo
from carfix.video.timeline import Timeline, scan

#: How many frames behind a keyframe may be shown before it, at most.
_LEADING = 16


def reachable(info: SourceInfo) -> Timeline:
    """See `scan`, without the frames that need what was sent before the recording began, as television's do.

    Raises `CarfixError` as scanning and decoding do.
    """
    timeline = scan(info)
    times = timeline.presentation
    # What is shown from such a keyframe on needs nothing before it: if it is not there, damage took it.
    whole = timeline.clean[:1]
    if len(times) == 0 or (timeline.pts[whole] <= times[0]).any():
        return timeline
    if timeline.ordinal:
        # Times are those of decoding; of the frames behind it some are shown before it.
        whole = np.minimum(whole + _LEADING, len(timeline.pts) - 1)
    damage = Damage()
    first = next(decode_frames(info, timeline, damage), None)
    if first is None or damage.packets:
        return timeline
    assert first.pts is not None
    bound = int(np.append(timeline.pts[whole], first.pts).min())
    lost = int(np.searchsorted(times, bound))
    if not lost:
        return timeline
    return dataclasses.replace(timeline, shown=timeline.shown & (timeline.pts >= bound), unreachable=lost)
