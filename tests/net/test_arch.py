import pytest
import torch

from carfix.errors import CarfixError
from carfix.net.arch import RestorationNet, build, convolution_layers
from carfix.net.config import (
    CarCnnConfig,
    Config,
    FastConfig,
    config_from_dict,
    margin,
    multiply_adds_per_pixel,
    parameter_count,
    receptive_field_radius,
)

CONFIGS = [
    CarCnnConfig(),
    CarCnnConfig(features=4, blocks=2),
    FastConfig(),
    FastConfig(scale=2, features=8, blocks=1),
    FastConfig(scale=4, features=8, blocks=2),
]


def awake(config: Config, seed: int = 0) -> RestorationNet:
    """A network whose last convolution is not zero any more, as after training."""
    torch.manual_seed(seed)
    net = build(config).eval()
    with torch.no_grad():
        convolution_layers(net)[-1].weight.normal_(0, 0.01)
    return net


def test_car_cnn_is_the_published_network() -> None:
    net = build(CarCnnConfig())
    layers = convolution_layers(net)
    assert len(layers) == 34 == len(net.config.layers)
    assert parameter_count(net.config) == (9 + 1) * 64 + 32 * (9 * 64 + 1) * 64 + 9 * 64 + 1
    assert 1.17e6 < multiply_adds_per_pixel(net.config) < 1.19e6
    assert all(
        layer.kernel_size == (3, 3) and layer.stride == (1, 1) and layer.padding == (1, 1) for layer in layers
    )
    assert receptive_field_radius(net.config) == 34


@pytest.mark.parametrize("config", CONFIGS, ids=str)
def test_an_untrained_network_changes_nothing(config: Config) -> None:
    x = torch.rand(1, 1, 32, 48) * 2 - 1
    assert torch.equal(build(config)(x), x)


@pytest.mark.parametrize("config", CONFIGS, ids=str)
def test_the_radius_is_the_one_that_a_gradient_finds(config: Config) -> None:
    radius = receptive_field_radius(config)
    side = (2 * radius // config.scale + 3) * config.scale
    centre = side // 2 // config.scale * config.scale
    reach = 0
    net = awake(config).double()
    # Pixels at both ends of a cell: one reaches farther to the left, the other to the right.
    for pixel in (centre, centre + config.scale - 1):
        x = (torch.rand(1, 1, side, side, dtype=torch.float64) * 0.2).requires_grad_()
        net(x)[0, 0, pixel, pixel].backward()
        assert x.grad is not None
        touched = x.grad[0, 0].abs().sum(0).nonzero().flatten()
        reach = max(reach, int((touched - pixel).abs().max()))
    assert reach == radius
    assert margin(config) >= radius - config.scale + 1
    assert margin(config) % config.scale == 0


def test_output_stays_in_range() -> None:
    net = awake(FastConfig(features=8, blocks=1))
    with torch.no_grad():
        convolution_layers(net)[-1].weight.mul_(1000)
    restored = net(torch.rand(1, 1, 16, 16) * 2 - 1)
    assert restored.min() == -1
    assert restored.max() == 1


@pytest.mark.parametrize(
    ("architecture", "fields"),
    [
        ("unknown", {}),
        ("fast", {"colour": 3}),
        ("fast", {"features": "64"}),
        ("fast", {"features": 10**9}),
        ("fast", {"blocks": True}),
    ],
)
def test_a_foreign_config_is_refused(architecture: str, fields: dict[str, object]) -> None:
    with pytest.raises(CarfixError):
        config_from_dict(architecture, fields)
