"""The loss asks for the truth, and above all for what was not measured."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from pfitre_service.training.loss import loss, unmeasured_share
from pfitre_service.training.samples import accumulate
from pfitre_service.twin.trajectories import wedge

SIZE = 32


def measured(missing: float):
    angles = wedge(missing, count=60)
    return accumulate(np.zeros((60, 1, SIZE), np.float32), angles)


def test_truth_has_next_to_no_loss_and_anything_else_more():
    generator = torch.Generator().manual_seed(0)
    truth = torch.rand(3, SIZE, SIZE, generator=generator)
    unmeasured = unmeasured_share(measured(100))
    least = float(loss(truth, truth, unmeasured))
    assert least < 1e-3
    assert float(loss(truth + 0.1, truth, unmeasured)) > 0.1
    assert float(loss(truth + 0.2, truth, unmeasured)) > float(loss(truth + 0.1, truth, unmeasured))


def test_slope_is_finite_at_the_truth():
    truth = torch.rand(2, SIZE, SIZE)
    picture = truth.clone().requires_grad_()
    torch.autograd.backward(loss(picture, truth, unmeasured_share(measured(100))))
    assert bool(picture.grad.isfinite().all())


def test_unmeasured_share_lies_between_none_and_all_and_grows_with_the_wedge():
    shares = [unmeasured_share(measured(missing)) for missing in (0, 60, 120)]
    assert all(share.shape == (SIZE, SIZE // 2 + 1) for share in shares)
    assert all(float(share.min()) >= 0 and float(share.max()) <= 1 for share in shares)
    means = [float(share.mean()) for share in shares]
    assert means == sorted(means)


def wave(direction: float) -> torch.Tensor:
    """A wave of eight periods whose spectrum lies in that direction, in degrees."""
    y, x = torch.meshgrid(torch.arange(SIZE), torch.arange(SIZE), indexing="ij")
    turned = x * np.cos(np.radians(direction)) + y * np.sin(np.radians(direction))
    return torch.sin(2 * np.pi * turned * 8 / SIZE)[None].float()


def test_error_in_a_measured_direction_counts_less_than_one_in_the_wedge():
    """A tilt series about 0 degrees measures waves along x, not those along y."""
    unmeasured = unmeasured_share(measured(100))
    truth = torch.zeros(1, SIZE, SIZE)
    plain = float(loss(wave(0), truth, torch.zeros_like(unmeasured)))
    seen, unseen = (float(loss(wave(direction), truth, unmeasured)) for direction in (0, 90))
    assert float(loss(wave(90), truth, torch.zeros_like(unmeasured))) == pytest.approx(plain, rel=1e-3)
    assert seen - plain < 0.5 * (unseen - plain)
