"""The expected error of each voxel, |x - truth|, as the digital twin has calibrated it (decision 36).

A network of one hidden layer reads the logarithm of the expected error from seven features of a voxel and its
neighbourhood (`evidence.FEATURES`). It was fitted so that e^output is the mean of |x - truth| among voxels alike: the
minimum of E[log s + |e| / s] over s is s = E|e|. `pfitre bench expected-error --fit` makes its coefficients, and
`pfitre bench expected-error` says how far they hold on kinds of objects that the fit never saw.
"""

from __future__ import annotations

import functools
import json
from dataclasses import dataclass
from importlib import resources
from typing import Any

import torch
from torch import Tensor

from pfitre_service.errors import InputError
from pfitre_service.recon.quality.evidence import FEATURES, Evidence

_FILE = "error_model.json"
_SLAB = 1 << 18
"""Voxels computed at once: sixteen hidden values each stay in a few MB."""


@dataclass(frozen=True, eq=False)
class ErrorModel:
    """Coefficients; all float32 on the CPU."""

    mean: Tensor
    """(features,): of the voxels that it was fitted on."""
    deviation: Tensor
    """(features,): standard deviations over the same voxels."""
    hidden: Tensor
    """(units, features + 1): weights and, last, the bias."""
    output: Tensor
    """(units + 1,): the same."""
    ranges: dict[str, tuple[float, float]]
    """Of each feature's mean over a tomogram of the fit, widened by a tenth to either side."""
    about: dict[str, Any]
    """What it was fitted on."""

    @classmethod
    def from_document(cls, document: dict[str, Any]) -> ErrorModel:
        """Reads what `document` has written.

        Parameters
        ----------
        document
            From a JSON file.

        Returns
        -------
        ErrorModel
            The model.

        Raises
        ------
        InputError
            It was made for other features.
        """
        if tuple(document["features"]) != FEATURES:
            raise InputError(f"the error model reads {document['features']}; this version has {list(FEATURES)}")
        numbers = {name: torch.tensor(document[name], dtype=torch.float32) for name in _NUMBERS}
        ranges = {name: (float(low), float(high)) for name, (low, high) in document["ranges"].items()}
        return cls(**numbers, ranges=ranges, about=document["about"])

    def document(self) -> dict[str, Any]:
        """The model as a JSON file has it; `from_document` reads it back."""
        numbers = {name: getattr(self, name).double().round(decimals=5).tolist() for name in _NUMBERS}
        ranges = {name: [round(low, 4), round(high, 4)] for name, (low, high) in self.ranges.items()}
        return {"features": list(FEATURES), **numbers, "ranges": ranges, "about": self.about}

    def expected(self, evidence: Evidence, missing: float) -> tuple[Tensor, tuple[str, ...]]:
        """The error to be expected of each voxel.

        Parameters
        ----------
        evidence
            Result and what speaks for it.
        missing
            Share of the spatial frequencies that no angle measured, see `evidence.missing_share`.

        Returns
        -------
        tuple[Tensor, tuple[str, ...]]
            (slices, size, size) float32 in the unit of x; and the features whose mean lies outside of all tomograms of
            the fit: there the model is a guess.
        """
        features = evidence.features(missing).flatten(1)
        error = (self.logarithm(features).exp() * evidence.scale).reshape(evidence.x.shape)
        means = dict(zip(FEATURES, features.mean(1).tolist(), strict=True))
        outside = (name for name, (low, high) in self.ranges.items() if not low <= means[name] <= high)
        return error, tuple(outside)

    def logarithm(self, features: Tensor) -> Tensor:
        """Logarithm of the expected error in units of the tomogram's scale of values.

        Parameters
        ----------
        features
            (features, voxels) float32.

        Returns
        -------
        Tensor
            (voxels,) float32.
        """
        device = features.device
        mean, deviation = self.mean.to(device)[:, None], self.deviation.to(device)[:, None]
        hidden, output = self.hidden.to(device), self.output.to(device)
        parts = []
        for part in torch.split(features, _SLAB, dim=1):
            units = torch.tanh(hidden[:, :-1] @ ((part - mean) / deviation) + hidden[:, -1:])
            parts.append(output[:-1] @ units + output[-1])
        return torch.cat(parts)


_NUMBERS = ("mean", "deviation", "hidden", "output")


@functools.cache
def shipped_error_model() -> ErrorModel:
    """The one that comes with the package."""
    text = resources.files("pfitre_service.recon.quality").joinpath(_FILE).read_text(encoding="utf-8")
    return ErrorModel.from_document(json.loads(text))
