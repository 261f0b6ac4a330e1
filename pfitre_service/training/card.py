"""The model card: what weights were trained on, how, what they are worth, and what they are not good for."""

from __future__ import annotations

import os
import platform
import textwrap
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from pfitre_service.software import signature
from pfitre_service.training.folder import Plan
from pfitre_service.training.samples import DEPTH, IMPERFECTIONS, OVERSAMPLING, TRAJECTORIES
from pfitre_service.training.validation import ANGLE_STEP, COUNTS, WEDGES, Validation

_WIDTH = 120


@dataclass(frozen=True)
class Machine:
    """What the training ran on, as far as its result and its time depend on it."""

    device: str
    """Torch device, and its name."""
    threads: int
    """Of torch."""
    cores: int
    """Of the machine."""
    system: str
    """Operating system and processor."""
    software: str
    """Versions of this package, torch and Python."""

    @classmethod
    def from_device(cls, device: torch.device) -> Machine:
        """This machine.

        Parameters
        ----------
        device
            That the training ran on.

        Returns
        -------
        Machine
            As it is now.
        """
        name = torch.cuda.get_device_name(device) if device.type == "cuda" else _cpu_name()
        return cls(
            device=f"{device} ({name})",
            threads=torch.get_num_threads(),
            cores=os.cpu_count() or 1,
            system=f"{platform.system()} {platform.machine()}",
            software=f"{signature()}, torch {torch.__version__}, Python {platform.python_version()}",
        )


@dataclass(frozen=True)
class Facts:
    """What a card is written from."""

    name: str
    """Of the weights."""
    plan: Plan
    """What the training was."""
    machine: Machine
    """What it ran on."""
    parameters: int
    """Of the network."""
    updates: int
    """That were made."""
    samples: int
    """Lessons that were learnt."""
    seconds: float
    """Spent on updates."""
    validations: Sequence[Validation]
    """Oldest first."""


def write_card(facts: Facts) -> str:
    """The card of some weights.

    Parameters
    ----------
    facts
        What it is written from.

    Returns
    -------
    str
        Markdown.
    """
    recipe = facts.plan.recipe
    finished = "" if facts.updates >= recipe.updates else f" of {recipe.updates}: **the training was not finished**"
    sections = (
        f"# {facts.name}",
        _flow(
            f"Weights of the prior `{recipe.architecture}` ({facts.parameters / 1e6:.2f} million parameters) for "
            "limited-angle tomography. The network fills in what the missing angles leave open; the solver holds its "
            "answer against the measured data in every iteration. Trained on simulated data alone."
        ),
        "## Training",
        _table(
            ("", ""),
            (
                ("updates", f"{facts.updates}{finished}"),
                ("samples", facts.samples),
                ("seed", recipe.seed),
                ("time", f"{_duration(facts.seconds)} of updates; the making of samples not counted"),
                ("device", facts.machine.device),
                ("threads, cores", f"{facts.machine.threads}, {facts.machine.cores}"),
                ("system", facts.machine.system),
                ("software", facts.machine.software),
            ),
        ),
        _LOSS,
        "## Recipe",
        _table(("field", "value"), recipe.as_json().items()),
        "## Data",
        _data(facts.plan),
        _table(("imperfection", "value"), asdict(IMPERFECTIONS).items()),
        _table(("trajectory", "value"), asdict(TRAJECTORIES).items()),
        "## Validation",
        _validation(facts),
        "## Limits",
        _limits(facts),
        "## How to reproduce",
        _reproduce(facts.plan),
    )
    return "\n\n".join(sections) + "\n"


_LOSS = """\
Loss, mean over slices, with e = network - truth over the tomogram's scale and M the measured share of each frequency:

    rmse(e) + l1(e) / 2 + 2 rmse((1 - M) e)

Each sample goes through several rounds of the solver: the network learns from first reconstructions, and then from the
iterates that it has brought about itself. The weights are the running average of those of all updates."""


def _data(plan: Plan) -> str:
    sizes = ", ".join(str(size) for size, _ in plan.recipe.sizes)
    return _flow(
        f"Families of simulated objects: {_names(plan.families)}. Each object is drawn {OVERSAMPLING} times finer than "
        f"the slices, {DEPTH} slices of it are projected, spoilt, and reconstructed by the solver. Slices of {sizes} "
        "pixels. Imperfections and trajectories of the scans are drawn anew for each sample, within:"
    )


def _validation(facts: Facts) -> str:
    recipe = facts.plan.recipe
    text = _flow(
        f"On families that were held back from training: {_names(facts.plan.held_back)}. Mean PSNR in dB against the "
        f"truth, whose largest value is the peak, over {recipe.validation_objects} objects of {DEPTH} slices, "
        f"{recipe.validation_size} pixels wide, one angle every {ANGLE_STEP:g} degrees, {COUNTS:g} counts at the "
        "brightest pixel. The solver goes "
        "on until it rests."
    )
    if not facts.validations:
        return f"{text}\n\nNo validation was made."
    last, best = facts.validations[-1], max(facts.validations, key=lambda each: each.score)
    rows = zip((f"{missing:g}°" for missing in WEDGES), last.physics, last.one_pass, last.rounds, strict=True)
    table = _table(
        ("missing", "data alone", "one pass of the network", "solver with the network"),
        ([wedge, *(f"{value:.2f}" for value in figures)] for wedge, *figures in rows),
    )
    summary = (
        f"These are of update {last.updates}, mean {last.score:.2f} dB; the best of "
        f"{len(facts.validations)} validations was {best.score:.2f} dB, at update {best.updates}."
    )
    return f"{text}\n\n{table}\n\n{_flow(summary)}"


def _limits(facts: Facts) -> str:
    widest = max(size for size, _ in facts.plan.recipe.sizes)
    items = [
        "What lies in the missing wedge is inferred, not measured: a likely answer, never evidence. Look at the maps "
        "of the expected error and at the held-out error before believing detail.",
        "Trained on simulated objects alone. Samples unlike all of its families may come out worse than with total "
        "variation; the service watches the held-out error, turns the prior down, and falls back.",
        f"Trained on slices up to {widest} pixels wide; wider ones have longer artefacts than any it saw.",
        "Parallel beam only. Phase contrast, local tomography far inside the sample, and movement were not simulated.",
        f"The validation above is small ({facts.plan.recipe.validation_objects} objects a wedge): it guides a "
        "training, it does not compare methods.",
    ]
    if facts.updates < 1000:
        items.insert(0, f"**Trained for {facts.updates} updates: of no use but for tests.**")
    return "\n".join(textwrap.fill(item, _WIDTH, initial_indent="- ", subsequent_indent="  ") for item in items)


def _reproduce(plan: Plan) -> str:
    changes = ", ".join(f"{name}={value!r}" for name, value in plan.recipe.changes().items())
    return f"""\
    from pathlib import Path
    from pfitre_service.training.recipe import Recipe
    from pfitre_service.training.run import train

    train(Recipe({changes}), Path("training"),
          families={plan.families!r}, held_back={plan.held_back!r})

The same code on the same kind of machine with the same number of threads gives the same weights, bit for bit, whatever
the number of workers; other machines, and GPUs from run to run, differ in the last digits."""


def _table(head: tuple[str, ...], rows: Iterable[Iterable[Any]]) -> str:
    lines = (head, ("---",) * len(head), *rows)
    return "\n".join(f"| {' | '.join(_cell(value) for value in line)} |" for line in lines)


def _cell(value: Any) -> str:
    if isinstance(value, list | tuple):
        return ", ".join(f"({_cell(each)})" if isinstance(each, list | tuple) else _cell(each) for each in value)
    return f"{value:g}" if isinstance(value, float) else str(value)


def _flow(text: str) -> str:
    return textwrap.fill(text, _WIDTH, break_on_hyphens=False)


def _names(families: Iterable[str]) -> str:
    return ", ".join(family.replace("_", " ") for family in families)


def _duration(seconds: float) -> str:
    hours, minutes = divmod(round(seconds / 60), 60)
    return f"{hours} h {minutes} min" if hours or minutes else f"{seconds:.0f} s"


def _cpu_name() -> str:
    try:
        with Path("/proc/cpuinfo").open() as file:
            return next(line.partition(":")[2].strip() for line in file if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()
