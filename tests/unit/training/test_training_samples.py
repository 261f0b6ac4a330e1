"""Samples are what the solver will hand to the network, of a scale of about one, and the same every time."""

from __future__ import annotations

import gc
import multiprocessing
import weakref
from dataclasses import replace

import numpy as np
import pytest
import torch

from pfitre_service.errors import PfitreError
from pfitre_service.prior.network import DIRECTIONS
from pfitre_service.recon.quality.coverage import directional_coverage
from pfitre_service.recon.robust_scale import robust_scale
from pfitre_service.training.samples import DEPTH, IMPERFECTIONS, accumulate, make_sample, project_fine
from pfitre_service.training.stream import SampleStream
from pfitre_service.twin.families import draw
from pfitre_service.twin.imperfections import draw_imperfections


def same(one, other) -> bool:
    return all(
        torch.equal(left, right)
        for left, right in (
            (one.truth, other.truth),
            (one.physics, other.physics),
            (one.coverage, other.coverage),
            (one.data.b, other.data.b),
            (one.data.psf, other.data.psf),
        )
    )


def test_sample_holds_whole_objects_and_the_geometry_they_share(tiny, families):
    sample = make_sample(0, tiny, families)
    assert sample.truth.shape == sample.physics.shape == sample.data.b.shape == (2 * DEPTH, 32, 32)
    assert sample.truth.dtype == sample.physics.dtype == torch.float32
    assert sample.coverage.shape == (DIRECTIONS,)
    assert torch.equal(sample.coverage, directional_coverage(sample.data, DIRECTIONS))
    assert sample.data.angles >= 3
    assert bool(sample.truth.isfinite().all())
    assert float(sample.truth.min()) >= 0.0


def test_smaller_slices_come_in_larger_numbers(tiny, families):
    recipe = replace(tiny, sizes=((16, 1.0),))
    assert len(make_sample(0, recipe, families).truth) == 8 * DEPTH


def test_each_object_is_brought_to_a_scale_of_about_one(tiny, families):
    scales = [
        robust_scale(part)
        for number in range(6)
        for part in torch.split(make_sample(number, tiny, families).physics, DEPTH)
    ]
    # The scale is divided out but for a jitter of a tenth.
    assert np.median(scales) == pytest.approx(1.0, abs=0.15)
    assert min(scales) > 0.6
    assert max(scales) < 1.6


def test_accumulators_are_those_of_the_truth(tiny, families):
    """The residual of the truth is small against the data: both are over the same scale."""
    sample = make_sample(1, tiny, families)
    explained = sample.data.normal(sample.truth)
    angle = torch.nn.functional.cosine_similarity(explained.flatten(), sample.data.b.flatten(), dim=0)
    gain = float((explained * sample.data.b).sum() / explained.square().sum())
    assert float(angle) > 0.95
    assert gain == pytest.approx(1.0, abs=0.2)


def test_same_number_gives_the_same_sample_and_another_another(tiny, families):
    assert same(make_sample(3, tiny, families), make_sample(3, tiny, families))
    assert not same(make_sample(3, tiny, families), make_sample(4, tiny, families))
    assert not same(make_sample(3, tiny, families), make_sample(3, replace(tiny, seed=1), families))


def test_imperfections_are_drawn_and_some_scans_have_none_of_the_noise():
    rng = np.random.default_rng(0)
    drawn = [draw_imperfections(rng, IMPERFECTIONS) for _ in range(200)]
    noiseless = sum(np.isinf(each.dose) for each in drawn) / len(drawn)
    assert noiseless == pytest.approx(IMPERFECTIONS.noiseless_chance, abs=0.1)
    assert {each.signal for each in drawn} == {"transmission", "emission"}
    assert any(each.jitter > 0 for each in drawn)
    assert any(each.axis_shift != 0 for each in drawn)


def test_measured_projections_are_not_the_perfect_ones(tiny):
    """Two samples of one family: what was measured differs from a perfect scan of the same truth."""
    sample = make_sample(2, tiny, ("porous",))
    residual = sample.data.b - sample.data.normal(sample.truth)
    fine = draw("porous", (2 * DEPTH, 64, 64), np.random.default_rng(5))
    angles = np.linspace(0, 180, 30, endpoint=False)
    perfect = accumulate(project_fine(fine, angles), angles)
    truth = torch.from_numpy(fine.reshape(DEPTH, 2, 32, 2, 32, 2).mean(axis=(1, 3, 5), dtype=np.float32))
    model_error = perfect.b - perfect.normal(truth)
    assert residual.norm() / sample.data.b.norm() > 0.0
    assert model_error.norm() / perfect.b.norm() < 0.05


@pytest.fixture
def brief(tiny):
    """Each sample is learnt from twice; two samples a block: lessons 0 1 0 1 2 3 2 3."""
    return replace(tiny, lessons=2)


@pytest.mark.slow
@pytest.mark.parametrize("first", [0, 3])
@pytest.mark.parametrize("workers", [0, 1])
def test_stream_gives_the_samples_of_its_lessons_in_order_whoever_makes_them(brief, families, first, workers):
    lessons = [0, 1, 0, 1, 2, 3][first:]
    with SampleStream(brief, families, first=first, workers=workers, block=2) as stream:
        taken = [stream.take() for _ in lessons]
    made = {number: make_sample(number, brief, families) for number in set(lessons)}
    assert all(same(sample, made[number]) for sample, number in zip(taken, lessons, strict=True))


def test_stream_keeps_no_sample_that_will_not_be_learnt_from_again(brief, families):
    taken: list[weakref.ref[torch.Tensor]] = []
    with SampleStream(brief, families, first=0, workers=0, block=2) as stream:
        for alive in (1, 2, 1, 0):
            taken.append(weakref.ref(stream.take().truth))
            gc.collect()
            assert len({id(truth()) for truth in taken if truth() is not None}) == alive
        assert taken[2] is taken[0]


def test_samples_that_are_learnt_once_come_one_after_the_other(brief, families):
    once = replace(brief, lessons=1)
    with SampleStream(once, families, first=1, workers=0, block=2) as stream:
        assert same(stream.take(), make_sample(1, once, families))
        assert same(stream.take(), make_sample(2, once, families))


def test_dead_process_ends_the_stream_with_advice(tiny, families):
    with SampleStream(tiny, families, first=0, workers=1) as stream:
        stream.take()
        for process in multiprocessing.active_children():
            process.kill()
            process.join(10)
        with pytest.raises(PfitreError, match="fewer workers"):
            take_many(stream, 10)


def take_many(stream: SampleStream, count: int) -> None:
    for _ in range(count):
        stream.take()
