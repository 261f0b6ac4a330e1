"""PSNR and SSIM against what they must be by definition, and against another way to compute them."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy import ndimage

from pfitre_service.errors import InputError
from pfitre_service.recon.quality.similarity import psnr, ssim


@pytest.fixture
def truth() -> torch.Tensor:
    rng = np.random.default_rng(3)
    pictures = ndimage.gaussian_filter(rng.random((3, 40, 33)), (0, 2, 2))
    return torch.from_numpy(pictures - pictures.min())


def noisy(truth: torch.Tensor, amount: float) -> torch.Tensor:
    noise = torch.randn(truth.shape, generator=torch.Generator().manual_seed(1))
    return (truth + amount * noise).clamp_min(0)


def test_psnr_of_a_known_offset_is_its_share_of_the_peak(truth):
    tenth = 0.1 * truth.amax((1, 2), keepdim=True)
    assert psnr(truth + tenth, truth).tolist() == pytest.approx([20.0] * 3)


def test_a_picture_is_like_itself(truth):
    assert psnr(truth, truth).tolist() == [math.inf] * 3
    assert ssim(truth, truth).tolist() == pytest.approx([1.0] * 3)


def test_psnr_of_two_slices_worked_out_by_hand():
    """Peaks 2 and 4; one voxel of each slice of four is off by 0.2 and by 0.8: mean squares 0.01 and 0.16."""
    truth = np.array([[[2.0, 0.0], [1.0, 0.0]], [[4.0, 0.0], [1.0, 0.0]]], np.float32)
    volume = truth + np.array([[[0.0, 0.2], [0.0, 0.0]], [[0.0, 0.0], [0.0, -0.8]]], np.float32)
    each = [10 * math.log10(2**2 / 0.01), 10 * math.log10(4**2 / 0.16)]
    assert psnr(volume, truth).tolist() == pytest.approx(each, abs=1e-5)
    against_four = [10 * math.log10(4**2 / 0.01), each[1]]
    assert psnr(volume, truth, peak="volume").tolist() == pytest.approx(against_four, abs=1e-5)
    whole = [10 * math.log10(4**2 / ((0.01 + 0.16) / 2))]
    assert psnr(volume, truth, region="volume").tolist() == pytest.approx(whole, abs=1e-5)


def test_the_peak_is_the_largest_value_and_not_the_range():
    truth = torch.tensor([[[1.0, 3.0]]])
    assert float(psnr(truth + 0.3, truth)) == pytest.approx(20.0, abs=1e-5)


def test_unit_of_the_values_does_not_matter(truth):
    other = noisy(truth, 0.02)
    assert torch.allclose(psnr(1000 * other, 1000 * truth), psnr(other, truth))
    assert torch.allclose(ssim(1000 * other, 1000 * truth), ssim(other, truth))


def test_more_noise_is_less_alike(truth):
    small, large = noisy(truth, 0.01), noisy(truth, 0.05)
    assert (psnr(small, truth) > psnr(large, truth) + 6).all()
    assert (ssim(small, truth) > ssim(large, truth)).all()


def test_ssim_of_two_flat_pictures_is_that_of_their_means():
    """Without variance only the means speak: (2 a b + C1) / (a^2 + b^2 + C1)."""
    truth = torch.full((1, 30, 30), 0.5, dtype=torch.float64)
    truth[0, 0, 0], truth[0, -1, -1] = 0.0, 1.0  # a range of 1; the corners are seen by one window each
    value = float(ssim(torch.full_like(truth, 0.25), truth))
    assert value == pytest.approx((2 * 0.5 * 0.25 + 1e-4) / (0.5**2 + 0.25**2 + 1e-4), abs=5e-3)


def test_ssim_agrees_with_the_filters_of_scipy(truth):
    other = noisy(truth, 0.02)

    def mean(picture):
        return ndimage.gaussian_filter(picture, 1.5, truncate=3.5)[5:-5, 5:-5]

    for x, t, value in zip(other.numpy(), truth.numpy(), ssim(other, truth).tolist(), strict=True):
        c1, c2 = (0.01 * np.ptp(t)) ** 2, (0.03 * np.ptp(t)) ** 2
        mx, mt = mean(x), mean(t)
        covariance, vx, vt = mean(x * t) - mx * mt, mean(x * x) - mx**2, mean(t * t) - mt**2
        luminance = (2 * mx * mt + c1) / (mx**2 + mt**2 + c1)
        structure = (2 * covariance + c2) / (vx + vt + c2)
        assert value == pytest.approx((luminance * structure).mean(), rel=1e-9)


def test_an_empty_slice_has_no_figures_and_spoils_no_other(truth):
    with_empty = truth.clone()
    with_empty[1] = 0
    for figure in (psnr, ssim):
        values = figure(noisy(truth, 0.02), with_empty)
        assert torch.isnan(values).tolist() == [False, True, False]


def test_pictures_of_another_shape_are_refused(truth):
    with pytest.raises(InputError, match="one shape"):
        psnr(truth[:2], truth)
    with pytest.raises(InputError, match="11 x 11"):
        ssim(truth[:, :10], truth[:, :10])
