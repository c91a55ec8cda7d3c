"""What `carfix restore` does not do for a pipe."""

from collections.abc import Mapping

from carfix.errors import UsageError

#: Options that want a file to go back in, or one beside which to keep something.
_SEEKING = ("--log-json", "--dry-run", "-ss", "-t", "-to")
#: Those that need a word of their own.
_REASONS = {
    "--keep-times": "a pipe has no times: leave --keep-times out",
    "-b:a": "through a pipe sound is copied: leave -b:a out",
    "-movflags": "-movflags is for files made of files",
    "--hwaccel": "what goes through a pipe is decoded on the CPU: leave --hwaccel out",
}


def check_pipe_options(paths: int, given: Mapping[str, object]) -> None:
    """Raise `UsageError` for a number of inputs and outputs that is not two, and for options that are `given`."""
    found = [option for option, value in given.items() if value]
    if paths != 2 or set(found) & set(_SEEKING):
        raise UsageError("- takes one input and one output, and no --log-json, --dry-run, -ss, -t or -to")
    for option, reason in _REASONS.items():
        if option in found:
            raise UsageError(reason)
    if found:
        raise UsageError(f"a pipe is one file, of which nothing is kept: leave {', '.join(found)} out")
