"""The end of a job: its segments become one file, which is verified and only then gets its name."""

from collections.abc import Callable
from pathlib import Path

from carfix.errors import CarfixError
from carfix.interruption import unfinished
from carfix.restore.findings import refused_findings
from carfix.restore.place import copy_times
from carfix.restore.state import State
from carfix.video.faults import reason
from carfix.video.mux import write_output
from carfix.video.on_disk import force_to_disk, sync_folder
from carfix.video.output import OutputPlan
from carfix.video.sink import JoinedSegments
from carfix.video.verify import verify_output

#: Seconds by which sound may end early before it is told: readers cut it otherwise.
_NOTICED = 0.5


def land(
    plan: OutputPlan,
    segments: JoinedSegments,
    state: State,
    output: Path,
    *,
    overwrite: bool,
    times_of: Path | None,
    joined: Callable[[int], None],
) -> tuple[list[str], int]:
    """Write `output` by `plan` in the state's folder, verify it, rename it, and throw the state away.

    `times_of` is a file whose times of access and modification it gets; `joined` hears how many frames are in. Returns
    warnings, and how many packets of other streams were refused. Raises `CarfixError`; then the state stays, and so
    does what was under its name.
    """
    warnings: list[str] = []
    temporary = state.folder / f"output{output.suffix}"
    with unfinished(temporary):  # half a file on a full disk would leave no room for the others
        muxed = write_output(temporary, plan, segments, joined)
        times = segments.times() - plan.shift_ticks
        late, early, sound = verify_output(temporary, output, muxed, times, plan.info.time_base)
        warnings += refused_findings(muxed.refused)
        if late:
            warnings.append(f"{plan.format} has no times below 0: everything is {float(late):.3f} s later")
        if early:
            warnings.append(
                f"{plan.format} states few times: behind a pause players may show frames up to {float(early):.1f} s "
                "early; .mkv keeps their times"
            )
        if sound > _NOTICED:
            warnings.append(
                f"{plan.format} has no pauses in such sound: behind them it comes up to {float(sound):.1f} s early; "
                ".mkv keeps it with the picture"
            )
        if output.exists() and not overwrite:  # with -y the next run has nothing left to compute
            raise CarfixError(f"{output} was created meanwhile; -y overwrites it")
        try:
            force_to_disk(temporary)
            if times_of is not None and (lost := copy_times(times_of, temporary)):
                warnings.append(lost)
            temporary.replace(output)
        except OSError as error:
            raise CarfixError(f"cannot write {output}: {reason(error)}") from error
    sync_folder(output.parent)
    state.discard()
    return warnings, muxed.refused
