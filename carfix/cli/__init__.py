"""The command line: each file of this package parses one command and calls one library function."""

import atexit
import contextlib
import gc
import sys

from carfix.cli.standard_streams import (
    block_standard_streams,
    fill_standard_streams,
    finish_stdout,
    spell_unknown_letters,
    unbuffer_stderr,
)
from carfix.errors import EXIT_INTERRUPTED
from carfix.interruption import ENDING, ending_on


def main() -> None:
    """Run the command line; the process ends with one of the exit codes of docs/restore.md."""
    # Python looks through all objects for garbage before it ends, three times, to free what the system takes back
    # anyway: a fifth of what a short recording costs.
    atexit.register(gc.freeze)
    try:
        unbuffer_stderr()  # before one is filled, which nothing else holds: it would be closed with its buffer
        fill_standard_streams()
        block_standard_streams()
        spell_unknown_letters()
        with ending_on(*ENDING, last=_last_words):
            from carfix.cli.app import run  # takes a moment, in which Ctrl-C must not show a traceback

            run()
    except KeyboardInterrupt:
        sys.exit(EXIT_INTERRUPTED)
    finally:
        finish_stdout()


def _last_words() -> None:
    with contextlib.suppress(OSError, ValueError, AttributeError):
        shown = "\x1b[?25h" if sys.stderr.isatty() else ""  # a progress bar hides the cursor
        sys.stderr.write(f"{shown}carfix: interrupted, and ended without waiting any longer\n")
        sys.stderr.flush()


__all__ = ["main"]
