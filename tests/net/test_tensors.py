from pathlib import Path

import numpy as np
import torch
from networks import SMALL, awake_model, describe, save_awake

from carfix.net.arch import build
from carfix.net.checkpoint import load_checkpoint
from carfix.net.config import CarCnnConfig
from carfix.net.tensors import model_of, tensors_of


def test_the_network_of_a_checkpoint_is_ready_for_inference(tmp_path: Path) -> None:
    saved = awake_model(SMALL)
    net = load_checkpoint(save_awake(tmp_path / "awake.safetensors")).net
    x = torch.rand(1, 1, 16, 24) * 2 - 1
    assert not net.training
    assert not any(parameter.requires_grad for parameter in net.parameters())
    assert torch.equal(net(x), saved.net(x))


def test_a_model_of_a_network_keeps_it_and_its_weights() -> None:
    config = CarCnnConfig(features=4, blocks=1)
    net = build(config).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    model = model_of(net, describe(config), Path("here"))
    assert model.net is net
    assert [layer.weight.shape for layer in model.convolutions] == [
        (4, 1, 3, 3), (4, 4, 3, 3), (4, 4, 3, 3), (4, 4, 3, 3), (4, 4, 3, 3), (1, 4, 3, 3),
    ]  # fmt: skip
    for name, tensor in tensors_of(net).items():
        assert tensor.flags.c_contiguous and tensor.dtype == np.float32
        assert np.array_equal(tensor, net.state_dict()[name].numpy())
