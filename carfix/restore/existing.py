"""Files that need not be restored, or may not: the output is there, or the input is still being recorded."""

import time
from collections.abc import Mapping
from fractions import Fraction
from typing import Any

import numpy as np

from carfix.errors import CarfixError
from carfix.restore.known import PARTS, facts_of, is_known, remember
from carfix.restore.report import Outcome
from carfix.restore.state import discard_state
from carfix.restore.tasks import Task
from carfix.video.decode import Damage, decode_frames
from carfix.video.faults import reason as media_reason
from carfix.video.muxer import WITHOUT_TIMES, tells_date
from carfix.video.opening import reachable
from carfix.video.source import probe, probe_restored
from carfix.video.timeline import scan
from carfix.video.verify import lateness

#: Seconds by which the times of two files may differ for nothing: disks round them.
_CLOCKS_DIFFER = 2.0


def too_young(task: Task, min_age: float) -> Outcome | None:
    """Skipped, if the input was changed less than `min_age` seconds ago, or will be in less: clocks differ."""
    try:
        age = time.time() - task.source.stat().st_mtime
    except OSError:
        return None  # whoever opens it says what is wrong
    if abs(age) >= min_age:
        return None
    return Outcome(
        task, "skipped", reason=f"changed {max(age, 0):.0f} seconds ago, and may still be recorded"
    )


def what_is_there(task: Task, options: Mapping[str, Any]) -> Outcome | None:
    """What becomes of a file whose output exists: skipped if that is the whole, else failed. None: there is work to do.

    `options` are those of `restore_video`.
    """
    try:
        if options.get("overwrite") or not task.output.exists():
            return None
        facts = facts_of(task, options)
        known = is_known(task, facts)
        why = None if known else why_unfinished(task, options)
    except OSError as error:  # in a folder that may not be searched, or gone since
        return Outcome(task, "failed", reason=f"cannot read {task.output}: {media_reason(error)}")
    except CarfixError as error:  # overwriting would not help
        reason = f"{task.output} exists, and cannot be compared with its input: {error}"
        return Outcome(task, "failed", reason=reason)
    if why is not None:
        return Outcome(task, "failed", reason=f"{task.output} exists, but {why}; -y overwrites it")
    if not known:
        remember(task, facts)
    discard_state(task.output)  # of a run that was killed just after it had finished
    later = _changed_since(task)
    return Outcome(task, "skipped", reason=f"already restored{later}")


def _changed_since(task: Task) -> str:
    """That the input is younger than its output: a recording under an older one's name is, and so is a plain copy."""
    try:
        if task.source.stat().st_mtime <= task.output.stat().st_mtime + _CLOCKS_DIFFER:
            return ""
    except OSError:
        return ""
    return f", and the input was changed since: if it is another recording, remove {task.output}"


def why_unfinished(task: Task, options: Mapping[str, Any]) -> str | None:
    """Why an existing output is not the whole restored input; None if it has all its frames at their times.

    Raises `CarfixError` if the input cannot be read, or not to its end.
    """
    if any(options.get(name) is not None for name in PARTS):
        return "a part of the input was asked for"
    source = probe(task.source, options.get("stream"))
    wanted = reachable(source)
    try:
        output = probe_restored(task.output, source)
        got = scan(output)
    except CarfixError as error:
        return str(error)
    if got.truncated is not None:
        return f"it is cut short: {got.truncated}"
    if (source.width, source.height) != (output.width, output.height):
        return f"its size is {output.width}x{output.height}, not {source.width}x{source.height}"
    if len(got.presentation) != len(wanted.presentation):
        # Damaged input: packets that promise a frame and do not decode. Only decoding tells how many.
        decodable = sum(1 for _ in decode_frames(source, wanted, Damage()))
        if len(got.presentation) != decodable:
            return f"it has {len(got.presentation)} frames, not {decodable}"
        return None
    if wanted.ordinal or got.ordinal or wanted.jumps or output.format in WITHOUT_TIMES:
        return None  # counted, but with no times to compare
    tick = max(source.time_base, output.time_base, Fraction(1, 1000))
    first, begins = (
        int(got.presentation[0]) * output.time_base,
        int(wanted.presentation[0]) * source.time_base,
    )
    # What begins below 0, or at a date, is moved by as much as its container needs.
    late = (
        first - begins if begins < 0 or tells_date(begins) else lateness(output.format, first, begins, tick)
    )
    differences = np.abs(
        got.presentation * float(output.time_base)
        - wanted.presentation * float(source.time_base)
        - float(late)
    )
    return "its frames have other times" if (differences > float(tick)).any() else None
