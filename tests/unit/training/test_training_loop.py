"""Updates change the network, the average follows, and a state that is saved is the state that goes on."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from pfitre_service.errors import InputError, PfitreError, SettingsError
from pfitre_service.prior.registry import load
from pfitre_service.training.loop import Trainer, on_device
from pfitre_service.training.recipe import Recipe
from pfitre_service.training.samples import make_sample

CPU = torch.device("cpu")


def test_sample_makes_a_round_of_updates_in_each_stage(tiny, families):
    trainer = Trainer(replace(tiny, known=1.0), CPU)
    updates = []
    while not trainer.finished:
        trainer.learn(make_sample(trainer.samples, trainer.recipe, families), updates.append)
    assert [update.number for update in updates] == list(range(1, trainer.updates + 1))
    first = [update for update in updates if update.sample == 0]
    assert [update.round for update in first] == [0, 1, 2]  # two rounds, and the one on what is right already
    assert {update.stage for update in updates} == {1, 2}
    assert [update.rate for update in updates] == [tiny.rate(update.number - 1) for update in updates]
    assert trainer.whole


def test_network_learns_one_sample_by_heart(tiny, families):
    """The loss falls when the same sample comes again and again: gradient, view and data step fit together."""
    recipe = replace(tiny, updates=1000, warm_up=1, known=0.0, from_total_variation=0.0, learning_rate=5e-3)
    trainer = Trainer(recipe, CPU)
    sample = make_sample(0, recipe, families)
    updates = []
    for _ in range(40):
        trainer.learn(sample, updates.append)
    losses = [update.loss for update in updates if update.round == 0]
    assert losses[-1] < 0.8 * losses[0]


def test_training_can_go_on_from_weights_by_name():
    recipe = replace(Recipe.smoke(), begin_with="pfitre-s")
    trainer = Trainer(recipe, CPU)
    state, _ = load("pfitre-s")
    for network in (trainer.network, trainer.average):
        assert all(torch.equal(value, state[name]) for name, value in network.state_dict().items())


def test_weights_of_another_architecture_are_no_beginning():
    with pytest.raises(SettingsError, match="of pfitre-m begins with weights of pfitre-m"):
        Trainer(replace(Recipe.smoke(architecture="pfitre-m"), begin_with="pfitre-s"), CPU)


def test_average_follows_the_network(tiny, families):
    trainer = Trainer(tiny, CPU)
    begin = [value.clone() for value in trainer.average.parameters()]
    trainer.learn(make_sample(0, tiny, families), lambda update: None)
    moved = [not torch.equal(*pair) for pair in zip(begin, trainer.average.parameters(), strict=True)]
    apart = [
        not torch.equal(*pair) for pair in zip(trainer.network.parameters(), trainer.average.parameters(), strict=True)
    ]
    assert any(moved)
    assert any(apart)


def test_seed_alone_decides_the_first_weights_and_leaves_the_generator_of_others(tiny):
    torch.manual_seed(1)
    expected = torch.rand(1)
    torch.manual_seed(1)
    one, other = Trainer(tiny, CPU), Trainer(replace(tiny, seed=1), CPU)
    assert torch.equal(torch.rand(1), expected)
    assert torch.equal(one.network.first.weight, Trainer(tiny, CPU).network.first.weight)
    assert not torch.equal(one.network.first.weight, other.network.first.weight)


def test_saved_state_goes_on_as_if_it_had_not_been_saved(tiny, families, tmp_path):
    straight = Trainer(tiny, CPU)
    straight.learn(make_sample(0, tiny, families), lambda update: None)
    straight.save(tmp_path / "checkpoint.pt")
    resumed = Trainer(replace(tiny), CPU)
    resumed.resume(tmp_path / "checkpoint.pt")
    for trainer in (straight, resumed):
        trainer.learn(make_sample(1, tiny, families), lambda update: None)
    assert (resumed.updates, resumed.samples) == (straight.updates, straight.samples)
    pairs = zip(
        (*straight.network.state_dict().values(), *straight.average.state_dict().values()),
        (*resumed.network.state_dict().values(), *resumed.average.state_dict().values()),
        strict=True,
    )
    assert all(torch.equal(left, right) for left, right in pairs)
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoint.pt"]


def test_checkpoint_of_another_architecture_is_refused_by_what_differs(tiny, tmp_path):
    Trainer(replace(tiny, architecture="pfitre-m"), CPU).save(tmp_path / "checkpoint.pt")
    with pytest.raises(InputError, match="another architecture"):
        Trainer(tiny, CPU).resume(tmp_path / "checkpoint.pt")


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 cut short", b"no checkpoint at all"])
def test_file_that_is_no_checkpoint_is_refused(tiny, tmp_path, content):
    path = tmp_path / "checkpoint.pt"
    path.write_bytes(content)
    with pytest.raises(InputError, match="checkpoint of `pfitre train`"):
        Trainer(tiny, CPU).resume(path)


def test_checkpoint_that_lacks_a_part_is_refused(tiny, tmp_path):
    path = tmp_path / "checkpoint.pt"
    trainer = Trainer(tiny, CPU)
    torch.save({"network": trainer.network.state_dict(), "updates": 3}, path)
    with pytest.raises(InputError, match="average, optimiser, samples, seconds"):
        trainer.resume(path)


def test_loss_that_is_not_finite_ends_the_training_before_it_reaches_the_weights(tiny, families):
    trainer = Trainer(tiny, CPU)
    sample = make_sample(0, tiny, families)
    broken = replace(sample, truth=sample.truth * float("inf"))
    with pytest.raises(PfitreError, match="diverged at update 1"):
        trainer.learn(broken, lambda update: None)
    assert all(bool(value.isfinite().all()) for value in trainer.network.parameters())
    assert not trainer.whole


def test_accumulators_on_a_device_stay_the_same_ones(tiny, families):
    data = make_sample(0, tiny, families).data
    assert on_device(data, CPU) is data
    moved = on_device(data, torch.device("meta"))
    assert moved.b.device.type == "meta"
    assert moved.angles == data.angles


def test_every_own_architecture_can_be_trained(families):
    """The real networks, one sample each."""
    for architecture in ("pfitre-s", "pfitre-m"):
        recipe = replace(Recipe.smoke(architecture=architecture), sizes=((32, 1.0),), pixels=4 * 32**2, known=0.0)
        trainer = Trainer(recipe, CPU)
        trainer.learn(make_sample(0, recipe, families), lambda update: None)
        assert trainer.updates == 2
