"""How large the values of a volume are."""

from __future__ import annotations

import pytest
import torch

from pfitre_service.recon.robust_scale import robust_scale


class TestRobustScale:
    def test_is_the_height_of_the_picture_not_of_its_hottest_voxels(self):
        x = torch.full((200, 200), 2.0)
        x[0, :3] = 5000.0
        assert robust_scale(x) == pytest.approx(2.0)

    def test_is_the_height_of_a_sample_that_fills_little_of_the_field(self):
        x = 0.02 * torch.randn(2, 100, 100, generator=torch.Generator().manual_seed(1))
        x[:, 50:60, 30:40] = 3.0  # one hundredth
        assert robust_scale(x) == pytest.approx(3.0)

    def test_half_of_the_energy_lies_below_it(self):
        assert robust_scale(torch.arange(1001.0)) == pytest.approx(1000 * 0.5 ** (1 / 3), rel=2e-3)

    def test_counts_negative_values_by_their_size(self):
        assert robust_scale(-torch.arange(1001.0)) == robust_scale(torch.arange(1001.0))

    @pytest.mark.parametrize("factor", [1e-6, 1000.0])
    def test_grows_with_the_values(self, factor):
        x = torch.rand(50, 50, generator=torch.Generator().manual_seed(1))
        assert robust_scale(factor * x) == pytest.approx(factor * robust_scale(x), rel=1e-5)

    def test_looks_at_a_share_of_large_volumes(self):
        x = torch.linspace(0, 1, 3_000_000)
        assert robust_scale(x) == pytest.approx(0.5 ** (1 / 3), abs=1e-3)

    @pytest.mark.parametrize(("slices", "size"), [(64, 56), (50, 64), (25, 128)])
    def test_of_a_large_volume_sees_more_than_the_edge_of_its_slices(self, slices, size):
        """A step as long as a row of pixels would read one column, the leftmost: outside the sample."""
        x = torch.zeros(slices, size, size)
        x[:, 8:-8, 8:-8] = 2.0
        assert robust_scale(x, voxels=slices * size) == 2.0

    def test_of_one_voxel_and_of_nothing_but_zeros(self):
        assert robust_scale(torch.tensor([[-3.0]])) == 3.0
        assert robust_scale(torch.zeros(4, 4)) == 0.0
