"""Harmed files of every kind: restored or refused in one line, never a traceback, a hang or a partial output."""

import os
from pathlib import Path

import faults
import media
import pytest
from media import Sound

#: In all; more in the nightly run: CARFIX_MUTANTS=1000.
MUTANTS = int(os.environ.get("CARFIX_MUTANTS", "200"))
#: Seconds after which one file counts as a hang.
LIMIT = 60.0

KINDS = {
    "mp4": {"suffix": ".mp4"},
    "faststart mp4": {"suffix": ".mp4", "muxer": {"movflags": "faststart"}},
    "mkv": {"suffix": ".mkv"},
    "ts": {"suffix": ".ts"},
    "avi": {"suffix": ".avi"},
}


@pytest.mark.parametrize("kind", KINDS)
def test_mutants(kind: str, tmp_path: Path) -> None:
    options = dict(KINDS[kind])
    source = media.write_clip(
        tmp_path / f"in{options.pop('suffix')}",
        frames=20,
        sounds=[Sound(codec="mp2", seconds=0.8)],
        **options,  # type: ignore[arg-type]
    )
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
    assert sum("restored" in line for line in lines) > len(seeds) // 4
    assert list(folder.iterdir()) == []
