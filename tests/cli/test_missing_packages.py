import subprocess
import sys
from pathlib import Path

import pytest

CLIP = Path(__file__).parents[1] / "data" / "highway.mp4"


@pytest.mark.parametrize("package", ["torch", "imageio_ffmpeg"])
def test_a_package_that_is_not_installed_is_a_missing_part(package: str) -> None:
    program = f"import sys; sys.modules[{package!r}] = None; from carfix.cli import main; main()"
    done = subprocess.run(
        [sys.executable, "-c", program, "compare", CLIP, CLIP, "--metric", "psnr"],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    told = f"carfix: the package {package} is not installed; `pip install carfix` brings it\n"
    assert (done.returncode, done.stderr) == (3, told)
