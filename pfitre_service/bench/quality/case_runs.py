"""One case of the quality benchmark from beginning to end, and the cases spread over processes."""

from __future__ import annotations

import pickle
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from multiprocessing import get_context
from typing import TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pfitre_service.bench.quality.cases import Case, Family, simulate
from pfitre_service.bench.quality.methods import (
    Tuned,
    filtered_backprojection,
    heldout,
    load_network,
    one_pass,
    served,
    tuned_total_variation,
)
from pfitre_service.bench.quality.parameters import METHODS, QualityParameters
from pfitre_service.errors import InputError
from pfitre_service.prior.network_prior import NetworkPrior
from pfitre_service.recon.operators.explicit import sirt
from pfitre_service.recon.quality.similarity import psnr, ssim

Picture = NDArray[np.float32]
Result = TypeVar("Result")


@dataclass(frozen=True, eq=False)
class CaseResult:
    """Figures of every method on one case."""

    case: Case
    psnr: dict[str, list[float]]
    """By method: decibels of each slice; NaN where the truth is empty."""
    ssim: dict[str, list[float]]
    tv_weights: tuple[float, float]
    """Those that are best in PSNR and in SSIM."""
    tv_at_edge: bool
    """Whether one of them lies on the edge of what was tried: total variation might do better still."""
    seconds: dict[str, float]
    """By method."""
    pictures: dict[str, Picture]
    """By method, and `truth`: the middle slice, (size, size)."""


def run_case(case: Case, family: Family, parameters: QualityParameters) -> CaseResult:
    """Every method of `METHODS` on one case."""
    measurement, truth = simulate(case, family, parameters)
    network, info = load_network(parameters.weights, parameters.weights_folder)
    data = measurement.accumulated()
    held = heldout(len(measurement.angles))
    solved, watched = measurement.only(~held).accumulated(), measurement.only(held).accumulated()
    tuned: list[Tuned] = []

    def best_tv() -> Tensor:
        figures = (lambda x: _mean(psnr(_physical(x), truth)), lambda x: _mean(ssim(_physical(x), truth)))
        tuned.append(tuned_total_variation(data, figures, parameters.tv_iterations))
        return tuned[0].pictures[0]

    methods: dict[str, Callable[[], Tensor]] = {
        "fbp": lambda: filtered_backprojection(measurement, data),
        "sirt": lambda: sirt(*measurement.views, measurement.geometry, iterations=parameters.sirt_iterations),
        "tv": best_tv,
        "tv_served": lambda: served(solved, watched, None, parameters.admm),
        "one_pass": lambda: one_pass(solved, watched, NetworkPrior(network, info.name), parameters.admm),
        "pfitre": lambda: served(solved, watched, NetworkPrior(network, info.name), parameters.admm),
    }
    pictures, seconds = {}, {}
    for name, method in methods.items():
        begin = time.perf_counter()
        pictures[name] = method()
        seconds[name] = time.perf_counter() - begin
        # A figure that is not a number marks an empty slice: a picture that blew up must not pass for one.
        if not bool(torch.isfinite(pictures[name]).all()):
            raise InputError(
                f"{METHODS[name]} gave values that are not finite on {case}: its figures would mean nothing"
            )
    best, trials = tuned[0].pictures, tuned[0].trials
    middle = len(truth) // 2
    return CaseResult(
        case=case,
        psnr={name: psnr(_physical(picture), truth).tolist() for name, picture in pictures.items()},
        ssim={name: ssim(_physical(picture), truth).tolist() for name, picture in (pictures | {"tv": best[1]}).items()},
        tv_weights=(trials.weight(trials.best(0)), trials.weight(trials.best(1))),
        tv_at_edge=trials.at_edge(0) or trials.at_edge(1),
        seconds=seconds,
        pictures={name: picture[middle].numpy() for name, picture in (pictures | {"truth": truth}).items()},
    )


def spread(calls: Sequence[Callable[[], Result]], jobs: int) -> Iterator[tuple[int, Result]]:
    """Place and result of each call as it is done; in this process, or in `jobs` others with a thread each, to which
    the calls must be able to travel. The first error ends all."""
    if jobs == 1:
        yield from ((place, call()) for place, call in enumerate(calls))
        return
    pickle.dumps(list(calls))  # what cannot travel must fail here: inside the pool it would make its shutdown hang
    with ProcessPoolExecutor(jobs, mp_context=get_context("spawn"), initializer=_set_up) as pool:
        places = {pool.submit(call): place for place, call in enumerate(calls)}
        try:
            for done in as_completed(places):
                yield places[done], done.result()
        finally:
            pool.shutdown(cancel_futures=True)


def _set_up() -> None:
    torch.set_num_threads(1)
    torch.set_flush_denormal(True)  # a CPU takes a hundred times longer over numbers next to zero


def _physical(picture: Tensor) -> Tensor:
    """As every method is judged: attenuation cannot be negative, and a person would set it to 0."""
    return picture.clamp_min(0)


def _mean(figures: Tensor) -> float:
    """Over the slices that have one."""
    return float(figures.nanmean())
