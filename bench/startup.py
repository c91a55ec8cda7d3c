"""What a restore takes beside its frames, in processes of their own: medians of interleaved rounds.

    python bench/startup.py [--model fast] [--rounds 7]

Three frames of the sample clip, once with what carfix keeps in its cache folder there and once without; beside it what
torch alone takes to load. Memory is the process's peak.
"""

import argparse
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

SAMPLE = Path(__file__).resolve().parent.parent / "tests" / "data" / "highway.mp4"
#: Seconds of video: three frames.
LENGTH = "0.1"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", default="fast")
    parser.add_argument("--rounds", type=int, default=7)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="carfix-bench-") as folder:
        cache = Path(folder) / "cache"
        carfix = [sys.executable, "-m", "carfix"]
        restore = [*carfix, "restore", "-y", "-q", "-t", LENGTH, "-m", options.model, "--device", "cpu"]
        restore += [str(SAMPLE), str(Path(folder) / "out.mp4")]
        tasks = {
            "python -c 'import torch'": [sys.executable, "-c", "import torch"],
            "carfix --version": [*carfix, "--version"],
            "carfix models": [*carfix, "models"],
            "a restore of three frames": restore,
            "machine code made anew": restore,
        }
        run(restore, cache)  # engines are timed once
        found: dict[str, list[tuple[float, int]]] = {name: [] for name in tasks}
        for _ in range(options.rounds):
            for name, command in tasks.items():
                if name == "machine code made anew":
                    for code in cache.rglob("code-*"):
                        code.unlink()
                found[name].append(run(command, cache))
        shutil.rmtree(cache)
        for _ in range(2):
            name = "and the engine chosen anew, the first time on a machine"
            found.setdefault(name, []).append(run(restore, cache))
            shutil.rmtree(cache)
    for name, rows in found.items():
        seconds, peak = (statistics.median(values) for values in zip(*rows, strict=True))
        print(f"{name:56} {seconds:5.2f} s  {peak / 1024:5.0f} MB")


def run(command: list[str], cache: Path) -> tuple[float, int]:
    """Seconds and peak KB of a process that keeps its caches in `cache`."""
    began = time.perf_counter()
    process = subprocess.Popen(
        command, env={**os.environ, "XDG_CACHE_HOME": str(cache)}, stdout=subprocess.DEVNULL
    )
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        raise SystemExit(f"{' '.join(command)} ended with {status}")
    return time.perf_counter() - began, usage.ru_maxrss


if __name__ == "__main__":
    main()
