"""Where weights are found by name: in the package, beside a source checkout, or a path that the user gives."""

import os
from pathlib import Path

from carfix import cpu
from carfix.net.checkpoint import CheckpointError, Model, load_checkpoint

SUFFIX = ".safetensors"

#: In an installed package the weights lie inside it; in a checkout they lie at the top of the repository.
_PACKAGE = Path(__file__).resolve().parent.parent
_FOLDERS = (_PACKAGE / "weights", _PACKAGE.parent / "weights")

#: What `--model auto` takes, best first: on an accelerator (`car-cnn-mse` leads in PSNR, and clean video does not
#: suffer from it as from those trained for SSIM), ...
FULL_NETWORKS = ("car-cnn-mse", "car-cnn")
#: ... on a CPU, ...
FAST_NETWORKS = ("fast", "medium", "tiny")
#: ... and on one with so many cores that the next rung takes no longer there than `fast` on three, or with tiles (AMX),
#: where two are enough for that.
ROOMY_CORES = 8
ROOMY_NETWORKS = ("medium", "fast", "tiny")

#: Under which torch asks Linux for pages of 2 MB below large tensors: on a CPU the networks of large feature maps gain.
LARGE_PAGES = "THP_MEM_ALLOC_ENABLE"


def installed() -> dict[str, Path]:
    """Name to path of every weights file that comes with carfix, in the order of the names."""
    found: dict[str, Path] = {}
    for folder in _FOLDERS:
        for path in sorted(folder.glob(f"*{SUFFIX}")):
            found.setdefault(path.name.removesuffix(SUFFIX), path)
    return dict(sorted(found.items()))


def resolve(name: str, *, accelerator: bool = False) -> Path:
    """Path of the weights called `name`: `auto`, an installed name, or a path to a `.safetensors` file.

    `auto` is the full network on an accelerator and, on a CPU, the rung of the ladder that its cores are enough
    for. Raises `CheckpointError`, naming what is installed.
    """
    weights = installed()
    if name == "auto":
        for candidate in _preferred(accelerator):
            if candidate in weights:
                return weights[candidate]
    if name in weights:
        return weights[name]
    path = Path(name)
    if path.suffix == SUFFIX or path.exists():
        return path
    known = ", ".join(weights) or "none"
    raise CheckpointError(
        f"no model called {name!r}; installed are {known}, or give a path to a {SUFFIX} file"
    )


def _preferred(accelerator: bool) -> tuple[str, ...]:
    if accelerator:
        return FULL_NETWORKS + ROOMY_NETWORKS
    roomy = len(cpu.cores()) >= ROOMY_CORES or cpu.has_amx()
    return (ROOMY_NETWORKS if roomy else FAST_NETWORKS) + FULL_NETWORKS


def load_model(name: str | Path = "auto", *, accelerator: bool = False) -> Model:
    """Load weights by name or path, to restore with them; see `resolve`. Raises `CheckpointError`."""
    # torch looks once, at its first tensor: those of the weights, in most programs. Training does not come by here,
    # and had better not: its large tensors are new at every step, and new large pages are slow.
    os.environ.setdefault(LARGE_PAGES, "1")
    return load_checkpoint(resolve(str(name), accelerator=accelerator))
