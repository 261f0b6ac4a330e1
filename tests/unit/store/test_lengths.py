"""Where voxels lie, from the metadata of a tomogram."""

from __future__ import annotations

from dataclasses import asdict

import numpy as np

from pfitre_service.preprocess.parameters import PhaseParameters, PreprocessParameters
from pfitre_service.store.lengths import Lengths


def test_binned_volumes_lie_where_their_pixels_were():
    metadata = {"geometry": {"pixel_size_nm": 10.0}, "parameters": {"preprocess": {"bin": 2, "rows": [4, 12]}}}
    lengths = Lengths.from_metadata(metadata)
    assert (lengths.unit, lengths.voxel) == ("nm", 20)
    np.testing.assert_allclose(lengths.heights(4), [45, 65, 85, 105])
    np.testing.assert_allclose(lengths.across(2), [-10, 10])
    np.testing.assert_allclose(lengths.detector(3), [0, 10, 20])


def test_a_size_that_only_the_settings_know_counts_where_the_run_said_none():
    phase = PhaseParameters(delta_over_beta=300, energy_kev=20, distance_mm=50, pixel_size_nm=7)
    parameters = {"preprocess": asdict(PreprocessParameters(phase=phase))}
    assert Lengths.from_metadata({"geometry": {"pixel_size_nm": None}, "parameters": parameters}).pixel == 7
    assert Lengths.from_metadata({"geometry": {"pixel_size_nm": 3.0}, "parameters": parameters}).pixel == 3


def test_without_any_size_lengths_are_pixels():
    assert Lengths.from_metadata({}) == Lengths(unit="pixel", pixel=1.0, bin=1, first_row=0)
