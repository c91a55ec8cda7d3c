"""What follows from a config alone is what torch's network of it has."""

import math

import pytest

from carfix.errors import CarfixError
from carfix.net.arch import build
from carfix.net.config import (
    CarCnnConfig,
    Config,
    FastConfig,
    LayerShape,
    margin,
    multiply_adds_per_pixel,
    parameter_count,
)


@pytest.mark.parametrize(
    "config",
    [
        CarCnnConfig(),
        CarCnnConfig(features=5, blocks=1),
        FastConfig(),
        FastConfig(scale=2, features=3, blocks=2),
    ],
    ids=str,
)
def test_layers_are_the_convolutions_of_the_network(config: Config) -> None:
    tensors = build(config).state_dict()
    shapes = [item for layer in config.layers for item in layer.tensors.items()]
    assert shapes == [(name, tuple(tensor.shape)) for name, tensor in tensors.items()]
    assert parameter_count(config) == sum(tensor.numel() for tensor in tensors.values())
    weights = sum(math.prod(shape) for name, shape in shapes if name.endswith("weight"))
    assert multiply_adds_per_pixel(config) == weights / config.scale**2


@pytest.mark.parametrize("fields", [{"stride": 2}, {"norm": "batch"}], ids=str)
def test_what_no_network_has_is_refused(fields: dict[str, object]) -> None:
    with pytest.raises(CarfixError, match="not supported"):
        CarCnnConfig(**fields)  # type: ignore[arg-type]


def test_layers_are_counted_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Windows are planned by hundreds of ways to cut a frame, each of which asks for the margin."""
    config = FastConfig(features=7)
    layers, counted = config.layers, 0

    def count(_: FastConfig) -> tuple[LayerShape, ...]:
        nonlocal counted
        counted += 1
        return layers

    monkeypatch.setattr(FastConfig, "layers", property(count))
    assert len({margin(config) for _ in range(5)}) == 1
    assert counted == 1
