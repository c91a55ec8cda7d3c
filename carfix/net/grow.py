"""A deeper network from a trained shallow one, so that most of a training can run at a fraction of the cost.

Each residual block is repeated; where it added f(x), its k copies add f/k each. LeakyReLU is positively homogeneous,
so dividing the weights of a block's second convolution by k divides what the block adds by exactly k. The deep
network begins close to the shallow one, and every copy gets useful gradients from the first step on. The idea of
stacking trained layers is Gong et al. 2019, "Efficient Training of BERT by Progressively Stacking"; the division is
that of an ordinary differential equation's steps (Chang et al. 2018, "Multi-level Residual Networks from Dynamical
Systems View").
"""

import copy
import dataclasses

import torch

from carfix.errors import UsageError
from carfix.net.arch import CarCnn, FastNet, RestorationNet, build
from carfix.net.config import Config


def can_deepen(shallow: Config, deep: Config) -> bool:
    """Whether the two differ in nothing but that `deep` has more residual blocks."""
    return (
        type(shallow) is type(deep)
        and shallow.blocks < deep.blocks
        and dataclasses.replace(shallow, blocks=deep.blocks) == deep
    )


def deepen(net: RestorationNet, config: Config) -> RestorationNet:
    """A network of `config` that computes nearly what `net` computes; `net` stays as it is.

    Raises `UsageError` if the two differ in more than the number of blocks.
    """
    if not can_deepen(net.config, config):
        raise UsageError(f"cannot make {config} of {net.config}: only blocks may be added")
    assert isinstance(net, CarCnn | FastNet)
    deep = build(config)
    assert isinstance(deep, CarCnn | FastNet)
    deep.head.load_state_dict(net.head.state_dict())
    deep.tail.load_state_dict(net.tail.state_dict())
    targets = list(deep.blocks)
    for index, block in enumerate(net.blocks):
        first = index * config.blocks // net.config.blocks
        last = (index + 1) * config.blocks // net.config.blocks
        for target in targets[first:last]:
            state = copy.deepcopy(block.state_dict())
            for name in ("conv2.weight", "conv2.bias"):
                state[name] = torch.div(state[name], last - first)
            target.load_state_dict(state)
    return deep
