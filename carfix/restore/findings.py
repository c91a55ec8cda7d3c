"""What a job found wrong with its input, as lines for people."""

from collections.abc import Iterator

from carfix.restore.pipeline import Tally
from carfix.video.timeline import Timeline


def timeline_findings(timeline: Timeline) -> Iterator[str]:
    """What reading the packets showed."""
    for jump in timeline.jumps:
        yield (
            f"the clock jumped back from {float(jump.before):.3f} s to {float(jump.after):.3f} s; "
            f"what follows was moved by {float(jump.shift):+.3f} s"
        )
    if timeline.strays:
        yield f"{timeline.strays} packets have damaged times, which were guessed from their neighbours"
    if timeline.corrupt:
        yield f"{timeline.corrupt} packets are flagged as damaged"
    if timeline.truncated is not None:
        yield f"the input is cut short: {timeline.truncated}"


def tally_findings(tally: Tally, *, expected: int, frames: int) -> Iterator[str]:
    """What decoding showed; `expected` frames by the packets, `frames` in the output."""
    if tally.damage.packets:
        yield f"{tally.damage.packets} damaged packets could not be decoded"
    if tally.damage.frames:
        yield f"{tally.damage.frames} damaged frames were concealed"
    if tally.damage.times:
        yield f"{tally.damage.times} frames were moved so that times ascend"
    if frames != expected:
        yield f"the input promises {expected} frames; {frames} could be decoded"


def refused_findings(refused: int) -> Iterator[str]:
    """What writing the other streams showed; so many of their packets were refused."""
    if refused:
        yield f"{refused} damaged packets of sound and other streams were left out"


def is_damaged(timeline: Timeline, tally: Tally, *, missing: int, refused: int) -> bool:
    """Whether the output holds less than the input once did: frames, or packets of other streams."""
    counts = (timeline.corrupt, timeline.strays, tally.damage.packets, tally.damage.frames, missing, refused)
    return timeline.truncated is not None or any(counts)
