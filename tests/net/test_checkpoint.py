import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from carfix.net.arch import build, convolution_layers
from carfix.net.checkpoint import (
    CheckpointError,
    Description,
    load_checkpoint,
    read_description,
    save_checkpoint,
)
from carfix.net.config import CarCnnConfig, Config, FastConfig


def written(path: Path, config: Config | None = None) -> tuple[torch.nn.Module, Description]:
    net = build(config or FastConfig(features=8, blocks=1)).eval()
    with torch.no_grad():
        convolution_layers(net)[-1].weight.normal_(0, 0.1)
    description = Description(
        name="probe", config=net.config, loss="mse", steps=7, training_data="two clips",
        gains={"psnr": 0.25}, licence="Apache-2.0",
    )  # fmt: skip
    return net, save_checkpoint(path, net, description)


@pytest.mark.parametrize(
    "config", [FastConfig(features=8, blocks=1), CarCnnConfig(features=4, blocks=2)], ids=str
)
def test_a_saved_network_loads_to_identical_output(tmp_path: Path, config: Config) -> None:
    net, description = written(tmp_path / "probe.safetensors", config)
    model = load_checkpoint(tmp_path / "probe.safetensors")
    x = torch.rand(2, 1, 32, 32) * 2 - 1
    assert torch.equal(model.net(x), net(x))
    assert model.description == description
    assert model.description.config == config
    assert [path.name for path in tmp_path.iterdir()] == ["probe.safetensors"]


def test_others_may_read_the_file(tmp_path: Path) -> None:
    written(tmp_path / "probe.safetensors")
    other = tmp_path / "other"
    other.touch()
    assert (tmp_path / "probe.safetensors").stat().st_mode == other.stat().st_mode


def test_every_truncation_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "probe.safetensors"
    written(path)
    whole = path.read_bytes()
    for length in [0, 1, 7, 8, 100, len(whole) // 2, len(whole) - 1]:
        path.write_bytes(whole[:length])
        with pytest.raises(CheckpointError, match=r"probe\.safetensors"):
            load_checkpoint(path)


def test_every_flipped_weight_is_noticed(tmp_path: Path) -> None:
    path = tmp_path / "probe.safetensors"
    written(path)
    whole = bytearray(path.read_bytes())
    for position in range(len(whole) - 4000, len(whole), 371):
        whole[position] ^= 1
        path.write_bytes(whole)
        with pytest.raises(CheckpointError, match="altered"):
            load_checkpoint(path)
        whole[position] ^= 1


def altered(path: Path, **changes: object) -> None:
    """Give the file another description, without the digest that would tell."""
    with safe_open(path, framework="pt") as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        fields = json.loads(file.metadata()["carfix"])
    del fields["description_sha256"]
    save_file(tensors, path, metadata={"carfix": json.dumps({**fields, **changes})})


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"format": 99}, "update carfix"),
        ({"architecture": "transformer"}, "unknown architecture"),
        ({"config": {"features": 16}}, "do not fit"),
        ({"config": None}, "damaged"),
        ({"gains": [1]}, "damaged"),
        ({"steps": float("inf")}, "damaged"),
        ({"stepz": 7}, "unknown field"),
        ({"config": {"negative_slope": float("nan")}}, "no field 'negative_slope' that could be nan"),
        # A hundred gigabytes of weights, were they allocated.
        ({"config": {"features": 1024, "blocks": 1024}}, "do not fit"),
    ],
)
def test_a_foreign_description_is_refused(tmp_path: Path, changes: dict[str, object], message: str) -> None:
    path = tmp_path / "probe.safetensors"
    written(path)
    altered(path, **changes)
    with pytest.raises(CheckpointError, match=message):
        load_checkpoint(path)


def test_weights_without_a_digest_of_their_description_load(tmp_path: Path) -> None:
    path = tmp_path / "probe.safetensors"
    _, description = written(path)
    altered(path)
    assert load_checkpoint(path).description == description


def test_an_altered_description_is_noticed(tmp_path: Path) -> None:
    path = tmp_path / "probe.safetensors"
    written(path)
    whole = path.read_bytes()
    position = whole.index(b"0.2", whole.index(b"negative_slope"))
    path.write_bytes(whole[:position] + b"0.3" + whole[position + 3 :])
    with pytest.raises(CheckpointError, match="does not have the SHA-256 that it states"):
        load_checkpoint(path)


def test_half_precision_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "probe.safetensors"
    written(path)
    with safe_open(path, framework="pt") as file:
        tensors = {name: file.get_tensor(name).bfloat16() for name in file.keys()}  # noqa: SIM118
        metadata = file.metadata()
    save_file(tensors, path, metadata=metadata)
    with pytest.raises(CheckpointError, match="32-bit floats"):
        load_checkpoint(path)


def test_files_of_others_are_refused(tmp_path: Path) -> None:
    foreign = tmp_path / "foreign.safetensors"
    save_file({"weight": torch.zeros(3)}, foreign)
    with pytest.raises(CheckpointError, match="not one that carfix wrote"):
        read_description(foreign)
    pickled = tmp_path / "pickled.safetensors"
    torch.save({"weight": torch.zeros(3)}, pickled)
    with pytest.raises(CheckpointError, match="not a readable weights file"):
        read_description(pickled)
    with pytest.raises(CheckpointError, match="is not there"):
        read_description(tmp_path / "missing.safetensors")
    with pytest.raises(CheckpointError, match="is not a file"):
        read_description(tmp_path)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
def test_a_named_pipe_is_not_waited_for(tmp_path: Path) -> None:
    """safetensors waits, and no signal ended the process meanwhile."""
    os.mkfifo(tmp_path / "pipe")
    code = "import sys, pathlib, carfix.net.checkpoint as c; c.read_description(pathlib.Path(sys.argv[1]))"
    process = [sys.executable, "-c", code, str(tmp_path / "pipe")]
    ended = subprocess.run(process, capture_output=True, text=True, timeout=30, check=False)
    assert "pipe is not a file" in ended.stderr


def test_loading_does_not_start_torchs_compiler(tmp_path: Path) -> None:
    """It takes one to two seconds to import, which every restore would pay."""
    path = tmp_path / "probe.safetensors"
    written(path)
    code = f"import carfix, sys; carfix.load_model({str(path)!r}); print('torch._dynamo' in sys.modules)"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "False"


def test_weights_that_are_no_numbers_are_refused(tmp_path: Path) -> None:
    net, description = written(tmp_path / "probe.safetensors")
    with torch.no_grad():
        convolution_layers(net)[0].weight[0, 0, 0, 0] = torch.nan
    save_checkpoint(tmp_path / "probe.safetensors", net, description)  # type: ignore[arg-type]
    with pytest.raises(CheckpointError, match="not all finite numbers"):
        load_checkpoint(tmp_path / "probe.safetensors")
