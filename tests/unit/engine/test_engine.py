from __future__ import annotations

import itertools
import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from pfitre_service.config import PriorSettings
from pfitre_service.engine.engine import Engine
from pfitre_service.engine.parameters import EngineParameters, choose_device
from pfitre_service.engine.volumes import AssessedVolumes, Volumes
from pfitre_service.errors import InputError, SettingsError
from pfitre_service.model import FrameBatch, ScanGeometry
from pfitre_service.preprocess import References
from pfitre_service.recon.calibration.calibration import Calibration
from pfitre_service.recon.parameters import AdmmParameters, CalibrationParameters
from pfitre_service.twin.beamlines.raster_sample import raster_sample
from pfitre_service.twin.project import project


def frames_of(engine):
    return engine.projections.active


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
    preview = engine.volumes()
    engine.close()
    until_final(engine)
    final = engine.volumes()
    assert (type(preview), type(final)) == (Volumes, AssessedVolumes)
    assert distance(final.volume, truth) < distance(preview.volume, truth)
    assert final.volume.shape == final.physics.shape == final.expected_error.shape == truth.shape


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
    assert distance(pieces.volumes().volume, whole.volumes().volume) < 5e-3


def test_without_a_prior_the_result_is_the_physics(geometry, batch):
    engine = Engine(geometry, EngineParameters(device="cpu", prior=PriorSettings(name="none")))
    engine.add(batch())
    engine.close()
    last = until_final(engine)[-1]
    volumes = engine.volumes()
    assert engine.in_view.prior_name == "none"
    assert (volumes.volume == volumes.physics).all()
    assert not volumes.prior_gap.any()
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
    assert (frames_of(engine).stored, frames_of(engine).used, frames_of(engine).unusable) == (
        len(angles),
        len(angles) - 1,
        1,
    )
    assert next(iter(engine.warnings)).startswith("projection 7 was left out: 100% of the pixels")
    assert np.isfinite(engine.preview()).all()


def counts(integrals):
    return 100 + 5000 * np.exp(-integrals)


def test_references_that_come_late_make_the_volume_of_references_that_came_first(geometry, batch, integrals):
    images = counts(integrals)
    flats, darks = np.full((2, *images.shape[1:]), 5100.0), np.full((2, *images.shape[1:]), 100.0)
    parameters = EngineParameters(measurement="transmission", device="cpu", heldout_every=0)
    references = References.from_frames(flats, darks, parameters.preprocess)
    early, late = Engine(geometry, parameters), Engine(geometry, parameters)
    early.set_references(references)
    early.add(batch(images=images))
    late.add(batch(images=images))
    late.step()
    assert len(late.warnings) == 2
    late.set_references(references)
    assert len(late.warnings) == 2  # the old frames serve until the new ones have caught up
    assert late.projections.reprocess_from == 0
    late.reprocess(batch(0, 10, images=images))
    late.step()
    assert late.projections.reprocess_from == 10
    late.reprocess(batch(10, images=images))
    assert late.projections.reprocess_from is None
    assert not late.warnings
    np.testing.assert_allclose(late.preview(), early.preview(), atol=1e-5)
    assert (frames_of(late).stored, frames_of(late).used) == (frames_of(early).stored, frames_of(early).used)


@pytest.mark.slow
@pytest.mark.parametrize(("prior", "heldout_every"), [("none", 8), ("tv", 0), ("tv", 8), ("auto", 8)])
def test_flats_that_come_last_end_in_the_volume_of_flats_that_came_first(
    geometry, batch, integrals, prior, heldout_every
):
    images = counts(integrals) * np.linspace(0.8, 1.2, 32)
    flats = np.broadcast_to(100 + 5000 * np.linspace(0.8, 1.2, 32), (2, 8, 32))
    references = References.from_frames(flats, np.full((2, 8, 32), 100.0))
    parameters = EngineParameters("transmission", heldout_every, "cpu", prior=PriorSettings(name=prior))
    early, late = Engine(geometry, parameters), Engine(geometry, parameters)
    early.set_references(references)
    early.add(batch(images=images))
    late.add(batch(images=images))
    while not late.settled:
        late.step()
    before = late.volumes().volume
    late.set_references(references)
    late.reprocess(batch(0, 10, images=images))
    late.step()
    assert distance(late.volumes().volume, before) < 0.1  # the volume stays until all frames have been corrected
    late.reprocess(batch(10, images=images))
    late.step()
    for engine in (early, late):
        engine.close()
        until_final(engine)
    assert distance(early.volumes().volume, before) > 0.05
    assert distance(late.volumes().volume, early.volumes().volume) < 1e-4


def test_flats_that_come_after_the_end_was_begun_are_waited_for(geometry, batch, integrals):
    images = counts(integrals)
    references = References.from_frames(np.full((2, 8, 32), 5100.0), np.full((2, 8, 32), 100.0))
    parameters = EngineParameters("transmission", device="cpu", prior=PriorSettings(name="tv"))
    early, late = Engine(geometry, parameters), Engine(geometry, parameters)
    early.set_references(references)
    for engine in (early, late):
        engine.add(batch(images=images))
        engine.close()
    while late.phase != "refit":
        late.step()
    late.set_references(references)
    while not late.settled:
        late.step()
    assert late.phase == "refit"
    late.reprocess(batch(images=images))
    assert late.phase == "converging"
    for engine in (early, late):
        until_final(engine)
    assert distance(late.volumes().volume, early.volumes().volume) < 1e-4


def test_the_end_does_not_depend_on_the_way_and_nothing_worse_is_shown_on_it(geometry, batch, angles):
    parameters = EngineParameters(device="cpu", prior=PriorSettings(name="tv"))
    whole, pieces = Engine(geometry, parameters), Engine(geometry, parameters)
    whole.add(batch())
    for first in range(0, len(angles), 5):
        pieces.add(batch(first, first + 5))
        for _ in range(4):
            last = pieces.step()
    volume = pieces.volumes().volume
    pieces.close()
    steps, revisions = [pieces.step()], [pieces.shown_revision]
    assert revisions == [last.revision]
    assert (pieces.volumes().volume == volume).all()
    while pieces.phase != "final":
        steps.append(pieces.step())
        revisions.append(pieces.shown_revision)
    assert revisions == sorted(revisions)
    assert revisions[-1] == pieces.revision
    errors = [step.heldout_error for step, shown in zip(steps, revisions, strict=True) if shown == last.revision]
    assert errors == [pytest.approx(last.heldout_error, rel=1e-4)] * len(errors)
    shown_from_then_on = steps[len(errors)]
    assert shown_from_then_on.heldout_error <= last.heldout_error or shown_from_then_on.phase == "refit"
    whole.close()
    until_final(whole)
    assert distance(pieces.volumes().volume, whole.volumes().volume) < 1e-4


def found_axis(**change):
    parameters = CalibrationParameters(drift=False, **change)
    return EngineParameters(device="cpu", prior=PriorSettings(name="none"), calibration=parameters)


@pytest.fixture(scope="session")
def half_turn(particle):
    """Angles over half a turn, and projections whose axis is at column 17.0 where the middle is 15.5."""
    angles = np.arange(0.0, 180.0, 6.0)
    return angles, project(particle, angles, axis=17.0)


def test_the_axis_is_found_as_the_angles_grow_and_the_volume_goes_on(geometry, half_turn):
    angles, rows = half_turn
    engine = Engine(geometry, found_axis(), Calibration(15.5, "middle"))
    looked_at = []
    for first in range(0, 30, 5):
        engine.add(FrameBatch("projection", first, rows[first : first + 5], angles[first : first + 5]))
        before = frames_of(engine).calibration.angles
        engine.calibrate()
        while engine.projections.reprocess_from is not None:
            row = engine.projections.reprocess_from
            revision = engine.step().revision
            engine.reprocess(FrameBatch("projection", row, rows[row : row + 3], angles[row : row + 3]))
            assert engine.revision == revision  # no step is lost
        if frames_of(engine).calibration.angles != before:
            looked_at.append(frames_of(engine).calibration.angles)
    engine.calibrate(at_last=True)
    assert looked_at == [10, 15, 25]
    while engine.projections.reprocess_from is not None:
        engine.reprocess(FrameBatch("projection", 0, rows, angles))
        engine.calibrate(at_last=True)
    assert frames_of(engine).calibration.angles == 30
    assert frames_of(engine).calibration.axis_origin == "found"
    assert frames_of(engine).geometry.axis == pytest.approx(17.0, abs=0.3)
    assert frames_of(engine).stored == frames_of(engine).used == 30
    straight = Engine(replace(geometry, axis=frames_of(engine).geometry.axis), found_axis())
    straight.add(FrameBatch("projection", 0, rows, angles))
    np.testing.assert_allclose(engine.preview(), straight.preview(), atol=1e-5)


def test_at_last_the_axis_is_found_as_if_nothing_had_been_found_before(geometry, half_turn):
    angles, rows = half_turn
    wrong = Calibration(13.2, "found", 0.2, tuple(np.linspace(-2, 2, 30)), 30)
    fresh, resumed = (
        Engine(geometry, found_axis(), Calibration(15.5, "middle"), resumed=before) for before in (None, wrong)
    )
    for engine in (fresh, resumed):
        engine.add(FrameBatch("projection", 0, rows, angles))
        engine.calibrate(at_last=True)
        engine.reprocess(FrameBatch("projection", 0, rows, angles))
    assert frames_of(fresh).calibration == frames_of(resumed).calibration
    assert frames_of(fresh).calibration.axis == pytest.approx(17.0, abs=0.3)


def hxn_scan(maps, degrees, *, wrong=None):
    """A scan of maps that come one by one, solved as it goes on; that in row `wrong` is of a sample that has moved, and
    is taken again at last. The engine at the end, and all axes on the way there."""
    if wrong is not None:
        degrees = np.append(degrees, degrees[wrong])
        maps = np.concatenate([maps, maps[[wrong]]])
        maps[wrong] = np.roll(maps[wrong], 5, axis=1)

    def rows(first, stop):
        return FrameBatch("projection", first, maps[first:stop], degrees[first:stop])

    geometry = ScanGeometry.from_detector(rows=maps.shape[1], columns=maps.shape[2])
    parameters = EngineParameters(device="cpu", heldout_every=0, prior=PriorSettings(name="tv"))
    engine, axes = Engine(geometry, parameters, Calibration(geometry.axis, "middle")), []
    for row in range(len(maps)):
        engine.add(rows(row, row + 1))
        if row == 20:
            engine.withdraw(rows(wrong, wrong + 1))
        engine.calibrate()
        if engine.projections.reprocess_from is not None:
            engine.reprocess(rows(0, row + 1))
        engine.step()
        axes.append(frames_of(engine).calibration.axis)
    engine.calibrate(at_last=True)
    if engine.projections.reprocess_from is not None:
        engine.reprocess(rows(0, len(maps)))
    engine.close()
    until_final(engine)
    return engine, axes


@pytest.mark.slow
def test_a_wrong_map_that_was_withdrawn_leaves_no_trace_in_axis_or_volume():
    sample = raster_sample()
    clean, _ = hxn_scan(sample.maps["Fe"], sample.angles)
    redone, axes = hxn_scan(sample.maps["Fe"], sample.angles, wrong=3)
    assert max(abs(axis - 23.5) for axis in axes) > 1  # it did harm while it was in
    assert frames_of(clean).calibration.axis == frames_of(redone).calibration.axis == 23.5
    assert frames_of(clean).used == frames_of(redone).used == 20
    assert distance(redone.volumes().volume, clean.volumes().volume) < 1e-3


def test_in_doubt_the_last_phases_say_that_the_axis_is_taken_as_the_middle(geometry, batch):
    engine = Engine(geometry, found_axis(), Calibration(15.5, "middle"))
    engine.add(batch(0, 12))
    engine.calibrate(at_last=True)
    assert not engine.warnings
    engine.close()
    assert "rotation axis was not found and is taken as 15.5: the angles span too little" in next(iter(engine.warnings))


@pytest.fixture(params=["iterating", "refit"])
def phase(request):
    return request.param


def in_phase(engine, phase):
    while engine.phase != phase:
        if engine.phase == "iterating":
            engine.close()
        engine.step()


def test_withdrawn_projections_leave_no_trace(geometry, batch, phase):
    shifts = tuple(np.linspace(-1, 1, 26))
    parameters = EngineParameters(device="cpu", prior=PriorSettings(name="none"))
    engine, without = (Engine(geometry, parameters, Calibration(15.5, shifts=shifts)) for _ in range(2))
    engine.add(batch())
    in_phase(engine, phase)
    engine.withdraw(batch(3, 6))  # 4 is held out
    engine.withdraw(batch(5, 6))
    without.projections.exclude([3, 4, 5])
    without.add(batch())
    assert (
        (frames_of(engine).stored, frames_of(engine).used)
        == (frames_of(without).stored, frames_of(without).used)
        == (26, 23)
    )
    volumes = [one.preview() / one.preview().max() for one in (engine, without)]  # the scale is the solver's angles'
    np.testing.assert_allclose(*volumes, atol=1e-4)
    for one in (engine, without):
        one.close()
        if one.projections.reprocess_from is not None:
            one.reprocess(batch())
        until_final(one)
    assert distance(engine.volumes().volume, without.volumes().volume) < 1e-4


def test_projections_withdrawn_while_frames_are_added_again_are_out_of_both(geometry, batch, integrals):
    engine = Engine(geometry, EngineParameters(device="cpu", prior=PriorSettings(name="none")))
    engine.add(batch())
    engine.set_references(None)
    engine.reprocess(batch(0, 10))
    engine.withdraw(batch(8, 12))
    assert frames_of(engine).used == 22
    engine.reprocess(batch(10))
    assert frames_of(engine).used == 22
    assert engine.projections.reprocess_from is None
    only = Engine(geometry, engine.parameters)
    only.projections.exclude(range(8, 12))
    only.add(batch())
    np.testing.assert_allclose(engine.preview(), only.preview(), atol=1e-5)


def test_an_unusable_projection_that_is_withdrawn_is_not_counted_twice(engine, batch, integrals):
    spoilt = integrals.copy()
    spoilt[7] = np.nan
    engine.add(batch(images=spoilt))
    engine.withdraw(batch(7, 8, images=spoilt))
    assert (frames_of(engine).unusable, frames_of(engine).used, engine.projections.withdrawn) == (
        0,
        25,
        {7},
    )


def test_nothing_is_added_again_that_is_not_wanted(engine, batch):
    with pytest.raises(InputError, match="no frames are wanted again"):
        engine.reprocess(batch())


def test_a_device_that_is_not_there_is_named():
    assert choose_device("cpu") == torch.device("cpu")
    assert choose_device("auto").type in ("cpu", "cuda")
    with pytest.raises(SettingsError, match="device 'abacus' cannot be used here"):
        choose_device("abacus")


def damaged(batch, *rows):
    """The batch with these frames as the store gives them when they cannot be read any more."""
    images = batch.images.copy()
    for row in rows:
        images[row - batch.first] = 0
    return replace(batch, images=images, damaged={row: f"run 1, seq_num {row + 1}: gone" for row in rows})


def test_a_damaged_projection_is_left_out_and_named_and_the_rest_is_as_without_it(geometry, batch):
    given = EngineParameters(device="cpu", heldout_every=0)
    engine, without = Engine(geometry, given), Engine(geometry, given)
    engine.add(damaged(batch(), 4))
    without.projections.exclude([4])
    without.add(batch())
    np.testing.assert_array_equal(engine.preview(), without.preview())
    assert (frames_of(engine).used, frames_of(engine).unusable, frames_of(engine).stored) == (
        frames_of(without).used,
        1,
        frames_of(without).stored,
    )
    assert frames_of(engine).damaged == {4: "run 1, seq_num 5: gone"}
    assert next(iter(engine.warnings)) == "projection 4 was left out: run 1, seq_num 5: gone"
    assert engine.findings == without.findings


def test_a_damaged_projection_may_be_withdrawn_whenever_it_was_damaged(geometry, batch):
    given = EngineParameters(device="cpu", heldout_every=0)
    before, after, without = (Engine(geometry, given) for _ in range(3))
    before.add(damaged(batch(), 4))
    before.withdraw(damaged(batch(4, 5), 4))
    assert before.projections.reprocess_from is None
    assert (frames_of(before).unusable, frames_of(before).damaged) == (0, {})
    after.add(batch())  # it was whole then, and is in
    after.withdraw(damaged(batch(4, 5), 4))
    assert after.projections.reprocess_from == 0
    after.reprocess(damaged(batch(), 4))
    without.projections.exclude([4])
    without.add(batch())
    for engine in (before, after):
        np.testing.assert_allclose(engine.preview(), without.preview(), atol=1e-6)
        assert (frames_of(engine).used, engine.projections.withdrawn, frames_of(engine).damaged) == (
            frames_of(without).used,
            {4},
            {},
        )
