"""The command line: each file of this package parses one command and calls one library function."""

import contextlib
import signal
import sys

from carfix.errors import EXIT_INTERRUPTED
from carfix.interruption import ending_on

#: What asks a program to end: Ctrl-C, `kill` and the system's shutdown, a terminal that goes away.
_SIGNALS = [number for name in ("SIGINT", "SIGTERM", "SIGHUP") if (number := getattr(signal, name, None))]


def main() -> None:
    """Run the command line; the process ends with the exit code of DESIGN section 2."""
    try:
        with ending_on(*_SIGNALS, last=_last_words):
            from carfix.cli.app import run  # takes a moment, in which Ctrl-C must not show a traceback

            run()
    except KeyboardInterrupt:
        sys.exit(EXIT_INTERRUPTED)


def _last_words() -> None:
    with contextlib.suppress(OSError, ValueError, AttributeError):
        shown = "\x1b[?25h" if sys.stderr.isatty() else ""  # a progress bar hides the cursor
        sys.stderr.write(f"{shown}carfix: interrupted, and ended without waiting any longer\n")
        sys.stderr.flush()


__all__ = ["main"]
