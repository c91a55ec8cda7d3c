"""What a job found wrong with its input, as lines for people."""

from collections.abc import Iterator, Sequence

from carfix.restore.pipeline import Tally
from carfix.video.clock import Jump
from carfix.video.decode import Damage
from carfix.video.timeline import Timeline

#: Places where a clock was set that are told one by one: of a day that was put together minute by minute, it is 1440.
_TOLD = 5


def timeline_findings(timeline: Timeline) -> Iterator[str]:
    """What reading the packets of a file showed."""
    yield from packet_findings(timeline.jumps, timeline.stood, timeline.strays, timeline.corrupt)
    if timeline.unreachable:
        yield (
            f"the recording begins between two keyframes: {timeline.unreachable} frames before its first picture need "
            "what came before, and are left out"
        )
    yield from moved_findings(timeline.moved)
    yield from end_findings(timeline.truncated)


def end_findings(cut_short: str | None) -> Iterator[str]:
    """What is missing at the end of an input, from a file or a pipe; None: nothing that it tells of."""
    if cut_short is not None:
        yield f"the input is cut short: {cut_short}"


def break_findings(broken: int | None) -> Iterator[str]:
    """What the structure of a file showed: the byte at which it is damaged, if any."""
    if broken is not None:
        yield f"the input's structure is damaged at byte {broken}: what is not found behind that is lost"


def packet_findings(jumps: Sequence[Jump], stood: int, strays: int, corrupt: int) -> Iterator[str]:
    """What the packets themselves showed, from a file or a pipe."""
    for jump in jumps[:_TOLD]:
        where = "back" if jump.after < jump.before else "ahead"
        yield (
            f"the clock jumped {where} from {float(jump.before):.3f} s to {float(jump.after):.3f} s; "
            f"what follows was moved by {float(jump.shift):+.3f} s"
        )
    if len(jumps) > _TOLD:
        again = len(jumps) - _TOLD
        yield f"it jumped {again} more times; in the end what follows was moved by {float(jumps[-1].shift):+.3f} s"
    if stood:
        yield f"the clock stood still for {stood} frames, which follow each other at the video's rate"
    if strays:
        yield f"{strays} packets have damaged times, which were guessed from their neighbours"
    if corrupt:
        yield f"{corrupt} packets are flagged as damaged"


def tally_findings(tally: Tally, *, expected: int, frames: int) -> Iterator[str]:
    """What decoding a file showed; `expected` frames by the packets, `frames` in the output."""
    yield from damage_findings(tally.damage)
    yield from unflagged_findings(tally.unflagged)
    if frames != expected:
        yield f"the input promises {expected} frames; {frames} could be decoded"


def unflagged_findings(unflagged: int) -> Iterator[str]:
    """That so many frames would have to be flagged as interlaced, and are not."""
    if unflagged:
        yield (
            f"{unflagged} frames are interlaced, which the first is not: the output does not flag them; "
            "-c:v libx264 -x x264-params=tff=1 (or bff=1) flags all"
        )


def damage_findings(damage: Damage) -> Iterator[str]:
    """What the decoder met, in a file or a pipe."""
    if damage.packets:
        yield f"{damage.packets} damaged packets could not be decoded"
    if damage.frames:
        yield f"{damage.frames} damaged frames were concealed"
    yield from moved_findings(damage.times)


def moved_findings(frames: int) -> Iterator[str]:
    """That so many frames are not shown when the file says."""
    if frames:
        yield f"{frames} frames were moved so that times ascend"


def refused_findings(refused: int) -> Iterator[str]:
    """What writing the other streams showed; so many of their packets were refused."""
    if refused:
        yield f"{refused} damaged packets of sound and other streams were left out"


def is_damaged(timeline: Timeline, tally: Tally, *, broken: int | None, missing: int, refused: int) -> bool:
    """Whether the output holds less than the input once did: frames, or packets of other streams."""
    counts = (timeline.corrupt, timeline.strays, tally.damage.packets, tally.damage.frames, missing, refused)
    return timeline.truncated is not None or broken is not None or any(counts)
