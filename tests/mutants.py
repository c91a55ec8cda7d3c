"""Harmed files given to the commands that measure, in a process whose death or hanging is seen from outside."""

import contextlib
import io
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

from faults import mutated


def measure_mutants(
    sources: Sequence[Path], weights: Path, folder: Path, seeds: Sequence[int], limit: float, log: Path
) -> None:
    """Run `compare` and `inspect` on mutants of `sources`; `log` gets a line before and after each command."""
    # torch takes seconds to load, and only here is it needed: not in the processes that restore.
    from carfix.quality import inspect

    inspect.measure_speed = lambda restored: 1e-8  # the same of every file; measured once is enough
    whole = [source.read_bytes() for source in sources]
    with log.open("w", buffering=1) as lines:
        for seed in seeds:
            source, data = sources[seed % len(sources)], whole[seed % len(sources)]
            victim = folder / f"{seed}{source.suffix}"
            victim.write_bytes(mutated(data, seed))
            for command in _commands(seed, str(source), str(victim), str(weights)):
                lines.write(f"{seed} {command[0]} ")
                signal.setitimer(signal.ITIMER_REAL, limit)  # the default action of SIGALRM ends the process
                lines.write(_outcome(command) + "\n")
                signal.setitimer(signal.ITIMER_REAL, 0)
            for path in folder.iterdir():
                path.unlink()


def _commands(seed: int, source: str, victim: str, weights: str) -> list[list[str]]:
    """The harmed file is inspected, and is now candidate and now reference, under every rule of pairing."""
    pair = [source, victim] if seed % 3 else [victim, source]
    pairing = [[], ["--shortest"], ["--shortest", "--align-start", "--scale"]][seed // 2 % 3]
    compare = ["compare", *pair, *pairing, *[["--json"], ["--csv"], []][seed // 5 % 3], "--device", "cpu"]
    if seed % 7 == 0:
        compare += ["--model", weights]
    if seed % 8 == 0:
        compare = ["compare", "--no-reference", victim, "--model", weights, "--device", "cpu"]
    if seed % 4 == 0:
        compare += ["--html", f"{victim}.html"]
    inspect = ["inspect", victim, *[["--json"], []][seed % 2], "--model", weights, "--device", "cpu"]
    return [compare, inspect]


def _outcome(command: Sequence[str]) -> str:
    """How a command ended, in one line: `done`, `refused` with its reason, or `BAD`."""
    from carfix.cli import main

    sys.argv = ["carfix", *command]
    code: object = 0
    stdout, stderr = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(stdout), contextlib.redirect_stderr(stderr):
        try:
            main()
        except SystemExit as exit:
            code = exit.code or 0
        except BaseException as error:  # noqa: BLE001 - what must not happen is what is looked for
            return f"BAD: {type(error).__name__}: {error}"
    told = [line for line in stderr.getvalue().splitlines() if line.startswith("carfix: ")]
    text = " ".join(stderr.getvalue().split())
    if "Traceback" in text or "internal error" in text or code not in (0, 1):
        return f"BAD ({code}): {text}"
    if code == 1:
        return f"refused: {told[0]}" if len(told) == 1 else f"BAD: not one reason but {text}"
    return "done" if stdout.getvalue() else "BAD: nothing was told"
