"""The published network as a prior: standardised by the whole volume, not slice by slice."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from pfitre_service.prior.network import DIRECTIONS
from pfitre_service.prior.published_prior import PublishedPrior


class Bend(nn.Module):
    """(batch, 3, y, x) -> (batch, 1, y, x), pixel by pixel, and nothing that a change of unit would leave alone."""

    def __init__(self) -> None:
        super().__init__()
        self.most: list[int] = []

    def forward(self, pictures):
        self.most.append(len(pictures))
        return 2 * torch.tanh(pictures).mean(dim=1, keepdim=True)


@pytest.fixture
def prior():
    return PublishedPrior(Bend(), "tried")


@pytest.fixture
def volume():
    volume = torch.rand(4, 20, 20, generator=torch.Generator().manual_seed(2)) - 0.1
    volume[2:] *= 3
    return volume


def test_every_slice_is_standardised_by_the_volumes_mean_and_spread(prior, volume, device):
    volume = volume.to(device)
    positive = volume.clamp_min(0)
    mean, spread = positive.mean(), positive.std()
    answer = prior(volume, 1.0)
    assert answer.dtype == torch.float32
    assert not answer.is_inference()
    torch.testing.assert_close(answer, (2 * torch.tanh((positive - mean) / spread) * spread + mean).clamp_min(0))


def test_a_slices_answer_depends_on_the_rest_of_the_volume(prior, volume):
    assert float((prior(volume, 1.0)[0] - prior(volume[:1], 1.0)[0]).abs().max()) > 0.05


def test_equal_slices_stay_equal(prior, volume):
    volume[3] = volume[0]
    answer = prior(volume, 1.0)
    assert torch.equal(answer[3], answer[0])


def test_slabs_give_what_the_whole_gives(prior, volume):
    whole = prior(volume, 1.0)
    for at_once in (1, 3):
        slab_by_slab = PublishedPrior(Bend(), "tried", pixels_at_once=at_once * 400)
        assert torch.equal(slab_by_slab(volume, 1.0), whole)
        assert max(slab_by_slab.network.most) == at_once


def test_a_constant_volume_stays_as_it_is(prior):
    flat = torch.full((2, 20, 20), 5.0)
    torch.testing.assert_close(prior(flat, 5.0), flat)


def test_an_empty_volume_stays_empty(prior):
    assert not prior(torch.zeros(2, 20, 20), 1.0).any()


def test_without_a_scale_only_cuts_what_is_negative(prior, volume):
    assert torch.equal(prior(volume, 0.0), volume.clamp_min(0))
    assert not prior.network.most


def test_is_told_of_the_angles_and_answers_as_before(prior, volume):
    before = prior(volume, 1.0)
    prior.observe(volume, volume, torch.zeros(DIRECTIONS))
    assert torch.equal(prior(volume, 1.0), before)
