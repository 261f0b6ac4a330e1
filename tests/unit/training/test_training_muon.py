"""The optimiser: equal steps in all directions for kernels, AdamW's for the rest."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from pfitre_service.training.muon import Muon, orthogonal


@pytest.fixture
def network() -> nn.Module:
    torch.manual_seed(4)
    return nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.Flatten(), nn.Linear(8 * 16, 5))


def rated(network: nn.Module, rate: float, weight_decay: float = 0.0) -> Muon:
    optimiser = Muon(network, weight_decay=weight_decay)
    for group in optimiser.param_groups:
        group["lr"] = rate
    return optimiser


@pytest.mark.parametrize("shape", [(4, 30), (30, 4), (16, 16)])
def test_orthogonal_keeps_directions_and_evens_out_their_sizes(shape):
    left, _, right = torch.linalg.svd(
        torch.randn(shape, generator=torch.Generator().manual_seed(2)), full_matrices=False
    )
    uneven = left @ torch.diag(torch.logspace(0, -1.5, min(shape))) @ right
    found = torch.linalg.svd(orthogonal(uneven), full_matrices=False)
    assert float(found.S.min()) > 0.6
    assert float(found.S.max()) < 1.3
    assert float((orthogonal(uneven) * (left @ right)).sum()) / min(shape) == pytest.approx(1, abs=0.2)


def test_orthogonal_of_nothing_is_nothing():
    assert not orthogonal(torch.zeros(3, 5)).any()


def test_a_kernels_step_has_the_size_of_the_rate_whatever_the_gradients(network):
    kernel = network[0].weight
    for factor in (1e-3, 1e3):
        before = kernel.detach().clone()
        optimiser = rated(network, 0.1)
        network(torch.randn(2, 3, 4, 4)).square().sum().mul(factor).backward()
        optimiser.step()
        optimiser.zero_grad()
        moved = (kernel.detach() - before).square().mean().sqrt()
        assert 0.5 * 0.2 * 0.1 < float(moved) < 2 * 0.2 * 0.1


def test_everything_else_takes_the_steps_of_adamw(network):
    twin = nn.Linear(8 * 16, 5)
    twin.load_state_dict(network[2].state_dict())
    ours = rated(network, 1e-2, weight_decay=0.1)
    theirs = torch.optim.AdamW(twin.parameters(), lr=1e-2, weight_decay=0.1, betas=(0.9, 0.98))
    for step in range(3):
        for mine, yours in zip(network[2].parameters(), twin.parameters(), strict=True):
            mine.grad = torch.randn(mine.shape, generator=torch.Generator().manual_seed(step))
            yours.grad = mine.grad.clone()
        ours.step()
        theirs.step()
    for mine, yours in zip(network[2].parameters(), twin.parameters(), strict=True):
        torch.testing.assert_close(mine, yours)


def test_its_state_resumes_exactly(network):
    def learn(optimiser: Muon, seed: int) -> None:
        inputs = torch.randn(2, 3, 4, 4, generator=torch.Generator().manual_seed(seed))
        optimiser.zero_grad()
        network(inputs).square().sum().backward()
        optimiser.step()

    first = rated(network, 1e-2)
    learn(first, 0)
    weights, state = copy.deepcopy(network.state_dict()), copy.deepcopy(first.state_dict())
    learn(first, 1)
    expected = copy.deepcopy(network.state_dict())
    network.load_state_dict(weights)
    second = rated(network, 1e-2)
    second.load_state_dict(state)
    learn(second, 1)
    assert all(torch.equal(value, expected[name]) for name, value in network.state_dict().items())
