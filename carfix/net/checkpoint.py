"""Self-describing weights: one `.safetensors` file that says what it is, where it came from and what it gains.

Nothing is unpickled. The file's metadata holds one JSON text under `carfix`; a damaged, foreign or altered file
is refused with one line.
"""

import contextlib
import dataclasses
import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from carfix.errors import CarfixError
from carfix.net.arch import Config, RestorationNet, build, config_from_dict

#: Key of the description among the file's metadata.
METADATA_KEY = "carfix"
#: Raised when the description's fields change their meaning.
FORMAT = 1
#: Fields of the description; a name that is none of them is a damaged one.
_FIELDS = frozenset(
    (
        "format",
        "name",
        "architecture",
        "config",
        "loss",
        "steps",
        "training_data",
        "gains",
        "licence",
        "sha256",
    )
)
#: Field that holds the SHA-256 of the others; weights that were written before it was thought of lack it.
_OWN_SHA256 = "description_sha256"
#: A description is a page of text; one that is longer was made to waste memory.
_LONGEST = 1 << 20
#: Characters of a reason that are shown.
_LONGEST_REASON = 200


class CheckpointError(CarfixError):
    """A weights file that is missing, damaged, foreign or altered."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Description:
    """What a weights file says of itself."""

    name: str
    config: Config
    loss: str  # of `carfix.net.losses.LOSSES`
    steps: int  # optimiser steps that led here, warm starts included
    training_data: str  # a summary and its sources' licences
    gains: Mapping[str, float]  # measured: {"psnr": dB over the decoded frames, "ssim": ...}
    licence: str
    sha256: str = ""  # of the tensors; filled in by `save_checkpoint`


@dataclasses.dataclass(frozen=True)
class Model:
    """A network with its description, ready for inference."""

    net: RestorationNet
    description: Description
    path: Path


def tensors_sha256(tensors: Mapping[str, Tensor]) -> str:
    """SHA-256 over names, types, shapes and bytes, in the order of the names."""
    digest = hashlib.sha256()
    for name in sorted(tensors):
        tensor = tensors[name].detach().cpu().contiguous()
        digest.update(f"{name}:{tensor.dtype}:{tuple(tensor.shape)}\n".encode())
        digest.update(tensor.numpy().tobytes())
    return digest.hexdigest()


def _fields_sha256(fields: Mapping[str, Any]) -> str:
    """SHA-256 of the description itself: a config that was altered gives other pictures from the same tensors."""
    return hashlib.sha256(json.dumps(fields, sort_keys=True).encode()).hexdigest()


def save_checkpoint(path: Path, net: RestorationNet, description: Description) -> Description:
    """Write `net` to `path` (through a temporary file) and return the description with its SHA-256."""
    # Contiguous in the plain layout: channels_last is a matter of the machine that trains.
    tensors = {
        name: tensor.detach().float().cpu().contiguous(memory_format=torch.contiguous_format)
        for name, tensor in net.state_dict().items()
    }
    description = dataclasses.replace(description, config=net.config, sha256=tensors_sha256(tensors))
    fields = {
        "format": FORMAT,
        "name": description.name,
        "architecture": net.config.architecture,
        "config": dataclasses.asdict(net.config),
        "loss": description.loss,
        "steps": description.steps,
        "training_data": description.training_data,
        "gains": dict(description.gains),
        "licence": description.licence,
        "sha256": description.sha256,
    }
    text = json.dumps({**fields, _OWN_SHA256: _fields_sha256(fields)}, sort_keys=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        # Not `save_file`: it makes files that only their owner can read.
        temporary.write_bytes(save(tensors, metadata={METADATA_KEY: text}))
        temporary.replace(path)
    except OSError as error:
        raise CheckpointError(f"cannot write {path}: {error.strerror or error}") from error
    finally:
        temporary.unlink(missing_ok=True)
    return description


def read_description(path: Path) -> Description:
    """The description alone, without loading the tensors. Raises `CheckpointError`."""
    with _opened(path) as file:
        return _described(path, file)


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[Any]:
    """The file, whose damage shows now or when something is read from it. Raises `CheckpointError`."""
    try:
        with safe_open(path, framework="pt") as file:
            yield file
    except FileNotFoundError:
        raise CheckpointError(f"no such weights file: {path}") from None
    except (SafetensorError, OSError) as error:
        raise CheckpointError(
            f"{path} is not a readable weights file ({_brief(error)}); fetch it again"
        ) from error


def _described(path: Path, file: Any) -> Description:  # noqa: ANN401 - safetensors publishes no type for it
    metadata = file.metadata() or {}
    if METADATA_KEY not in metadata:
        raise CheckpointError(f"{path} is a safetensors file, but not one that carfix wrote")
    text = metadata[METADATA_KEY]
    try:
        if len(text) > _LONGEST:
            raise ValueError(f"{len(text)} characters long")
        return _parse(json.loads(text))
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError) as error:
        raise CheckpointError(
            f"{path}: its description is damaged ({_brief(repr(error))}); fetch it again"
        ) from error
    except CarfixError as error:
        raise CheckpointError(f"{path}: {_brief(error)}") from None


def _brief(reason: object) -> str:
    """One line of what may quote a damaged file at any length."""
    text = " ".join(str(reason).split())
    return text if len(text) <= _LONGEST_REASON else text[:_LONGEST_REASON] + "..."


def _parse(fields: Mapping[str, Any]) -> Description:
    if fields["format"] != FORMAT:
        raise CheckpointError(
            f"format {fields['format']!r:.40} of weights is not known to this carfix; update carfix"
        )
    own = {name: value for name, value in fields.items() if name != _OWN_SHA256}
    if unknown := own.keys() - _FIELDS:
        raise ValueError(f"unknown field {min(unknown)!r:.40}")
    if _OWN_SHA256 in fields and fields[_OWN_SHA256] != _fields_sha256(own):
        raise ValueError("it does not have the SHA-256 that it states")
    return Description(
        name=str(fields["name"]),
        config=config_from_dict(fields["architecture"], fields["config"]),
        loss=str(fields["loss"]),
        steps=int(fields["steps"]),
        training_data=str(fields["training_data"]),
        gains={str(key): float(value) for key, value in fields["gains"].items()},
        licence=str(fields["licence"]),
        sha256=str(fields["sha256"]),
    )


def load_checkpoint(path: Path) -> Model:
    """Load a network in evaluation mode on the CPU in fp32. Raises `CheckpointError`."""
    with _opened(path) as file:
        description = _described(path, file)
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a mapping
    if any(tensor.dtype != torch.float32 for tensor in tensors.values()):
        raise CheckpointError(f"{path}: its tensors are not of 32-bit floats, as carfix writes them")
    if tensors_sha256(tensors) != description.sha256:
        raise CheckpointError(
            f"{path} was altered: its tensors do not have the SHA-256 that it states; fetch it again"
        )
    # First without memory: a config of a foreign file may describe a network larger than the machine.
    with torch.device("meta"):
        shapes = {name: tensor.shape for name, tensor in build(description.config).state_dict().items()}
    if shapes != {name: tensor.shape for name, tensor in tensors.items()}:
        raise CheckpointError(
            f"{path}: its tensors do not fit the architecture {description.config.architecture!r} that it states"
        )
    net = build(description.config)
    net.load_state_dict(tensors)
    net.eval().requires_grad_(False)
    return Model(net=net, description=description, path=path)
