"""Harmed files of every kind: restored or refused in one line, never a traceback, a hang or a partial output."""

import os
from pathlib import Path

import faults
import media
import mutants
import pytest
from media import Sound
from networks import save_awake

#: In all; more in the nightly run: CARFIX_MUTANTS=1000.
MUTANTS = int(os.environ.get("CARFIX_MUTANTS", "200"))
#: A smaller share goes through the commands that measure: less can go wrong there, and it takes longer.
MEASURED = int(os.environ.get("CARFIX_MUTANTS", "40"))
#: Seconds after which one file counts as a hang.
LIMIT = 60.0

KINDS = {
    "mp4": {"suffix": ".mp4"},
    "faststart mp4": {"suffix": ".mp4", "muxer": {"movflags": "faststart"}},
    "mkv": {"suffix": ".mkv"},
    "ts": {"suffix": ".ts"},
    "avi": {"suffix": ".avi"},
}


#: A recorder that was set up anew: another size from some frame on, which is refused unless damage hides it.
TWO_SIZES = "two sizes"


def write_source(folder: Path, kind: str) -> Path:
    if kind == TWO_SIZES:
        first = write_source(folder, "ts")
        second = media.write_clip(
            folder / "larger.ts", width=96, height=80, frames=10, times=[512 * (20 + i) for i in range(10)]
        )
        whole = folder / "two-sizes.ts"
        whole.write_bytes(first.read_bytes() + second.read_bytes())
        return whole
    options = dict(KINDS[kind])
    return media.write_clip(
        folder / f"{kind.replace(' ', '-')}{options.pop('suffix')}",
        frames=20,
        sounds=[Sound(codec="mp2", seconds=0.8)],
        **options,  # type: ignore[arg-type]
    )


@pytest.mark.parametrize("kind", [*KINDS, TWO_SIZES])
def test_mutants(kind: str, tmp_path: Path) -> None:
    source = write_source(tmp_path, kind)
    folder = tmp_path / "mutants"
    folder.mkdir()
    log = tmp_path / "log"
    seeds = range(MUTANTS // len(KINDS))
    process = faults.start(faults.restore_mutants, source, folder, seeds, LIMIT, log)
    process.join()
    lines = log.read_text().splitlines()
    assert process.exitcode == 0, f"died at mutant {lines[-1]}"
    assert not [line for line in lines if "BAD" in line]
    assert len(lines) == len(seeds)
    assert kind == TWO_SIZES or sum("restored" in line for line in lines) > len(seeds) // 4
    assert list(folder.iterdir()) == []


def test_mutants_are_measured(tmp_path: Path) -> None:
    """The same files through `carfix compare` and `carfix inspect`: numbers, or one line and exit code 1."""
    sources = [write_source(tmp_path, kind) for kind in (*KINDS, TWO_SIZES)]
    weights = save_awake(tmp_path / "awake.safetensors")
    folder = tmp_path / "mutants"
    folder.mkdir()
    log = tmp_path / "log"
    seeds = range(MEASURED)
    process = faults.start(mutants.measure_mutants, sources, weights, folder, seeds, LIMIT, log)
    process.join()
    lines = log.read_text().splitlines()
    assert process.exitcode == 0, f"died at mutant {lines[-1]}"
    assert not [line for line in lines if "BAD" in line]
    assert len(lines) == 2 * len(seeds)
    for command in ("compare", "inspect"):
        assert sum(f"{command} done" in line for line in lines) > len(seeds) // 10
    assert list(folder.iterdir()) == []
