"""The network as a prior: scaled, turned, in slabs and tiles, and never negative."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch
from torch import nn

from pfitre_service.prior.network import DIRECTIONS, NetworkShape, PfitreNet
from pfitre_service.prior.network_prior import NetworkPrior, computes_in_bfloat16
from pfitre_service.prior.orientation import View

TINY = NetworkShape(
    channels=(4, 4, 6, 6, 8),
    growth=(2, 2, 2, 2, 4),
    dilations=((1,), (1, 2), (1, 2), (1, 2), (1, 2, 4)),
    blocks_down=(1, 1, 1, 1, 1),
    blocks_up=(1, 1, 1, 1),
)
VIEWS = [View(mirrored, exchanged) for mirrored in (False, True) for exchanged in (False, True)]


class Mean(nn.Module):
    """Sees pixels next to each other and the slices' own kinds apart: the mean of 3x3 pixels of a weighted sum."""

    def __init__(
        self, below: float = 0.1, here: float = 0.5, above: float = 0.3, physics: float = 0.2, smooth: float = 0.0
    ) -> None:
        super().__init__()
        self.shares = (below, here, above, physics, smooth)

    def forward(self, pictures, coverage):
        shares = torch.tensor(self.shares, device=pictures.device)[:, None, None]
        return nn.functional.avg_pool2d((pictures * shares).sum(1), 3, stride=1, padding=1, count_include_pad=False)


class Recording(Mean):
    """Keeps what it was shown."""

    def __init__(self, **shares: float) -> None:
        super().__init__(**shares)
        self.pictures: list[torch.Tensor] = []
        self.coverage: list[torch.Tensor] = []

    def forward(self, pictures, coverage):
        self.pictures.append(pictures.clone())
        self.coverage.append(coverage.clone())
        return super().forward(pictures, coverage)


@pytest.fixture(autouse=True)
def one_thread():
    torch.set_num_threads(1)


@pytest.fixture
def trained():
    torch.manual_seed(1)
    network = PfitreNet(TINY)
    with torch.no_grad():
        for parameter in network.parameters():
            if not parameter.any():
                parameter.normal_(0, 0.1)
    return network.requires_grad_(False)


@pytest.fixture
def volume():
    """(slices, size, size), partly negative."""
    return torch.rand(5, 40, 40, generator=torch.Generator().manual_seed(2)) - 0.1


@pytest.fixture
def physics():
    return torch.rand(5, 40, 40, generator=torch.Generator().manual_seed(3)) - 0.1


def wedge(first: int = 3, last: int = 25) -> torch.Tensor:
    coverage = torch.zeros(DIRECTIONS)
    coverage[first:last] = 0.8
    return coverage


def observing(
    network: nn.Module, physics: torch.Tensor, coverage: torch.Tensor | None = None, **bounds: int
) -> NetworkPrior:
    prior = NetworkPrior(network, "tried", reduced_precision=False, **bounds)
    prior.observe(physics, physics, wedge() if coverage is None else coverage)
    return prior


def test_only_cuts_what_is_negative_before_it_was_shown_anything(trained, volume):
    given = volume.clone()
    assert torch.equal(NetworkPrior(trained, "tried", reduced_precision=False)(volume, 1.0), volume.clamp_min(0))
    assert torch.equal(volume, given)


def test_answers_what_the_network_does_in_the_volumes_own_unit(trained, volume, physics, device):
    prior = observing(trained.to(device), physics.to(device), wedge().to(device))
    answer = prior(volume.to(device), 0.7)
    assert answer.shape == volume.shape
    assert answer.dtype == torch.float32
    assert answer.device.type == device
    assert not answer.is_inference()
    assert float((answer.cpu() - volume.clamp_min(0)).abs().mean()) > 0.01


def test_what_the_network_leaves_constant_stays_constant():
    shares = Mean(0.1, 0.4, 0.3, 0.2)
    flat = torch.full((2, 40, 40), 3.0)
    torch.testing.assert_close(observing(shares, flat)(flat, 3.0), flat)


@pytest.mark.parametrize("slices_at_once", [1, 2, 3, 5])
@pytest.mark.parametrize("slices", [1, 2, 5])
def test_slabs_give_what_the_whole_gives(trained, volume, physics, slices, slices_at_once):
    volume, physics = volume[:slices], physics[:slices]
    whole = observing(trained, physics)(volume, 0.5)
    slab_by_slab = observing(trained, physics, pixels_at_once=slices_at_once * 40 * 40)
    torch.testing.assert_close(slab_by_slab(volume, 0.5), whole, rtol=1e-4, atol=1e-5)


def test_slices_larger_than_a_slab_go_one_by_one(volume, physics):
    network = Recording()
    observing(network, physics, pixels_at_once=10)(volume, 1.0)
    assert [len(pictures) for pictures in network.pictures] == [1] * 5


@pytest.mark.parametrize("slices_at_once", [1, 2, 3, 5])
def test_each_slice_is_shown_between_its_neighbours_across_the_borders_of_slabs(slices_at_once):
    numbered = (torch.arange(5.0) + 1)[:, None, None].expand(5, 40, 40)
    network = Recording()
    observing(network, 0.1 * numbered, pixels_at_once=slices_at_once * 40 * 40)(numbered, 2.0)
    shown = torch.cat(network.pictures)[..., 0, 0] * 2.0
    assert shown[:, :3].tolist() == [[1, 1, 2], [1, 2, 3], [2, 3, 4], [3, 4, 5], [4, 5, 5]]
    torch.testing.assert_close(shown[:, 3], torch.tensor([0.1, 0.2, 0.3, 0.4, 0.5]))


@pytest.mark.parametrize(("tile", "overlap"), [(32, 8), (20, 6), (39, 12), (17, 16)])
@pytest.mark.parametrize("size", [40, 41, 67])
def test_tiles_give_what_the_whole_gives_where_the_network_looks_no_further_than_they_share(size, tile, overlap):
    """A tile's outermost pixels see its edge; they weigh least, and a field without steps there shows no seam."""
    line = torch.linspace(0, 1, size)
    volume = (1 + line[:, None] + 2 * line).expand(2, size, size)
    whole = observing(Mean(), volume)(volume, 1.0)
    tiled = observing(Mean(), volume, tile=tile, overlap=overlap)(volume, 1.0)
    torch.testing.assert_close(tiled, whole, rtol=0, atol=2 / size)


class Twice(Mean):
    """Looks at no pixel but its own."""

    def forward(self, pictures, coverage):
        return 2 * pictures[:, 1]


@pytest.mark.parametrize(("tile", "overlap"), [(32, 8), (20, 6), (39, 12), (17, 16), (16, 1)])
@pytest.mark.parametrize("size", [40, 41, 67])
def test_tiles_cover_every_pixel_in_its_place(size, tile, overlap):
    volume = torch.rand(2, size, size, generator=torch.Generator().manual_seed(7))
    tiled = observing(Twice(), volume, tile=tile, overlap=overlap)
    torch.testing.assert_close(tiled(volume, 1.0), 2 * volume)


def test_no_tile_is_wider_than_a_tile_and_neighbours_share_the_overlap():
    network = Recording()
    volume = torch.ones(1, 67, 67)
    observing(network, volume, tile=24, overlap=6)(volume, 1.0)
    assert len(network.pictures) == 16
    for length in range(25, 120):
        numbered = torch.arange(float(length)).expand(1, 30, length)  # every pixel tells its column
        network = Recording()
        observing(network, numbered, wedge(0, DIRECTIONS), tile=24, overlap=6)(numbered, float(length))
        shown = [pictures[0, 1] * length for pictures in network.pictures]
        assert max(max(tile.shape) for tile in shown) <= 24
        tiles = sorted({(round(float(tile.min())), round(float(tile.max())) + 1) for tile in shown})
        assert tiles[0][0] == 0
        assert tiles[-1][1] == length
        assert all(end - start >= 6 for (_, end), (start, _) in pairwise(tiles))


class Slanted(nn.Module):
    """Answers alike upside down, but neither in the mirror nor with exchanged axes; listens to each direction."""

    kernel = torch.tensor([[0.0, 0.0, 1.0], [2.0, 3.0, 2.0], [1.0, 0.0, 0.0]]) / 9

    def forward(self, pictures, coverage):
        filtered = nn.functional.conv2d(pictures[:, 1:2], self.kernel[None, None], padding=1)[:, 0]
        told = (coverage * torch.arange(DIRECTIONS)).sum(dim=1) / 500
        return filtered + told[:, None, None] * pictures[:, 3]


@pytest.mark.parametrize("view", VIEWS, ids=str)
@pytest.mark.parametrize("measured", [(3, 25), (0, 12), (21, 34), (9, 30)], ids=str)
def test_the_problem_seen_in_a_view_has_the_answer_seen_in_that_view(volume, physics, view, measured):
    """Up to half a turn, which leaves every direction where it is: the network itself must answer alike upside down."""
    coverage = wedge(*measured)
    answer = observing(Slanted(), physics, coverage)(volume, 0.5)
    seen = observing(Slanted(), view.of(physics), view.of_coverage(coverage))(view.of(volume), 0.5)
    torch.testing.assert_close(view.back(seen), answer, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("measured", [(3, 25), (0, 12), (21, 34), (9, 30)], ids=str)
def test_a_trained_network_answers_a_mirrored_scan_alike_or_as_upside_down(trained, volume, physics, measured):
    coverage, mirror = wedge(*measured), View(mirrored=True)
    answers = [observing(trained, physics, coverage)(volume, 0.5)]
    half_turn = [picture.flip((-1, -2)) for picture in (volume, physics)]
    answers.append(observing(trained, half_turn[1], coverage)(half_turn[0], 0.5).flip((-1, -2)))
    seen = observing(trained, mirror.of(physics), mirror.of_coverage(coverage))(mirror.of(volume), 0.5)
    differences = [float((mirror.back(seen) - answer).abs().max()) for answer in answers]
    assert min(differences) < 1e-4


def test_tells_the_network_every_slices_coverage_as_it_turned_the_slices(volume, physics):
    network = Recording()
    coverage = wedge(4, 16)  # missing: 80 to 200 degrees, in the middle 140, mirrored 40
    observing(network, physics, coverage)(volume, 1.0)
    expected = View(mirrored=True)
    assert torch.equal(network.coverage[0], expected.of_coverage(coverage).expand(5, -1))
    assert torch.equal(network.pictures[0][:, 3], expected.of(physics))


def test_shows_the_network_physics_and_total_variations_answer_apart(volume, physics):
    network, coverage = Recording(), wedge(4, 16)
    prior = NetworkPrior(network, "tried", reduced_precision=False)
    prior.observe(physics, physics.square(), coverage)
    prior(volume, 0.5)
    shown = network.pictures[0]
    seen = View(mirrored=True)
    torch.testing.assert_close(shown[:, 1], seen.of(volume) / 0.5)
    torch.testing.assert_close(shown[:, 3], seen.of(physics) / 0.5)
    torch.testing.assert_close(shown[:, 4], seen.of(physics.square()) / 0.5)


def test_hot_voxels_are_cut_before_the_network_sees_them(volume, physics):
    volume[2, 7, 7], volume[2, 9, 9] = 1e6, -1e6
    network = Recording(here=1.0, below=0.0, above=0.0, physics=0.0)
    answer = observing(network, physics)(volume, 0.5)
    assert float(network.pictures[0].max()) == 6.0
    assert float(network.pictures[0].min()) == -6.0
    assert float(answer.max()) < 6.0 * 0.5


def test_what_was_seen_last_counts(volume, physics):
    network = Recording()
    prior = observing(network, physics)
    prior.observe(0.5 * physics, physics, wedge(0, 36))
    prior(volume, 1.0)
    assert torch.equal(network.coverage[0][0], wedge(0, 36))
    assert len(network.pictures) == 1


def test_keeps_no_multiplier_and_answers_without_dropout():
    prior = NetworkPrior(nn.Sequential(nn.Dropout(0.5)).train(), "tried")
    assert not prior.network.training


@pytest.mark.skipif(not computes_in_bfloat16(torch.device("cpu")), reason="this processor does not compute in bfloat16")
def test_reduced_precision_changes_the_answer_by_a_hundredth_of_the_scale_at_most(trained, volume, physics):
    full = observing(trained, physics)(volume, 0.5)
    prior = NetworkPrior(trained, "tried")
    prior.observe(physics, physics, wedge())
    reduced = prior(volume, 0.5)
    assert not torch.equal(reduced, full)
    assert float((reduced - full).abs().max()) < 0.01 * 0.5 * max(1.0, float(full.max() / 0.5))
