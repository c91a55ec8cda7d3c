import os
import subprocess
import sys
from pathlib import Path

CLIP = Path(__file__).parents[1] / "data" / "highway.mp4"


def compared(without: str, *options: str) -> subprocess.CompletedProcess[str]:
    """`carfix compare` on a machine without that package, and without an ffmpeg of its own."""
    program = f"import sys; sys.modules[{without!r}] = None; from carfix.cli import main; main()"
    return subprocess.run(
        [sys.executable, "-c", program, "compare", CLIP, CLIP, "--metric", "psnr", "--frames", "2", *options],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
        env={**os.environ, "PATH": ""},
    )


def test_a_package_that_is_not_installed_is_a_missing_part() -> None:
    done = compared("torch")
    told = "carfix: the package torch is not installed; `pip install carfix` brings it\n"
    assert (done.returncode, done.stderr) == (3, told)


def test_only_what_needs_an_ffmpeg_fails_without_the_package_that_brings_one() -> None:
    assert compared("imageio_ffmpeg").returncode == 0
    done = compared("imageio_ffmpeg", "--spp")
    told = (
        "carfix: this needs an ffmpeg with spp (there is none on this machine); "
        "install one with `pip install -U imageio-ffmpeg`\n"
    )
    assert (done.returncode, done.stderr) == (3, told)
