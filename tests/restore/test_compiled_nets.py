"""What networks in machine code have in common, by whatever instructions they compute."""

from collections.abc import Callable

import numpy as np
import pytest
from backends import CAR_CNN, needs_integers, on_amx, picture
from networks import awake_model

from carfix.net.checkpoint import Model
from carfix.net.config import Config, FastConfig
from carfix.restore.engine import planes

pytest.importorskip("llvmlite", reason="llvmlite has no wheels for this machine")

from carfix.restore.engine.amx.net import AmxNet
from carfix.restore.engine.winograd.net import WinogradNet

WHOLE = (slice(None), slice(None))


def integer_net(model: Model) -> WinogradNet:
    needs_integers()
    return WinogradNet(model, integers=True)


Kind = Callable[[Model], WinogradNet | AmxNet]
each_kind = pytest.mark.parametrize("kind", [WinogradNet, integer_net, pytest.param(AmxNet, marks=on_amx)])


@each_kind
@pytest.mark.parametrize("bits", [8, 9, 10, 12, 16])
@pytest.mark.parametrize("share", [1.0, 0.37, 0.0, 2.0])
def test_codes_are_rounded_moved_and_bounded_as_elsewhere(kind: Kind, bits: int, share: float) -> None:
    """To the code: the network's residual, taken out of its memory, goes through numpy's operations once more."""
    net = kind(awake_model(CAR_CNN))
    codes = picture(37, 53, bits)[0]
    codes[:4], codes[4:8] = 0, planes.peak(bits)
    memory = net.memory(*codes.shape)
    kept = (slice(3, 30), slice(5, 52))
    found = net.restore(codes, bits, share, kept, memory)
    unit = planes.to_unit(codes, bits)
    assert np.array_equal(memory.unit, unit)
    network = (unit + memory.residual[: unit.shape[0], : unit.shape[1]]).clip(-1, 1)
    expected = planes.to_codes(planes.moved(unit, network, share)[kept], bits)
    assert found.dtype == codes.dtype
    assert np.array_equal(found, expected)
    if share == 0.0:
        assert np.array_equal(found, codes[kept])


@each_kind
@pytest.mark.parametrize("config", [CAR_CNN, FastConfig(scale=2, features=16, blocks=1)], ids=str)
def test_nothing_is_left_of_the_window_before(kind: Kind, config: Config) -> None:
    """Memory is used again: what is computed beyond the picture must not be the next picture's padding."""
    net = kind(awake_model(config))
    first, second = picture(26, 38, count=2)
    memory = net.memory(26, 38)
    for codes in (first, second, first):
        fresh = net.restore(codes, 8, 1.0, WHOLE, net.memory(26, 38))
        assert np.array_equal(net.restore(codes, 8, 1.0, WHOLE, memory), fresh)
