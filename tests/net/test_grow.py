import pytest
import torch
from networks import awake_model

from carfix.errors import UsageError
from carfix.net.config import CarCnnConfig, Config, FastConfig
from carfix.net.grow import deepen


@pytest.mark.parametrize(
    ("shallow", "deep"),
    [
        (CarCnnConfig(features=8, blocks=2), CarCnnConfig(features=8, blocks=6)),
        (CarCnnConfig(features=8, blocks=2), CarCnnConfig(features=8, blocks=5)),  # not a multiple
        (FastConfig(scale=2, features=8, blocks=1), FastConfig(scale=2, features=8, blocks=3)),
    ],
)
def test_deepened_network_begins_close_to_the_shallow_one(shallow: Config, deep: Config) -> None:
    net = awake_model(shallow).net
    x = torch.rand(2, 1, 32, 32) * 1.6 - 0.8
    with torch.no_grad():
        before, after, fresh = net(x), deepen(net, deep)(x), awake_model(deep, seed=1).net(x)
    change = (before - x).abs().mean()
    assert (after - before).abs().mean() < 0.1 * change
    assert (fresh - before).abs().mean() > 0.5 * change


def test_every_block_of_the_deep_network_comes_from_a_trained_one() -> None:
    net = awake_model(FastConfig(scale=2, features=8, blocks=2)).net
    deep = deepen(net, FastConfig(scale=2, features=8, blocks=5))
    trained = [block.conv1.weight for block in net.blocks]
    found = [next(i for i, w in enumerate(trained) if w.equal(block.conv1.weight)) for block in deep.blocks]
    assert found == sorted(found)
    assert set(found) == {0, 1}
    assert all(parameter.requires_grad for parameter in deep.parameters())


@pytest.mark.parametrize(
    "other",
    [
        FastConfig(scale=2, features=16, blocks=4),
        FastConfig(scale=4, features=8, blocks=4),
        FastConfig(scale=2, features=8, blocks=1),
        CarCnnConfig(features=8, blocks=4),
    ],
)
def test_only_blocks_may_be_added(other: Config) -> None:
    with pytest.raises(UsageError, match="only blocks may be added"):
        deepen(awake_model(FastConfig(scale=2, features=8, blocks=2)).net, other)
