"""Standard streams that whoever started carfix has closed (`2>&-` in a crontab), or whose code page lacks letters."""

import codecs
import contextlib
import io
import os
import sys
from pathlib import Path

from carfix.errors import EXIT_FAILED, CarfixError

#: The name of `_escaped` among the ways to treat letters that an encoding lacks.
_ESCAPED = "carfix.escaped"


class _NoStdout(io.TextIOBase):
    """What is to be read by somebody and cannot be is an error, not nothing."""

    def write(self, _: str) -> int:
        raise CarfixError("standard output is closed: what was to be printed there is lost")


def fill_standard_streams() -> None:
    """Give the numbers 0 to 2 to the null device where they are free.

    Else the next files that are opened would get them, and what a library tells on stderr would be written into a
    video. What is told on a closed stderr is dropped; a closed stdin stays None, as Python has it.
    """
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            opened = os.open(os.devnull, os.O_RDWR)  # the smallest free number: this one
            os.set_inheritable(opened, True)  # as these are; helping processes would have the same trouble
    if sys.stderr is None:
        sys.stderr = Path(os.devnull).open("w", encoding="utf-8")  # noqa: SIM115 - for as long as the process lives
    if sys.stdout is None:
        sys.stdout = _NoStdout()


def block_standard_streams() -> None:
    """Let them wait, where whoever shares them with carfix has left them so that they do not.

    A reader that is slower than carfix would else lose all that the pipe has no room for, of which FFmpeg is told to
    try again.
    """
    for number in range(3):
        if os.name == "posix" and not os.get_blocking(number):
            os.set_blocking(number, True)


def unbuffer_stderr() -> None:
    """Let what cannot be written to stderr, on a full disk or a terminal that is gone, be lost at once.

    Python would keep it and try again with every line, as a process is started for the next file, which then fails, and
    at its own end, which would change the exit code.
    """
    if isinstance(sys.stderr, io.TextIOWrapper) and isinstance(sys.stderr.buffer, io.BufferedWriter):
        sys.stderr = io.TextIOWrapper(
            sys.stderr.buffer.raw,  # as Python itself has it with `-u`
            encoding=sys.stderr.encoding,
            errors=sys.stderr.errors,
            write_through=True,
        )


def finish_stdout() -> None:
    """Write what is still kept for stdout. If that cannot be, the process ends with exit code 1, if not with another.

    Python itself would try at its end, show parts of a traceback and end with 120. A reader that has seen enough
    (`| head`) is told nothing.
    """
    try:
        sys.stdout.flush()
    except OSError as error:
        from carfix.restore.telling import drop

        drop(sys.stdout)
        ending = error.__context__
        if ending is not None and not (isinstance(ending, SystemExit) and not ending.code):
            return  # which says what is wrong
        if not isinstance(error, BrokenPipeError):
            with contextlib.suppress(OSError):
                sys.stderr.write(f"carfix: cannot write to standard output: {error.strerror}\n")
        sys.exit(EXIT_FAILED)


def spell_unknown_letters() -> None:
    """Let stdout write as `\\u65e5`, as stderr does, what its encoding lacks.

    On Windows that of a file or a program (`> list.txt`) is a code page: a table must not be lost for a name in another
    script.
    """
    if not isinstance(sys.stdout, io.TextIOWrapper):
        return
    if sys.stdout.errors == "strict":
        sys.stdout.reconfigure(errors="backslashreplace")
    elif sys.stdout.errors == "surrogateescape":
        # In the C locale, which writes odd bytes of names as they are.
        codecs.register_error(_ESCAPED, _escaped)
        sys.stdout.reconfigure(errors=_ESCAPED)


def _escaped(error: UnicodeError) -> tuple[str | bytes, int]:
    try:
        return codecs.lookup_error("surrogateescape")(error)
    except UnicodeEncodeError:
        return codecs.backslashreplace_errors(error)
