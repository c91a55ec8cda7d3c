"""The state of a training on disk: what a killed run continues from, exactly.

A checkpoint is a folder named by its step, completed under a temporary name and then renamed. The network and
Adam's moments lie in one file and the averaged weights in another, so that for the full network each stays
under 14 MiB. Nothing is unpickled.
"""

import dataclasses
import json
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from carfix.errors import CarfixError
from carfix.video.faults import reason
from carfix.video.on_disk import force_to_disk

FOLDER = "checkpoints"
STATE_FILE = "state.safetensors"
EMA_FILE = "ema.safetensors"
#: Adam's per-parameter state; its step count is the training's.
MOMENTS = ("exp_avg", "exp_avg_sq")


@dataclasses.dataclass
class Progress:
    """Everything of a training that is not a tensor."""

    step: int = 0
    seconds: float = 0.0  # that it took, loading included; 0 in checkpoints that are older than this field
    best: float | None = None
    settings: dict[str, Any] = dataclasses.field(default_factory=dict)


def save_state(
    run: Path, progress: Progress, net: nn.Module, ema: nn.Module, optimizer: torch.optim.Optimizer
) -> None:
    """Write a checkpoint into `run` and drop the older ones. Raises `CarfixError` if it cannot be written."""
    folder = run / FOLDER
    final = folder / f"{progress.step:08d}"
    temporary = folder / f".{final.name}.{os.getpid()}.tmp"
    tensors: dict[str, Tensor] = {}
    for name, parameter in net.named_parameters():
        tensors[f"net.{name}"] = parameter.detach()
        for moment in MOMENTS:
            if moment in optimizer.state[parameter]:
                tensors[f"{moment}.{name}"] = optimizer.state[parameter][moment]
    averaged = {name: tensor.detach() for name, tensor in ema.state_dict().items()}
    try:
        temporary.mkdir(parents=True, exist_ok=True)
        save_file(
            _plain(tensors),
            temporary / STATE_FILE,
            metadata={"progress": json.dumps(dataclasses.asdict(progress))},
        )
        save_file(_plain(averaged), temporary / EMA_FILE)
        for file in temporary.iterdir():
            force_to_disk(file)
        if final.exists():
            shutil.rmtree(final)
        temporary.rename(final)
        for old in folder.iterdir():
            if old != final:
                shutil.rmtree(old, ignore_errors=True)
    except (OSError, SafetensorError) as error:
        shutil.rmtree(temporary, ignore_errors=True)  # on a full disk it would be in the next one's way
        raise CarfixError(f"cannot write the checkpoint {final}: {reason(error)}") from error


def load_state(
    run: Path, settings: Mapping[str, Any], net: nn.Module, ema: nn.Module, optimizer: torch.optim.Optimizer
) -> Progress | None:
    """Continue from the newest checkpoint in `run`; None if there is none.

    Raises `CarfixError` if it is damaged, or of a training with other `settings`.
    """
    folders = sorted(folder for folder in (run / FOLDER).glob("[0-9]*") if folder.is_dir())
    if not folders:
        return None
    newest = folders[-1]
    try:
        with safe_open(newest / STATE_FILE, framework="pt") as file:
            fields = json.loads((file.metadata() or {})["progress"])
            progress = Progress(**fields)
            # Before any tensor: another network's would look like damage, and damage is to be deleted.
            if differing := _differing(progress.settings, settings):
                raise CarfixError(
                    f"{run} holds a training with other settings ({', '.join(differing)}); give another --output, "
                    "or delete it to train anew there"
                )
            for name, parameter in net.named_parameters():
                parameter.data.copy_(file.get_tensor(f"net.{name}"))
                if progress.step:
                    moments = {key: file.get_tensor(f"{key}.{name}").to(parameter.device) for key in MOMENTS}
                    # On the CPU and in fp32, as Adam itself keeps it.
                    optimizer.state[parameter] = {"step": torch.tensor(float(progress.step)), **moments}
        with safe_open(newest / EMA_FILE, framework="pt") as file:
            ema.load_state_dict({name: file.get_tensor(name) for name in file.keys()})  # noqa: SIM118
    except (SafetensorError, OSError, KeyError, ValueError, TypeError, RuntimeError) as error:
        raise CarfixError(
            f"the checkpoint {newest} is damaged ({reason(error)}); delete it to go back or start anew"
        ) from error
    return progress


def _differing(there: Mapping[str, Any], wanted: Mapping[str, Any]) -> list[str]:
    """What the settings of a training differ in from those that it is wanted with, as texts."""
    # Through JSON and back, as the old ones have gone; checkpoints that lack a name are older than that field.
    new = _flat(json.loads(json.dumps(wanted)))
    old = _flat({**{key: new[key] for key in ("name", "init") if key in new}, **there})
    return [
        f"{key} {_shown(old.get(key))}, now {_shown(new.get(key))}"
        for key in sorted(old.keys() | new.keys())
        if old.get(key) != new.get(key)
    ]


def _flat(settings: Mapping[str, Any]) -> dict[str, Any]:
    return {**settings, **settings["config"], "config": None}


def _shown(value: object) -> str:
    return "none" if value is None else str(value)[:12]  # of a SHA-256 no more than tells it from others


def _plain(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    # Layouts such as channels_last belong to the machine that trains.
    return {
        name: tensor.cpu().contiguous(memory_format=torch.contiguous_format)
        for name, tensor in tensors.items()
    }
