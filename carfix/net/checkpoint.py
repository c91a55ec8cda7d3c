"""Self-describing weights: one `.safetensors` file that says what it is, where it came from and what it gains.

Nothing is unpickled. The file's metadata holds one JSON text under `carfix`; a damaged, foreign or altered file
is refused with one line.
"""

import contextlib
import dataclasses
import functools
import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from carfix.errors import CarfixError
from carfix.net.config import Config, config_from_dict
from carfix.replacing import replacing

if TYPE_CHECKING:  # torch takes longer to load than a short clip to restore, and not every engine needs it
    from carfix.net.arch import RestorationNet

#: A checkpoint's tensors, fp32, by name.
Tensors = Mapping[str, NDArray[np.float32]]

#: Key of the description among the file's metadata.
METADATA_KEY = "carfix"
#: Raised when the description's fields change their meaning.
FORMAT = 1
#: Fields of the description; a name that is none of them is a damaged one.
_FIELDS = frozenset(
    (
        *("format", "name", "architecture", "config", "loss"),
        *("steps", "training_data", "gains", "licence", "sha256"),
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
    loss: str  # of `carfix.net.losses.LOSSES`, and `+` what was added to it
    steps: int  # optimiser steps that led here, warm starts included
    training_data: str  # a summary and its sources' licences
    gains: Mapping[str, float]  # measured: {"psnr": dB over the decoded frames, "ssim": ...}
    licence: str  # of the weights; empty where nobody stated one
    sha256: str = ""  # of the tensors; filled in by `save_checkpoint`


@dataclasses.dataclass(frozen=True)
class Convolution:
    """Weights `[outputs, inputs, 3, 3]` and biases `[outputs]`."""

    weight: NDArray[np.float32]
    bias: NDArray[np.float32]


@dataclasses.dataclass(frozen=True)
class Model:
    """Weights with their description, ready for inference; see `model_of` for a network that there is already."""

    tensors: Tensors
    description: Description
    path: Path

    @property
    def config(self) -> Config:
        """Of its network."""
        return self.description.config

    @property
    def sha256(self) -> str:
        """Of its tensors, whether a file states it or not."""
        return self.description.sha256 or tensors_sha256(self.tensors)

    @property
    def convolutions(self) -> list[Convolution]:
        """In the order of computation."""
        return [
            Convolution(self.tensors[f"{layer.name}.weight"], self.tensors[f"{layer.name}.bias"])
            for layer in self.config.layers
        ]

    @functools.cached_property
    def net(self) -> "RestorationNet":
        """The network in torch, on the CPU, in evaluation mode; it has its weights in the memory of `tensors`."""
        from carfix.net.tensors import with_tensors

        return with_tensors(self.config, self.tensors)


def tensors_sha256(tensors: Tensors) -> str:
    """SHA-256 over names, types, shapes and bytes, in the order of the names."""
    digest = hashlib.sha256()
    for name in sorted(tensors):
        tensor = tensors[name]
        digest.update(f"{name}:torch.{tensor.dtype}:{tensor.shape}\n".encode())
        digest.update(tensor.tobytes())
    return digest.hexdigest()


def _fields_sha256(fields: Mapping[str, Any]) -> str:
    """SHA-256 of the description itself: a config that was altered gives other pictures from the same tensors."""
    return hashlib.sha256(json.dumps(fields, sort_keys=True).encode()).hexdigest()


def save_checkpoint(path: Path, net: "RestorationNet", description: Description) -> Description:
    """Write `net` to `path` (through a temporary file) and return the description with its SHA-256."""
    from carfix.net.tensors import tensors_of

    tensors = tensors_of(net)
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
    try:
        with replacing(path) as temporary:
            # Not `save_file`: it makes files that only their owner can read.
            temporary.write_bytes(save(dict(tensors), metadata={METADATA_KEY: text}))
    except OSError as error:
        raise CheckpointError(f"cannot write {path}: {error.strerror or error}") from error
    return description


def read_description(path: Path) -> Description:
    """The description alone, without loading the tensors. Raises `CheckpointError`."""
    with _opened(path) as file:
        return _described(path, file)


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[Any]:
    """The file, whose damage shows now or when something is read from it. Raises `CheckpointError`."""
    if os.path.exists(path) and not os.path.isfile(path):  # noqa: PTH110, PTH113 - `Path` raises where it may not look
        # A named pipe may never speak, and safetensors waits for it deaf to Ctrl-C.
        raise CheckpointError(f"{path} is not a file; weights are read from one")
    try:
        with safe_open(path, framework="np") as file:
            yield file
    except FileNotFoundError:
        # Also of one that may not be read.
        why = "may not be read" if path.exists() else "is not there"
        raise CheckpointError(f"the weights file {path} {why}") from None
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
    """Load weights. Raises `CheckpointError`."""
    with _opened(path) as file:
        description = _described(path, file)
        names = set(file.keys())
        shapes = {name: shape for layer in description.config.layers for name, shape in layer.tensors.items()}
        kinds = {file.get_slice(name).get_dtype() for name in names}
        if kinds - {"F32"}:
            raise CheckpointError(f"{path}: its tensors are not of 32-bit floats, as carfix writes them")
        if names != shapes.keys() or any(
            tuple(file.get_slice(name).get_shape()) != shape for name, shape in shapes.items()
        ):
            raise CheckpointError(
                f"{path}: its tensors do not fit the architecture {description.config.architecture!r} that it states"
            )
        tensors = {name: file.get_tensor(name) for name in shapes}
    if tensors_sha256(tensors) != description.sha256:
        raise CheckpointError(
            f"{path} was altered: its tensors do not have the SHA-256 that it states; fetch it again"
        )
    if not all(np.isfinite(tensor).all() for tensor in tensors.values()):
        raise CheckpointError(
            f"{path}: its weights are not all finite numbers: take those of an earlier step"
        )
    return Model(tensors=tensors, description=description, path=path)
