"""Where weights are found by name: in the package, beside a source checkout, or a path that the user gives."""

from pathlib import Path

from carfix.net.checkpoint import CheckpointError, Model, load_checkpoint

SUFFIX = ".safetensors"

#: In an installed package the weights lie inside it; in a checkout they lie at the top of the repository.
_PACKAGE = Path(__file__).resolve().parent.parent
_FOLDERS = (_PACKAGE / "weights", _PACKAGE.parent / "weights")

#: What `--model auto` takes on a machine with and without an accelerator, best first.
FULL_NETWORKS = ("car-cnn", "car-cnn-mse")
FAST_NETWORKS = ("fast",)


def installed() -> dict[str, Path]:
    """Name to path of every weights file that comes with carfix, in the order of the names."""
    found: dict[str, Path] = {}
    for folder in _FOLDERS:
        for path in sorted(folder.glob(f"*{SUFFIX}")):
            found.setdefault(path.name.removesuffix(SUFFIX), path)
    return dict(sorted(found.items()))


def resolve(name: str, *, accelerator: bool = False) -> Path:
    """Path of the weights called `name`: `auto`, an installed name, or a path to a `.safetensors` file.

    `auto` is the full network on an accelerator and the fast one on a CPU. Raises `CheckpointError`, naming
    what is installed.
    """
    weights = installed()
    if name == "auto":
        preferred = FULL_NETWORKS + FAST_NETWORKS if accelerator else FAST_NETWORKS + FULL_NETWORKS
        for candidate in preferred:
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


def load_model(name: str = "auto", *, accelerator: bool = False) -> Model:
    """Load weights by name or path; see `resolve`. Raises `CheckpointError`."""
    return load_checkpoint(resolve(name, accelerator=accelerator))
