"""The `carfix` executable: collects the commands and turns exceptions into one line and an exit code."""

import contextlib
import functools
import importlib
import os
import sys
import traceback
from typing import IO, Annotated, Any, cast

import typer
from rich.console import Console

from carfix import __version__
from carfix.cli.patterns import expanded
from carfix.cli.spelling import SpelledCommand, SpelledGroup
from carfix.errors import EXIT_FAILED, EXIT_INTERRUPTED, CarfixError, MissingPartError, UsageError, internal
from carfix.interruption import was_interrupted


class _Stderr:
    """`sys.stderr` of the moment, which may go away (a closed terminal, a full disk) without ending the work."""

    def write(self, text: str) -> int:
        """As a file's; what cannot be written is dropped."""
        with contextlib.suppress(OSError):
            sys.stderr.write(text)
        return len(text)

    def flush(self) -> None:
        """As a file's."""
        with contextlib.suppress(OSError):
            sys.stderr.flush()

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401 - whatever a file has
        return getattr(sys.stderr, name)


#: Humans read stderr; stdout belongs to data (piped video, JSON lines). `:camera:` in a file's name is no picture.
stderr = Console(file=cast(IO[str], _Stderr()), highlight=False, emoji=False)

#: Columns of tables that go into a file or a program, which nothing should wrap.
_WIDE = 240
#: The fewest that they are laid out for: below, columns would go away, those of the files' names first.
_NARROW = 80


def table_console() -> Console:
    """For tables on stdout: as wide as the terminal, or as they need where there is none.

    A terminal too narrow for their columns wraps the lines.
    """
    console = Console(emoji=False)
    if not console.is_terminal and "COLUMNS" not in os.environ:
        console.width = _WIDE
    console.width = max(console.width, _NARROW)
    return console


app = typer.Typer(
    name="carfix",
    cls=SpelledGroup,
    help="Removes compression artifacts from video with CAR-CNN and keeps everything else of the file.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    rich_markup_mode="markdown",
)

#: Order of the commands in `carfix --help`: what most people need first. Each module defines `register(app)`.
COMMANDS = (
    "restore",
    "compare",
    "inspect",
    "models",
    "dataset",
    "train",
    "evaluate",
    "detect",
    "bench",
    "export",
)


def _version(show: bool) -> None:
    if show:
        sys.stdout.write(f"carfix {__version__}\n")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    """Removes compression artifacts from video with CAR-CNN and keeps everything else of the file."""


def run() -> None:
    """Run the command line; the process ends with one of the exit codes of docs/restore.md."""
    # Idle OpenMP threads would spin on the cores that decoder and encoder need: without this, a restore on a busy
    # 2-core machine took up to four times as long. Read when torch is first loaded, which no command has done yet.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    _load_commands()
    verbose = any(arg in ("-v", "--verbose") for arg in sys.argv[1:])
    try:
        # Given none, typer would take patterns for names on Windows, those behind --include as well.
        app(expanded(sys.argv[1:]) if os.name == "nt" else None, prog_name="carfix")
    except SystemExit as end:
        if end.code == EXIT_INTERRUPTED:  # as typer ends what Ctrl-C has interrupted, without a word
            stderr.print("carfix: interrupted")
        raise
    except UsageError as error:  # which the line says whole: -v may even be what is wrong
        report_error(error, verbose=False)
        sys.exit(error.exit_code)
    except CarfixError as error:
        report_error(error, verbose=verbose)
        sys.exit(error.exit_code)
    except Exception as error:  # noqa: BLE001 - the last line of defence: no traceback without -v
        if was_interrupted(error):
            stderr.print("carfix: interrupted")
            sys.exit(EXIT_INTERRUPTED)
        missing = _missing_part(error)
        report_error(missing or error, verbose=verbose)
        sys.exit(missing.exit_code if missing else EXIT_FAILED)


@functools.cache
def _load_commands() -> None:
    for command in COMMANDS:
        importlib.import_module(f"carfix.cli.{command}").register(app)
    for known in app.registered_commands:
        known.cls = SpelledCommand


def _missing_part(error: Exception) -> MissingPartError | None:
    """What an import failed for, where it is a package that carfix is installed with."""
    package = (error.name or "").partition(".")[0] if isinstance(error, ModuleNotFoundError) else ""
    if package in ("", __package__.partition(".")[0]):
        return None
    missing = MissingPartError(f"the package {package} is not installed; `pip install carfix` brings it")
    missing.__cause__ = error
    return missing


def report_error(error: BaseException, *, verbose: bool) -> None:
    """Print `error` as one line on stderr, with its traceback behind it only if `verbose`."""
    text = " ".join(str(error).split()) or type(error).__name__
    if isinstance(error, OSError) and error.strerror:
        text = f"{error.filename}: {error.strerror}" if error.filename else error.strerror
    elif not isinstance(error, CarfixError):
        text = internal(error, "run again with -v and report the traceback")
    stderr.print(f"carfix: {text}", markup=False, soft_wrap=True)
    if verbose:
        traceback.print_exception(error)
