"""Frame rates that count fields: so FFmpeg guesses them where each field has a time and the stream states no rate."""

import itertools
import statistics
from collections.abc import Iterable

#: Steps from frame to frame that tell: a single one may be longer, where a recording begins between keyframes.
_ENOUGH = 4


def counts_fields(times: Iterable[float], rate: float) -> bool:
    """Whether `rate` is twice that of interlaced frames, of which some in a row are shown at `times` (seconds)."""
    steps = [after - before for before, after in itertools.pairwise(sorted(times))]
    return len(steps) >= _ENOUGH and round(statistics.median(steps) * rate) == 2
