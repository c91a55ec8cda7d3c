"""Small networks that do something, for tests that need a model but not a trained one."""

from pathlib import Path

import torch

from carfix.net.arch import build, convolution_layers
from carfix.net.checkpoint import Description, Model, save_checkpoint
from carfix.net.config import Config, FastConfig
from carfix.net.tensors import model_of

SMALL = FastConfig(scale=4, features=8, blocks=1)


def awake_model(config: Config = SMALL, seed: int = 0) -> Model:
    """A model with random weights whose residual is a few codes large, as a trained one's."""
    torch.manual_seed(seed)
    net = build(config).eval().requires_grad_(False)
    layer = convolution_layers(net)[-1]
    layer.weight.normal_(0, 0.02)
    side = 64 // config.scale * config.scale
    x = torch.rand(1, 1, side, side) * 2 - 1
    change = (net(x) - x).abs().mean()
    layer.weight.mul_(0.03 / change)  # about four 8-bit codes
    return model_of(net, describe(config), Path("awake"))


def describe(config: Config, name: str = "awake") -> Description:
    """A description such as a training writes."""
    return Description(
        name=name,
        config=config,
        loss="mse",
        steps=1,
        training_data="none",
        gains={"psnr": 0.0},
        licence="Apache-2.0",
    )


def save_awake(path: Path, config: Config = SMALL) -> Path:
    """Write such a model to `path`."""
    model = awake_model(config)
    save_checkpoint(path, model.net, model.description)
    return path
