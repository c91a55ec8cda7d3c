"""Whatever kills a run, the next one goes on, and nothing incomplete is ever under the final name."""

import os
import random
import signal
import time
from pathlib import Path

import faults
import media
import pytest
from media import Sound

from carfix.restore.state import state_folder

#: More in the nightly run: CARFIX_KILLS=50.
KILLS = int(os.environ.get("CARFIX_KILLS", "4"))


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("clip") / "in.mp4"
    return media.write_clip(path, frames=30, sounds=[Sound(seconds=1.2)])


@pytest.fixture(scope="module")
def whole(clip: Path) -> bytes:
    """The file of an uninterrupted run."""
    output = clip.with_name("whole.mp4")
    faults.run(clip, output)
    assert len(media.frame_times(output)) == 30
    return output.read_bytes()


def assert_clean(output: Path, whole: bytes) -> None:
    if output.exists():
        assert output.read_bytes() == whole


@pytest.mark.parametrize("seed", range(KILLS))
def test_killed_at_a_random_moment(seed: int, clip: Path, whole: bytes, tmp_path: Path) -> None:
    output = tmp_path / "out.mp4"
    chance = random.Random(seed)
    kills = 0
    for _ in range(3):  # also runs that resume are killed
        process = faults.start(faults.run, clip, output, 0.005)
        state = state_folder(output)
        while process.is_alive() and not state.exists():
            time.sleep(0.001)
        time.sleep(chance.uniform(0, 0.35))
        if process.is_alive():
            process.kill()
            kills += 1
        process.join()
        assert process.exitcode in (0, -signal.SIGKILL)
        assert_clean(output, whole)
    process = faults.start(faults.run, clip, output)
    process.join()
    assert process.exitcode == 0
    assert output.read_bytes() == whole
    assert not state_folder(output).exists()


def test_killed_before_every_step_that_makes_work_durable(clip: Path, whole: bytes, tmp_path: Path) -> None:
    output = tmp_path / "out.mp4"
    step = 0
    while True:
        process = faults.start(faults.run, clip, output, 0.0, step)
        process.join()
        assert_clean(output, whole)
        if process.exitcode == 0:
            break
        assert process.exitcode == -signal.SIGKILL
        again = faults.start(faults.run, clip, output)
        again.join()
        assert again.exitcode == 0
        assert output.read_bytes() == whole
        assert not state_folder(output).exists()
        output.unlink()
        step += 1
    assert (
        step > 20
    )  # folder, journal, each segment's file and entry, the final file's flush, rename and clean-up


def test_an_output_that_is_replaced_stays_until_the_new_one_is_there(clip: Path, tmp_path: Path) -> None:
    output = tmp_path / "out.mp4"
    output.write_bytes(b"precious")
    process = faults.start(faults.run, clip, output, 0.05)
    while process.is_alive() and not (state_folder(output) / "000001.seg").exists():
        assert output.read_bytes() == b"precious"
        time.sleep(0.005)
    process.kill()
    process.join()
    assert output.read_bytes() == b"precious"
