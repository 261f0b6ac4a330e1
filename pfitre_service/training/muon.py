"""Muon: steps of equal size in all directions for the convolutions, AdamW for everything else.

    m <- mu m + g                          g: gradient of a kernel, (out, in * height * width)
    W <- W - rate * 0.2 sqrt(max(rows, columns)) * orthogonal(g + mu m)

orthogonal(M) is U V^T of M = U S V^T, approached by Newton-Schulz iterations. Jordan et al. 2024 ("Muon: an optimizer
for hidden layers in neural networks"); the factor, which makes its steps as large as AdamW's, is from Liu et al. 2025
(arXiv 2502.16982). A few thousand updates are all that two cores make: with Muon they go further than with AdamW.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

_MOMENTUM = 0.95
_BETAS = (0.9, 0.98)
_EPSILON = 1e-8
_ITERATIONS = 5
_NEWTON_SCHULZ = (3.4445, -4.7750, 2.0315)
"""Coefficients of the quintic whose iterates pull every singular value towards one, from Jordan et al."""


class Muon(torch.optim.Optimizer):
    """Kernels of convolutions are orthogonalised; biases and linear layers take AdamW's steps. Set `lr` of each group
    before a step.

    Parameters
    ----------
    network
        Whose parameters are optimised.
    weight_decay
        Share of a weight that is taken away at each step, over the learning rate.
    """

    def __init__(self, network: nn.Module, *, weight_decay: float) -> None:
        kernels = [parameter for parameter in network.parameters() if parameter.ndim == 4]
        others = [parameter for parameter in network.parameters() if parameter.ndim != 4]
        groups = [{"params": kernels, "orthogonal": True}, {"params": others, "orthogonal": False}]
        super().__init__(groups, {"lr": 0.0, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        """One step on the gradients as they are.

        Parameters
        ----------
        closure
            Not used.
        """
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is None:
                    continue
                parameter.mul_(1 - group["lr"] * group["weight_decay"])
                state = self.state[parameter]
                direction = _orthogonal_step if group["orthogonal"] else _adam_step
                parameter.add_(direction(parameter.grad, state), alpha=-group["lr"])


def orthogonal(matrix: Tensor) -> Tensor:
    """About U V^T of a matrix U S V^T, by Newton-Schulz iterations: its singular values end between 0.7 and 1.2.

    Parameters
    ----------
    matrix
        (rows, columns).

    Returns
    -------
    Tensor
        (rows, columns).
    """
    wide = matrix if matrix.shape[0] <= matrix.shape[1] else matrix.T
    x = wide / (torch.linalg.matrix_norm(wide) + 1e-7)
    a, b, c = _NEWTON_SCHULZ
    for _ in range(_ITERATIONS):
        gram = x @ x.T
        x = a * x + (b * gram + c * gram @ gram) @ x
    return x if matrix.shape[0] <= matrix.shape[1] else x.T


def _orthogonal_step(gradient: Tensor, state: dict[str, Any]) -> Tensor:
    if not state:
        state["momentum"] = torch.zeros_like(gradient)
    momentum: Tensor = state["momentum"]
    momentum.mul_(_MOMENTUM).add_(gradient)
    ahead = gradient.add(momentum, alpha=_MOMENTUM).flatten(1)
    step = orthogonal(ahead) * (0.2 * math.sqrt(max(ahead.shape)))
    return step.view_as(gradient)


def _adam_step(gradient: Tensor, state: dict[str, Any]) -> Tensor:
    if not state:
        state["steps"] = 0
        state["mean"], state["square"] = torch.zeros_like(gradient), torch.zeros_like(gradient)
    state["steps"] += 1
    mean: Tensor = state["mean"].lerp_(gradient, 1 - _BETAS[0])
    square: Tensor = state["square"].lerp_(gradient.square(), 1 - _BETAS[1])
    unbiased = (1 - _BETAS[0] ** state["steps"], 1 - _BETAS[1] ** state["steps"])
    return (mean / unbiased[0]) / ((square / unbiased[1]).sqrt_() + _EPSILON)
