"""A whole training: deterministic, resumed exactly, told of in files, and ending in weights that load by name."""

from __future__ import annotations

import json
import os
import signal
import threading
from dataclasses import replace

import pytest
import torch

from pfitre_service.errors import InputError, SettingsError
from pfitre_service.prior import registry
from pfitre_service.prior.architectures import build, load_network
from pfitre_service.training.command import choose_device, run_train
from pfitre_service.training.loop import Update
from pfitre_service.training.run import train
from pfitre_service.training.stopping import stop_on_signals
from pfitre_service.training.validation import WEDGES, Validation

pytestmark = pytest.mark.slow


@pytest.fixture(autouse=True)
def packaged(monkeypatch, tmp_path):
    """The package's folder is empty, so that tests do not hang on what ships."""
    folder = tmp_path / "package"
    folder.mkdir()
    monkeypatch.setattr(registry, "PACKAGE_FOLDER", folder)
    return folder


@pytest.fixture
def run(tmp_path, families, held_back):
    """Trains into a folder of that name under tmp_path."""

    def run(recipe, folder, **how):
        return train(recipe, tmp_path / folder, families=families, held_back=held_back, **how)

    return run


def after_samples(count: int):
    """Stops a training once it has learnt so many samples more."""
    asked = 0

    def should_stop() -> bool:
        nonlocal asked
        asked += 1
        return asked > count

    return should_stop


def state(folder) -> dict:
    return torch.load(folder / "checkpoint.pt", weights_only=True)


def same_weights(one, other) -> bool:
    left, right = state(one), state(other)
    return all(
        torch.equal(value, right[part][name]) for part in ("network", "average") for name, value in left[part].items()
    )


def lines(path) -> list[dict]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_another_process_beside_makes_the_same_weights_and_another_seed_others(tiny, run, straight):
    again, other = run(tiny, "again", workers=1), run(replace(tiny, seed=1), "other")
    assert same_weights(straight.result.folder, again.folder)
    assert not same_weights(straight.result.folder, other.folder)
    assert [each.rounds for each in straight.result.validations] == [each.rounds for each in again.validations]


def test_resumed_training_is_the_one_that_was_not_stopped(tiny, run, straight):
    straight = straight.result
    stopped = run(tiny, "stopped", should_stop=after_samples(2))
    assert stopped.weights is None
    assert stopped.updates < tiny.updates
    resumed = run(tiny, "stopped", resume=True)
    assert same_weights(straight.folder, resumed.folder)
    assert (resumed.updates, resumed.samples) == (straight.updates, straight.samples)
    assert lines(resumed.folder / "log.jsonl") == lines(straight.folder / "log.jsonl")
    assert [each.rounds for each in resumed.validations] == [each.rounds for each in straight.validations]


def test_training_that_died_between_checkpoints_loses_only_what_came_after(tiny, run, straight):
    def die(event):
        if isinstance(event, Update) and event.sample == 2:
            raise KeyboardInterrupt

    straight = straight.result
    with pytest.raises(KeyboardInterrupt):
        run(tiny, "died", on_progress=die, checkpoint_every_s=0.0)
    resumed = run(tiny, "died", resume=True)
    assert same_weights(straight.folder, resumed.folder)
    assert lines(resumed.folder / "log.jsonl") == lines(straight.folder / "log.jsonl")


def test_another_recipe_is_refused_by_what_differs(tiny, run):
    run(tiny, "run", should_stop=after_samples(1))
    with pytest.raises(InputError, match=r"learning_rate: 0\.0012 there, 0\.5 asked for"):
        run(replace(tiny, learning_rate=0.5), "run", resume=True)


def test_other_families_are_refused(tiny, run, tmp_path, held_back):
    run(tiny, "run", should_stop=after_samples(1))
    with pytest.raises(InputError, match="families"):
        train(tiny, tmp_path / "run", families=("fibres",), held_back=held_back, resume=True)


def test_families_that_are_learnt_from_cannot_validate(tiny, tmp_path):
    for families, held_back in ((("porous",), ("porous",)), ((), ("cell",)), (("porous",), ())):
        with pytest.raises(SettingsError, match="held back"):
            train(tiny, tmp_path / "run", families=families, held_back=held_back)


def test_training_is_not_overwritten_and_nothing_is_not_resumed(tiny, run):
    run(tiny, "run", should_stop=after_samples(1))
    with pytest.raises(SettingsError, match="--resume"):
        run(tiny, "run")
    with pytest.raises(SettingsError, match="no training"):
        run(tiny, "empty", resume=True)


def test_auto_precision_stays_what_it_was_when_resumed(tiny, run, tmp_path):
    run(tiny, "run", should_stop=after_samples(1))  # in float32
    resumed = run(replace(tiny, precision="auto"), "run", resume=True)
    assert json.loads((resumed.folder / "recipe.json").read_text())["recipe"]["precision"] == "float32"


def test_name_of_packaged_weights_is_refused_before_the_first_update(tiny, run, packaged):
    info = registry.save(
        build("pfitre-s").state_dict(), packaged / "best.safetensors", architecture="pfitre-s", recipe={}
    )
    registry.register(info, packaged, "best")
    with pytest.raises(SettingsError, match="choose another name"):
        run(tiny, "run", name="best")


def test_log_and_validations_tell_of_every_update(tiny, straight):
    events, result = straight.events, straight.result
    updates = [event for event in events if isinstance(event, Update)]
    assert [line["update"] for line in lines(result.folder / "log.jsonl")] == [update.number for update in updates]
    validations = lines(result.folder / "validation.jsonl")
    assert [event.updates for event in events if isinstance(event, Validation)] == [
        each["updates"] for each in validations
    ]
    assert validations[0]["updates"] >= tiny.validate_every
    assert validations[-1]["updates"] == result.updates
    assert validations[0]["best"] is True
    assert all(len(each[kind]) == len(WEDGES) for each in validations for kind in ("physics", "one_pass", "rounds"))


def test_validation_of_the_data_alone_does_not_hang_on_the_network(straight):
    first, second = straight.result.validations[:2]
    assert first.physics == second.physics
    assert list(first.physics) == sorted(first.physics, reverse=True)  # the wider the wedge, the worse
    assert first.rounds != second.rounds


def test_smoke_training_ends_in_weights_that_load_with_card_and_manifest(tmp_path, capsys):
    folder = tmp_path / "smoke"
    summary = run_train(folder, smoke=True, workers=1, device="cpu")
    assert summary["finished"]
    assert json.loads(json.dumps(summary)) == summary
    name = summary["weights"]["name"]
    loaded = load_network(name, folder=folder)
    average = state(folder)["average"]
    log = lines(folder / "log.jsonl")
    assert {line["stage"] for line in log} == {1, 2}
    most = {1: 2, 2: 3}  # rounds of the smoke recipe in each stage; one more is on what is right already
    assert any(line["round"] == most[line["stage"]] for line in log)
    assert len(lines(folder / "validation.jsonl")) >= 2
    assert loaded.info.sha256 == summary["weights"]["sha256"]
    for key, value in loaded.network.state_dict().items():
        assert torch.allclose(value, average[key], atol=1e-3)
    assert all(each.ok for each in registry.check(folder, build=build))
    card = loaded.info.card.read_text()
    for expected in (
        f"# {name}",
        "pfitre-s",
        "Limits",
        "of no use but for tests",
        "dead leaves",
        "| 100° |",
        "| seed | 0 |",
    ):
        assert expected in card
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "validation at update" in captured.err
    assert name in captured.err


@pytest.mark.parametrize("signals", [1, 2])
def test_first_signal_asks_and_the_second_interrupts(signals, caplog):
    before = signal.getsignal(signal.SIGINT)
    try:
        with stop_on_signals() as asked:
            for _ in range(signals):
                os.kill(os.getpid(), signal.SIGINT)
            assert asked.is_set()
            assert signals == 1
    except KeyboardInterrupt:
        assert signals == 2
    assert signal.getsignal(signal.SIGINT) is before
    assert "stopping after this sample" in caplog.text


def test_other_threads_leave_signals_alone():
    before, inside = signal.getsignal(signal.SIGINT), []

    def work() -> None:
        with stop_on_signals():
            inside.append(signal.getsignal(signal.SIGINT))

    thread = threading.Thread(target=work, name="no-signals")
    thread.start()
    thread.join(10)
    assert inside == [before]


def test_device_that_is_not_there_is_refused():
    with pytest.raises(SettingsError, match="--device"):
        choose_device("cuda:99")
    with pytest.raises(SettingsError, match="--device"):
        choose_device("abacus")
