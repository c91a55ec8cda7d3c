"""What can go wrong, as types: each carries the exit code that the command line ends with.

A message is one line that says what is wrong, with which file, and what to do about it.
"""

import contextlib
from collections.abc import Iterator

EXIT_FAILED = 1
EXIT_USAGE = 2
EXIT_MISSING_PART = 3
EXIT_INTERRUPTED = 130


class CarfixError(Exception):
    """An input, output, network or dataset that is not there, or cannot be worked with as it is. Exit code 1."""

    exit_code = EXIT_FAILED


class UsageError(CarfixError):
    """A command that cannot be right whatever the files hold: unknown codec, negative tile. Exit code 2."""

    exit_code = EXIT_USAGE


class MissingPartError(CarfixError):
    """A part of the machine or of the installation is missing; the message names the cure. Exit code 3."""

    exit_code = EXIT_MISSING_PART


class Interrupted(CarfixError):
    """The user stopped the work (Ctrl-C, SIGTERM); finished segments are kept. Exit code 130."""

    exit_code = EXIT_INTERRUPTED


@contextlib.contextmanager
def needing(what: str, package: str, cure: str) -> Iterator[None]:
    """For the import of a `package` that not every installation has. Raises `MissingPartError` where it fails."""
    try:
        yield
    except ImportError as error:
        raise MissingPartError(f"{what} needs the package {package} ({error}); {cure}") from error


#: What libraries say that have no type of their own for it.
_NO_MEMORY = (
    *("failed to map segment", "annot allocate memory", "can't allocate memory", "not enough memory"),
    *("bad_alloc", "out of memory", "can't start new thread"),
)


def internal(error: BaseException, where: str) -> str:
    """What to say of an error that nobody expected; `where` tells where to look for it.

    Memory and threads may run out anywhere, and each library says it in its own way: that is nobody's fault here.
    """
    text = " ".join(str(error).split()) or type(error).__name__
    if isinstance(error, MemoryError) or any(words in text for words in _NO_MEMORY):
        return f"there is no more memory, or no more threads, for this process ({text}): free some, or allow it more"
    return f"internal error: {type(error).__name__}: {text} ({where})"
