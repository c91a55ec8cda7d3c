"""Trainings that were stopped, and the folders of their runs."""

import csv
import itertools
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import scenes
import torch
from faults import sync_as_windows
from trainings import AT_ONCE, run, settings, weights

import carfix
from carfix.errors import CarfixError
from carfix.lock import alone_in
from carfix.net.checkpoint import load_checkpoint
from carfix.net.config import CarCnnConfig, FastConfig
from carfix.training.settings import TrainSettings
from carfix.training.state import Progress, save_state
from carfix.training.train import TrainResult, train


def test_a_stopped_training_resumes_to_the_same_weights(dataset: Path, tmp_path: Path) -> None:
    run(dataset, tmp_path / "whole", settings())
    stopped = run(dataset, tmp_path / "parts", settings(), minutes=AT_ONCE)
    assert (stopped.step, stopped.finished) == (1, False)
    run(dataset, tmp_path / "parts", settings(), minutes=AT_ONCE)
    assert run(dataset, tmp_path / "parts", settings()).finished
    whole, parts = weights(tmp_path / "whole"), weights(tmp_path / "parts")
    assert all(torch.equal(whole[name], parts[name]) for name in whole)


KILLED = """
import sys
from pathlib import Path
from test_train import run, settings
run(Path(sys.argv[1]), Path(sys.argv[2]), settings(2000), checkpoint_seconds=0)
"""


def test_a_killed_training_resumes_to_the_same_weights(dataset: Path, tmp_path: Path) -> None:
    chosen = settings(2000)
    environment = {**os.environ, "OMP_NUM_THREADS": str(torch.get_num_threads())}
    paths = [
        str(Path(__file__).parent),
        str(Path(scenes.__file__).parent),
        str(Path(carfix.__file__).parent.parent),
    ]
    environment["PYTHONPATH"] = os.pathsep.join(paths)
    child = subprocess.Popen(
        [sys.executable, "-c", KILLED, str(dataset), str(tmp_path / "parts")], env=environment
    )
    checkpoints = tmp_path / "parts" / "checkpoints"
    deadline = time.monotonic() + 120
    while not list(checkpoints.glob("[0-9]*")) and time.monotonic() < deadline and child.poll() is None:
        time.sleep(0.01)
    time.sleep(0.3)
    child.send_signal(signal.SIGKILL)
    assert child.wait() == -signal.SIGKILL, "it was killed in the middle"
    step = max(int(folder.name) for folder in checkpoints.iterdir() if folder.name.isdigit())
    assert 0 < step < 2000
    # Both go on to the same step; the rest of 2,000 steps would prove no more.
    for folder in (tmp_path / "parts", tmp_path / "whole"):
        stop_at(dataset, folder, chosen, step + 5)
    parts, whole = (state(tmp_path / name) for name in ("parts", "whole"))
    assert parts.keys() == whole.keys()
    assert all(torch.equal(parts[name], whole[name]) for name in whole)


def stop_at(dataset: Path, folder: Path, chosen: TrainSettings, step: int) -> None:
    """Train until `step`, as if the user had pressed Ctrl-C there, with a checkpoint at each step."""

    def progress(done: int, total: int, text: str) -> None:
        if done == step:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(dataset, folder, chosen, checkpoint_seconds=0, progress=progress)


def state(folder: Path) -> dict[str, torch.Tensor]:
    from safetensors.torch import load_file

    newest = max(path for path in (folder / "checkpoints").iterdir() if path.name.isdigit())
    return {**load_file(newest / "state.safetensors"), **load_file(newest / "ema.safetensors")}


def test_a_run_folder_of_other_settings_is_not_continued(dataset: Path, tmp_path: Path) -> None:
    """It is said in what they differ, and not that anything is damaged: what is damaged gets deleted."""
    folder = tmp_path / "run"
    run(dataset, folder, settings(1))
    with pytest.raises(
        CarfixError, match=r"run holds a training with other settings \(lr 0\.001, now 0\.1\)"
    ):
        run(dataset, folder, settings(1, lr=0.1))
    wider = FastConfig(scale=2, features=16, blocks=1)
    with pytest.raises(CarfixError, match=r"other settings \(features 8, now 16\)"):
        run(dataset, folder, settings(1, config=wider))
    with pytest.raises(CarfixError, match=r"other settings \(architecture fast, now car-cnn, "):
        run(dataset, folder, settings(1, config=CarCnnConfig(features=8, blocks=1)))
    with pytest.raises(CarfixError, match=r"other settings \(init none, now [0-9a-f]{12}\)"):
        run(
            dataset,
            folder,
            settings(1),
            init=(folder / "probe.safetensors").rename(tmp_path / "init.safetensors"),
        )
    with pytest.raises(CarfixError, match=r"other settings \(name probe, now other\)"):
        train(dataset=dataset, run=folder, name="other", settings=settings(1), device="cpu")


def test_that_a_training_is_not_begun_is_said(dataset: Path, tmp_path: Path) -> None:
    """Or the weights of another dataset pass for new ones."""
    told: list[str] = []
    run(dataset, tmp_path, settings(2), minutes=AT_ONCE, say=told.append)
    assert told == []
    run(dataset, tmp_path, settings(2), say=told.append)
    run(dataset, tmp_path, settings(2), say=told.append)
    assert ["goes on at step 1" in told[0], "is finished" in told[1], len(told)] == [True, True, 2]


@pytest.mark.parametrize("at", [AT_ONCE, None])
def test_best_weights_that_were_moved_away_are_followed_by_others(
    dataset: Path, tmp_path: Path, at: float | None
) -> None:
    """Not by none, if no later validation is as good as theirs: the command would name a file that is not there."""
    told: list[str] = []

    def go_on(minutes: float | None) -> TrainResult:
        return train(
            dataset=dataset, run=tmp_path / "run", name="probe", settings=settings(8, lr=0.2), device="cpu",
            minutes=minutes, validate_every=1, say=told.append,
        )  # fmt: skip

    file = go_on(at).weights
    file.rename(tmp_path / "kept.safetensors")
    result = go_on(AT_ONCE)
    assert load_checkpoint(file).description.gains["psnr"] == result.best
    assert "is not there; those of step" in told[-1]
    if result.finished:
        assert go_on(None).best == result.best


def test_the_log_counts_the_seconds_of_all_runs(
    dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also of those that ended before their first validation: a slow network has one in an hour."""
    clock = itertools.count(step=100.0)
    monkeypatch.setattr(time, "monotonic", lambda: next(clock))
    for _ in range(3):
        run(dataset, tmp_path / "run", settings(), minutes=AT_ONCE)
    run(dataset, tmp_path / "run", settings())
    with (tmp_path / "run" / "log.csv").open(newline="") as file:
        first, last = (int(row["seconds"]) for row in csv.DictReader(file))
    assert last > first > 3 * 300, (
        "three runs of which each looked at the clock, 100 s later, three times or more"
    )


def test_the_licence_may_be_given_afterwards(dataset: Path, tmp_path: Path) -> None:
    def stated() -> str:
        return load_checkpoint(tmp_path / "run" / "probe.safetensors").description.licence

    run(dataset, tmp_path / "run", settings(6), licence="")
    before = weights(tmp_path / "run")
    for given, states in (("MIT", "MIT"), ("", "MIT"), ("CC0", "CC0")):
        run(dataset, tmp_path / "run", settings(6), licence=given)
        assert stated() == states
    after = weights(tmp_path / "run")
    assert all(torch.equal(before[name], after[name]) for name in before)


@pytest.mark.skipif(sys.platform == "win32", reason="there are no such locks")
def test_two_trainings_do_not_share_a_folder(dataset: Path, tmp_path: Path) -> None:
    """Each would drop the other's checkpoints and write over its weights: a scheduled run that lasts too long."""
    with alone_in(tmp_path), pytest.raises(CarfixError, match="another carfix is at work in"):
        run(dataset, tmp_path, settings(1))
    assert list(tmp_path.iterdir()) == []
    assert run(dataset, tmp_path, settings(1)).finished


def test_a_mistyped_dataset_leaves_no_folder(tmp_path: Path) -> None:
    with pytest.raises(CarfixError, match="nowhere"):
        run(tmp_path / "nowhere", tmp_path / "run", settings())
    assert not (tmp_path / "run").exists()


def test_a_damaged_checkpoint_is_named(dataset: Path, tmp_path: Path) -> None:
    run(dataset, tmp_path, settings(), minutes=AT_ONCE)
    (file,) = (tmp_path / "checkpoints").rglob("state.safetensors")
    file.write_bytes(file.read_bytes()[:-10])
    with pytest.raises(CarfixError, match=r"checkpoint .* is damaged"):
        run(dataset, tmp_path, settings())


def test_a_checkpoint_is_forced_to_the_disk_on_windows_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "fsync", sync_as_windows)
    net = torch.nn.Linear(1, 1)
    save_state(tmp_path, Progress(step=1), net, net, torch.optim.Adam(net.parameters()))
