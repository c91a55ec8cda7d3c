"""Between a checkpoint's tensors and a network in torch."""

from pathlib import Path

import torch

from carfix.net.arch import RestorationNet, build
from carfix.net.checkpoint import Description, Model, Tensors
from carfix.net.config import Config


def with_tensors(config: Config, tensors: Tensors) -> RestorationNet:
    """A network for inference, in evaluation mode, whose weights are `tensors`, in their memory."""
    with torch.device("meta"):
        net = build(config)
    net.load_state_dict({name: torch.from_numpy(tensor) for name, tensor in tensors.items()}, assign=True)
    return net.eval().requires_grad_(False)


def tensors_of(net: RestorationNet) -> Tensors:
    """The weights of `net`: in its memory where they lie on the CPU, in fp32 and in the plain layout."""
    # channels_last is a matter of the machine that trains.
    return {
        name: tensor.detach().float().cpu().contiguous(memory_format=torch.contiguous_format).numpy()
        for name, tensor in net.state_dict().items()
    }


def model_of(net: RestorationNet, description: Description, path: Path) -> Model:
    """A model whose `net` is this one."""
    model = Model(tensors=tensors_of(net), description=description, path=path)
    model.__dict__["net"] = net  # where `cached_property` keeps it
    return model
