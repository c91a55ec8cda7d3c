import pytest
import torch
from networks import SMALL, awake_model

from carfix.training.teacher import Teacher


def teacher(share: float) -> Teacher:
    return Teacher(net=awake_model(SMALL).net, share=share, steps=100, autocast=None)


def batch() -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(7)
    pristine = torch.rand(2, 1, 32, 32, generator=generator) * 1.6 - 0.8
    return pristine + 0.05 * torch.randn(pristine.shape, generator=generator), pristine


def test_the_target_moves_from_the_teachers_output_to_the_pristine_frame() -> None:
    decoded, pristine = batch()
    guide = teacher(share=1.0)
    away = [float((guide.target(decoded, pristine, step) - pristine).abs().mean()) for step in (0, 50, 100)]
    assert away[0] == pytest.approx(2 * away[1], rel=1e-5)
    assert away[0] > 0.01
    assert torch.equal(guide.target(decoded, pristine, 100), pristine)
    assert torch.equal(teacher(share=0.0).target(decoded, pristine, 0), pristine)


def test_the_teacher_does_not_tell_left_from_right() -> None:
    decoded, pristine = batch()
    guide = teacher(share=1.0)
    target = guide.target(decoded, pristine, 0)
    mirrored = guide.target(decoded.flip(-1), pristine.flip(-1), 0)
    assert torch.allclose(mirrored.flip(-1), target, atol=1e-6)
    assert not torch.allclose(guide.net(decoded), target, atol=1e-3)  # one view alone would
