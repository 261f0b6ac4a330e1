from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch

from pfitre_service.config import PriorSettings
from pfitre_service.errors import InputError, SettingsError
from pfitre_service.preprocess import References
from pfitre_service.recon.parameters import AdmmParameters
from pfitre_service.service.engine import Engine, EngineParameters, choose_device


def until_final(engine):
    steps = []
    while engine.phase != "final":
        steps.append(engine.step())
        assert len(steps) < 500
    return steps


def distance(volume, other):
    return float(np.linalg.norm(volume - other) / np.linalg.norm(other))


@pytest.fixture
def engine(geometry):
    return Engine(geometry, EngineParameters(device="cpu"))


def test_phases_follow_each_other_from_preview_to_final(engine, batch):
    engine.add(batch())
    phases = [engine.step().phase for _ in range(4)]
    engine.close()
    phases += [step.phase for step in until_final(engine)]
    assert list(dict.fromkeys(phases)) == ["preview", "iterating", "converging", "refit", "final"]


def test_every_step_is_one_revision_and_the_preview_is_no_iteration(engine, batch):
    engine.add(batch())
    engine.close()
    steps = until_final(engine)
    assert [step.revision for step in steps] == list(range(1, len(steps) + 1))
    assert [step.iterations for step in steps] == list(range(len(steps)))
    assert all(later.seconds >= earlier.seconds for earlier, later in itertools.pairwise(steps))


def test_every_eighth_projection_is_held_out_and_comes_back_in_the_end(engine, batch, angles):
    engine.add(batch())
    engine.close()
    steps = until_final(engine)
    assert all(step.angles_used == len(angles) for step in steps)
    assert steps[-1].heldout_error == next(s for s in reversed(steps) if s.phase == "converging").heldout_error
    assert steps[-1].residual < 0.1


def test_which_projections_are_held_out_does_not_depend_on_how_they_come(geometry, batch, angles):
    whole, pieces = (Engine(geometry, EngineParameters(device="cpu")) for _ in range(2))
    whole.add(batch())
    for first in range(0, len(angles), 5):
        pieces.add(batch(first, first + 5))
    assert pieces.step().heldout_error == pytest.approx(whole.step().heldout_error, rel=1e-4)


def test_without_held_out_projections_nothing_is_measured_and_nothing_refitted(geometry, batch):
    engine = Engine(geometry, EngineParameters(device="cpu", heldout_every=0))
    engine.add(batch())
    engine.close()
    steps = until_final(engine)
    assert all(math.isnan(step.heldout_error) for step in steps)
    assert "refit" not in [step.phase for step in steps]


def test_the_prior_explains_held_out_projections_better_than_physics_alone(engine, batch):
    engine.add(batch())
    engine.close()
    last = until_final(engine)[-1]
    assert last.heldout_error < last.heldout_error_physics


def test_the_volume_comes_nearer_to_the_truth_from_preview_to_final(engine, batch, truth):
    engine.add(batch())
    engine.step()
    preview = engine.pictures()
    engine.close()
    until_final(engine)
    final = engine.pictures()
    assert (preview.physics, preview.trust) == (None, None)
    assert distance(final.volume, truth) < distance(preview.volume, truth)
    assert final.volume.shape == final.physics.shape == final.trust.shape == truth.shape


def test_a_scan_in_pieces_ends_where_the_whole_scan_ends(geometry, batch, angles):
    parameters = EngineParameters(
        device="cpu", heldout_every=0, recon=AdmmParameters(tolerance=3e-5, max_iterations=500)
    )
    whole, pieces = Engine(geometry, parameters), Engine(geometry, parameters)
    whole.add(batch())
    for first in range(0, len(angles), 6):
        pieces.add(batch(first, first + 6))
        for _ in range(4):
            pieces.step()
    for engine in (whole, pieces):
        engine.close()
        until_final(engine)
    assert distance(pieces.pictures().volume, whole.pictures().volume) < 5e-3


def test_without_a_prior_the_result_is_the_physics(geometry, batch):
    engine = Engine(geometry, EngineParameters(device="cpu", prior=PriorSettings(name="none")))
    engine.add(batch())
    engine.close()
    last = until_final(engine)[-1]
    pictures = engine.pictures()
    assert engine.prior_name == "none"
    assert (pictures.volume == pictures.physics).all()
    assert not pictures.trust.any()
    assert last.heldout_error == last.heldout_error_physics


def test_a_settled_engine_wakes_when_angles_arrive(engine, batch):
    engine.add(batch(0, 12))
    while not engine.settled:
        engine.step()
    assert engine.phase == "iterating"
    engine.add(batch(12, 16))
    assert not engine.settled


def test_one_projection_is_not_enough(engine, batch):
    engine.add(batch(0, 1))
    with pytest.raises(InputError, match="at least 2 usable projections; got 1 usable of 1 stored"):
        engine.close()


def test_a_frame_that_cannot_be_used_is_left_out_and_named(engine, batch, integrals, angles):
    spoilt = integrals.copy()
    spoilt[7] = np.nan
    engine.add(batch(images=spoilt))
    assert (engine.stored, engine.used, engine.unusable) == (len(angles), len(angles) - 1, 1)
    assert next(iter(engine.warnings)).startswith("projection 7 was left out: 100% of the pixels")
    assert np.isfinite(engine.preview()).all()


def counts(integrals):
    return 100 + 5000 * np.exp(-integrals)


def test_references_that_come_late_make_the_volume_of_references_that_came_first(geometry, batch, integrals):
    images = counts(integrals)
    flats, darks = np.full((2, *images.shape[1:]), 5100.0), np.full((2, *images.shape[1:]), 100.0)
    parameters = EngineParameters(measurement="transmission", device="cpu", heldout_every=0)
    references = References.of(flats, darks, parameters.preprocess)
    early, late = Engine(geometry, parameters), Engine(geometry, parameters)
    early.set_references(references)
    early.add(batch(images=images))
    late.add(batch(images=images))
    late.step()
    assert len(late.warnings) == 2
    late.set_references(references)
    assert len(late.warnings) == 2  # the old frames serve until the new ones have caught up
    assert late.wanted_again == 0
    late.add_again(batch(0, 10, images=images))
    late.step()
    assert late.wanted_again == 10
    late.add_again(batch(10, images=images))
    assert late.wanted_again is None
    assert not late.warnings
    np.testing.assert_allclose(late.preview(), early.preview(), atol=1e-5)
    assert (late.stored, late.used) == (early.stored, early.used)


def test_a_device_that_is_not_there_is_named():
    assert choose_device("cpu") == torch.device("cpu")
    assert choose_device("auto").type in ("cpu", "cuda")
    with pytest.raises(SettingsError, match="device 'abacus' cannot be used here"):
        choose_device("abacus")
