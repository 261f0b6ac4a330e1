"""How a network is trained: everything that the result depends on, besides the code and the machine."""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass, fields, replace
from typing import Any, Literal, get_args

import torch

from pfitre_service.errors import SettingsError
from pfitre_service.prior.network_prior import computes_in_bfloat16

Precision = Literal["auto", "bfloat16", "float32"]

SIZES = ((64, 1.0), (96, 3.0), (128, 4.0), (160, 2.0), (192, 1.0), (256, 0.5))
_SMALLEST_SIZE = 16


@dataclass(frozen=True)
class Recipe:
    """The same recipe on the same machine, with the same number of threads, gives the same weights.

    Raises
    ------
    SettingsError
        A value lies outside of what it can be.
    """

    architecture: str = "pfitre-s"
    """One of `prior.registry.ARCHITECTURES`."""
    begin_with: str | None = None
    """Name of weights to begin with; random ones if None."""
    updates: int = 9_000
    """Steps of the optimiser; several are made on each sample, one a round."""
    stage_one: float = 0.12
    """Share of the updates on first reconstructions (and what one data step makes of the first answer); after that
    samples go through more rounds of the solver."""
    lessons: int = 2
    """How often each sample is learnt from, some samples apart: to make one costs more than an update."""
    rounds: int = 4
    """Rounds of the solver on one sample at the most, in stage two."""
    learning_rate: float = 1.2e-3
    """At its highest."""
    warm_up: int = 200
    """Updates over which the learning rate rises."""
    decay: float = 0.3
    """Share of the updates over which it falls to zero at the end."""
    weight_decay: float = 1e-3
    """Share of a weight that is taken away at each step, over the learning rate."""
    average: float = 0.998
    """Share of the running average of the weights that is kept at each update; the average is what is shipped."""
    from_total_variation: float = 0.6
    """Share of samples whose first iterate is what a data step makes of total variation's answer, as in service; the
    others begin at the data alone."""
    known: float = 0.1
    """Share of samples with a further round on an iterate that is right already, which the network should leave."""
    sizes: tuple[tuple[int, float], ...] = SIZES
    """Slice sizes and how often they are drawn, relative to one another."""
    pixels: int = 16 * 128**2
    """Pixels of one sample, about: smaller slices come in larger numbers."""
    seed: int = 0
    """Of weights and samples."""
    precision: Precision = "auto"
    """Of the convolutions; weights and loss stay float32. `auto`: bfloat16 where the device computes with it."""
    validate_every: int = 1_000
    """Updates between two validations."""
    validation_size: int = 96
    """Width of the slices they are made on."""
    validation_objects: int = 3
    """How many objects they are made on, each at every wedge."""

    def __post_init__(self) -> None:
        for name in ("updates", "warm_up", "pixels", "lessons", "validate_every", "validation_objects"):
            _require(name, getattr(self, name), "1 or more", getattr(self, name) >= 1)
        for name in ("stage_one", "decay", "average", "known", "from_total_variation"):
            _require(name, getattr(self, name), "from 0 to 1", 0 <= getattr(self, name) <= 1)
        _require("rounds", self.rounds, "2 or more", self.rounds >= 2)
        _require("seed", self.seed, "0 or more", self.seed >= 0)
        good_rate = math.isfinite(self.learning_rate) and self.learning_rate > 0
        _require("learning_rate", self.learning_rate, "a positive number", good_rate)
        _require("weight_decay", self.weight_decay, "0 or more", self.weight_decay >= 0)
        good_size = self.validation_size >= _SMALLEST_SIZE
        _require("validation_size", self.validation_size, f"{_SMALLEST_SIZE} pixels or more", good_size)
        good_sizes = bool(self.sizes) and all(size >= _SMALLEST_SIZE and often > 0 for size, often in self.sizes)
        _require("sizes", self.sizes, f"pairs of a width from {_SMALLEST_SIZE} and a frequency above 0", good_sizes)
        _require("precision", self.precision, f"one of {get_args(Precision)}", self.precision in get_args(Precision))

    @classmethod
    def smoke(cls, *, architecture: str = "pfitre-s", updates: int = 12, seed: int = 0) -> Recipe:
        """Every part of a training in seconds: both stages, known iterates, validations. The weights are of no use.

        Parameters
        ----------
        architecture
            One of `prior.registry.ARCHITECTURES`.
        updates
            Steps of the optimiser.
        seed
            Of weights and samples.

        Returns
        -------
        Recipe
            A small one.
        """
        return cls(
            architecture=architecture,
            updates=updates,
            stage_one=0.4,
            rounds=3,
            warm_up=4,
            known=1.0,
            sizes=((32, 3.0), (48, 1.0)),
            pixels=8 * 32**2,
            seed=seed,
            validate_every=6,
            validation_size=32,
            validation_objects=1,
        )

    @classmethod
    def gpu(cls, *, architecture: str = "pfitre-m", updates: int = 20_000, seed: int = 0) -> Recipe:
        """Larger samples, larger slices and more updates, for a GPU beside some sixteen cores that make the samples.

        It has not been run: sizes and rates are estimates from the recipe for two CPU cores.

        Parameters
        ----------
        architecture
            One of `prior.registry.ARCHITECTURES`.
        updates
            Steps of the optimiser.
        seed
            Of weights and samples.

        Returns
        -------
        Recipe
            A large one.
        """
        return cls(
            architecture=architecture,
            updates=updates,
            average=0.999,
            warm_up=500,
            sizes=((64, 0.5), (96, 2.0), (128, 4.0), (192, 3.0), (256, 2.0), (320, 1.0)),
            pixels=48 * 128**2,
            seed=seed,
        )

    def rate(self, update: int) -> float:
        """Learning rate of an update: it rises, stays, and falls in a straight line.

        Parameters
        ----------
        update
            From 0.

        Returns
        -------
        float
            The rate.
        """
        begin = self.updates * (1 - self.decay)
        falling = 1.0 if update < begin else max(0.0, (self.updates - update) / (self.updates - begin))
        return self.learning_rate * min(1.0, (update + 1) / self.warm_up) * falling

    def stage(self, update: int) -> int:
        """Stage of the training at an update.

        Parameters
        ----------
        update
            From 0.

        Returns
        -------
        int
            1 on first reconstructions, 2 on the solver's iterates.
        """
        return 1 if update < self.stage_one * self.updates else 2

    def on(self, device: torch.device) -> Recipe:
        """The recipe with the precision that `auto` means on that device.

        Parameters
        ----------
        device
            Of the training.

        Returns
        -------
        Recipe
            The precision is bfloat16 or float32.
        """
        if self.precision != "auto":
            return self
        return replace(self, precision="bfloat16" if computes_in_bfloat16(device) else "float32")

    def as_json(self) -> dict[str, Any]:
        """As `recipe.json` holds it: lists where the fields are tuples."""
        document: dict[str, Any] = json.loads(json.dumps(asdict(self)))
        return document

    def changes(self) -> dict[str, Any]:
        """The fields that are not the defaults."""
        return {
            each.name: getattr(self, each.name) for each in fields(self) if getattr(self, each.name) != each.default
        }


def _require(name: str, value: object, wanted: str, good: bool) -> None:
    if not good:
        raise SettingsError(f"a training recipe needs {name} to be {wanted}; got {value!r}")
