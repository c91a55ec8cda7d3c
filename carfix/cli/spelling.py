"""Options as FFmpeg's users type them: a word behind one dash, which parsers take for several letters.

`-map 0` would be `-m ap` and a file called 0, `-an` an unknown `-a`. So a word that is no option is refused as a whole,
with what to write instead, before any file is touched.
"""

import difflib
import re
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from typer.core import TyperCommand, TyperGroup

from carfix.cli.ffmpeg_options import LOG_LEVELS, encoder_hint_for, hint_for, means_nothing_here
from carfix.errors import UsageError

#: What follows FFmpeg's `-r`: frames a second.
_RATE = re.compile(r"\d+(\.\d+)?(/\d+)?|ntsc|pal|film")
#: Letters whose values begin with one of these, and words that are no value: `-tag` is no `-t`, `-max_delay` no `-m`.
_NUMBERED, _DIGITS = "tg", "0123456789."
_WORD = re.compile(r"[a-z]*(_[a-z]+)+|[a-z]*:[a-z](:\d+)?")
#: A negative number is no option.
_NUMBER = re.compile(r"-[\d.]+")
#: Columns of a terminal below which rich's tables cut the names of options.
_NARROW = 80


class SpelledGroup(TyperGroup):
    """All commands; says where the command's name was forgotten."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:  # noqa: ANN401 - click's or typer's own
        """As typer's. Raises `UsageError` for an option of a command that stands alone."""
        own = {"-h", "--help"} | {
            name for param in self.params for name in (*param.opts, *param.secondary_opts)
        }
        if args and not ctx.resilient_parsing and args[0].startswith("-") and args[0] not in own:
            raise UsageError(f"a command comes first: carfix restore {args[0]} ...; carfix -h lists all")
        return super().parse_args(ctx, args)

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:  # noqa: ANN401
        """As typer's. Raises `UsageError` for a file in the command's place."""
        first = Path(args[0])
        unknown = args[0] not in self.commands and not ctx.resilient_parsing
        if unknown and (first.suffix or first.exists()):
            raise UsageError(f"{args[0]!r} is no command; did you mean carfix restore {' '.join(args)}?")
        return super().resolve_command(ctx, args)


class SpelledCommand(TyperCommand):
    """A command that refuses words behind one dash which are none of its options."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:  # noqa: ANN401 - click's or typer's own
        """As typer's. Raises `UsageError` for a word that is no option."""
        if not ctx.resilient_parsing:  # as shells complete
            args = list(self._checked(args))
        return super().parse_args(ctx, args)

    def format_help(self, ctx: Any, formatter: Any) -> None:  # noqa: ANN401
        """As typer's; on narrow terminals without its tables."""
        if shutil.get_terminal_size().columns < _NARROW:
            self.rich_markup_mode = None
        super().format_help(ctx, formatter)

    def _checked(self, args: Sequence[str]) -> Iterator[str]:
        takes_value = self._options()
        awaited = literal = False
        for place, arg in enumerate(args):
            following = args[place + 1] if place + 1 < len(args) else ""
            if awaited or literal or not arg.startswith("-") or arg == "-" or _NUMBER.fullmatch(arg):
                awaited = False
            elif arg == "--":
                literal = True
            elif arg in takes_value:
                awaited = takes_value[arg]
                self._check_meaning(arg, following)
            elif not arg.startswith("--"):
                if self._like_ffmpeg and means_nothing_here(arg):
                    continue
                awaited = self._awaits_value(arg, takes_value)
            yield arg

    @property
    def _like_ffmpeg(self) -> bool:
        """Whether people type FFmpeg's options here: of the commands this one does what FFmpeg does."""
        return self.name == "restore"

    def _options(self) -> dict[str, bool]:
        """The names of all options, and whether they take a value."""
        return {
            name: not getattr(param, "is_flag", False)
            for param in self.params
            if param.param_type_name == "option"
            for name in (*param.opts, *param.secondary_opts)
        } | {"-h": False, "--help": False}

    def _check_meaning(self, option: str, following: str) -> None:
        """Raises `UsageError` where an option of both programs is used as FFmpeg's."""
        if not self._like_ffmpeg or Path(following).exists():
            return
        if option == "-r" and _RATE.fullmatch(following):
            raise UsageError(
                f"-r walks folders here, it sets no frame rate: every frame keeps its time; leave -r {following} out"
            )
        if option == "-v" and (following in LOG_LEVELS or following.lstrip("-").isdecimal()):
            raise UsageError(f"-v shows tracebacks here and takes no level; leave {following} out, or use -q")
        if option == "-q" and following.isdecimal():
            raise UsageError(f"-q shows errors alone here and takes no quality; it is -crf {following}")

    def _awaits_value(self, arg: str, takes_value: dict[str, bool]) -> bool:
        """Whether letters behind one dash end with one whose value is the next argument.

        Flags come together (`-rv`), and a value stands behind its letter (`-mfast`, `-t90`). Raises `UsageError` for
        what is no such letters.
        """
        name = arg.partition("=")[0]
        if self._like_ffmpeg and (hint := hint_for(name)):
            raise UsageError(f"no such option: {name}; {hint}")
        for known in (f"-{name}", name.partition(":")[0]):  # one dash too few; -crf:v
            if known in takes_value:
                raise UsageError(f"no such option: {name}; it is {known}")
        if self._like_ffmpeg and (hint := encoder_hint_for(name)):
            raise UsageError(f"no such option: {name}; {hint}")
        for place, letter in enumerate(arg[1:], 1):
            takes = takes_value.get(f"-{letter}")
            rest = arg[place + 1 :]
            if takes is None or (takes and rest and not self._is_value(letter, rest)):
                like = difflib.get_close_matches(name, takes_value, 1)
                hint = f"is it {like[0]}?" if like else f"carfix {self.name} -h lists them"
                raise UsageError(f"no such option: {name}; {hint}")
            if takes:
                return not rest
        return False

    def _is_value(self, letter: str, rest: str) -> bool:
        """Whether `rest`, which stands behind a letter without a space, can be its value and not FFmpeg's word."""
        if not self._like_ffmpeg:
            return True
        return (letter not in _NUMBERED or rest[0] in _DIGITS) and not _WORD.fullmatch(rest)
