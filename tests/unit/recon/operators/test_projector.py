"""Projector and back-projector."""

from __future__ import annotations

import math

import pytest
import torch

from pfitre_service.model import ScanGeometry
from pfitre_service.recon.operators.projector import Projector


@pytest.mark.parametrize("shift", [0.0, 2.0, -3.4])
@pytest.mark.parametrize("size", [24, 33])
def test_projector_and_backprojector_are_adjoint(size, shift, device):
    projector = Projector(ScanGeometry.from_detector(rows=3, columns=size, axis=size * 0.47), torch.device(device))
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(3, size, size, generator=generator).to(device)
    y = torch.randn(3, projector.length, generator=generator).to(device)
    for angle in (0.0, 0.4, math.pi / 4, math.pi / 2, 2.2, -1.0):
        forward = (projector.project(x, angle, shift).double() * y).sum()
        backward = (projector.backproject(y, angle, shift).double() * x).sum()
        torch.testing.assert_close(forward, backward, rtol=1e-5, atol=1e-3)
